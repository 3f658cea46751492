/**
 * What the FUSE thread and the main thread of an engine say to each other.
 *
 * Always holds: the thread never waits for an answer; it goes on with other requests, and either the main thread writes the reply itself
 * or grants the request, which the thread then runs. The main thread posts a change of state before it writes the reply that lets the
 * kernel go on, and raises the POSTED counter after posting; the thread reads that counter after every read from the device, so a request
 * that the kernel sends because of a reply never meets the state from before it.
 */
import type { MessagePort } from "node:worker_threads";
import type { DatabaseRule } from "../core/config.ts";
import type { WalCommit } from "../core/mount-hooks.ts";
import type { AttributeChange } from "./backing.ts";
import { OPCODE_LIMIT } from "./opcodes.ts";

/** The shared counters, as 32-bit words. */
export const SHARED_POSTED = 0;
/** Raised at every open of a regular file: tells the main thread whether what it was told about opens still holds. */
export const SHARED_OPENS = 1;
/** What SHARED_POSTED was when the thread last took in what was posted. */
export const SHARED_SEEN = 2;
/** 1 from a read of the device to the next: while it is 0, whatever the thread reads next it meets with all that was posted. */
export const SHARED_BUSY = 3;
/** Requests that wait at the gate. */
export const SHARED_PARKED = 4;
/** Raised at every open of a `-wal` of which the kernel keeps pages, before the message that tells of it. */
export const SHARED_CACHED_OPENS = 5;
export const SHARED_REQUESTS = 16;
export const SHARED_WORDS = SHARED_REQUESTS + OPCODE_LIMIT;

export interface ThreadOptions {
  readonly fuseFd: number;
  readonly filesDir: string;
  readonly runDir: string;
  readonly resume: boolean;
  /** Process ids of the guardian and the engine. */
  readonly trusted: readonly number[];
  /** Int32Array of SHARED_WORDS. */
  readonly shared: SharedArrayBuffer;
  readonly inbox: MessagePort;
  /** Rules for databases, where any has durability sync; else empty. */
  readonly databases: readonly DatabaseRule[];
}

/** Requests whose reply the main thread writes. `path` is undefined for a file without a name, which `file` leads to. `opens` is SHARED_OPENS as it was when `open` was true or false. */
export interface DeferredSetattr { kind: "setattr"; unique: bigint; id: number; path: string | undefined; file: string; change: AttributeChange }
export interface DeferredUnlink { kind: "unlink"; unique: bigint; id: number; path: string; open: boolean; opens: number }
export interface DeferredRename { kind: "rename"; unique: bigint; id: number; path: string; to: string; toParent: number; toName: string; noReplace: boolean; replaced: { id: number; open: boolean } | undefined; opens: number }
export interface DeferredJournal { kind: "journal"; unique: bigint; id: number; path: string; header: Uint8Array | undefined }
export interface DeferredVirtualRead { kind: "virtual"; unique: bigint; handle: number; path: string; offset: number; size: number }
/** How a file is opened: all passes through; but for a `-wal`, of which no two opens may share a page cache; but for one whose writes are requests. */
export type OpenMode = "plain" | "wal" | "gated";
/** An open whose reply is complete but for the backing id: `reply` is the whole message, `at` the offset of its fuse_open_out. */
export interface DeferredOpen { kind: "open"; unique: bigint; id: number; path: string; slot: number; fd: number; reply: Uint8Array; at: number; mode: OpenMode; created: boolean }
/** A write that would complete a commit: done by the main thread through `fd`, or refused. `node`: the id by which it came. */
export interface DeferredCommit { kind: "commit"; unique: bigint; id: number; node: number; path: string; fd: number; commit: WalCommit }
/** One that an engine had done before it died, without a reply. */
export interface DeferredCommitAgain { kind: "commitAgain"; unique: bigint; id: number; node: number; fd: number; length: number }
/** A request that the thread runs once it is granted: creation on a follower, or the rename of a directory. */
export interface DeferredAsk { kind: "ask"; unique: bigint; key: number; path: string; to: string | undefined }

export type Deferred = DeferredCommit | DeferredCommitAgain | DeferredSetattr | DeferredUnlink | DeferredRename | DeferredJournal | DeferredVirtualRead | DeferredOpen | DeferredAsk;

export type ToMain =
  | Deferred
  /** `registered` are the backing ids by inode that an earlier engine left. */
  | { kind: "ready"; minor: number; registered: readonly (readonly [number, number])[] }
  | { kind: "ended" }
  /** A granted request was answered; `done` is false when it failed. */
  | { kind: "granted"; key: number; done: boolean }
  | { kind: "created"; path: string }
  /** A spare file became a rollback journal. */
  | { kind: "spareTaken"; path: string; id: number; backing: number; mode: number }
  | { kind: "rawWritten"; path: string }
  | { kind: "closed"; path: string }
  | { kind: "walSyncs"; path: string; count: number }
  | { kind: "cachedOpen"; id: number; node: number; isNew: boolean }
  /** The thread no longer uses this registration. */
  | { kind: "unregister"; id: number; backing: number }
  | { kind: "report"; message: string; error: { message: string; stack: string | undefined } };

/** An empty file, registered already, outside the files of the mount. */
export interface Spare {
  readonly file: string;
  readonly fd: number;
  readonly backing: number;
}

export type ToThread =
  | { kind: "role"; role: "primary" | "follower" }
  | { kind: "gate" }
  | { kind: "hide"; path: string }
  | { kind: "reveal"; path: string }
  | { kind: "virtualNames"; names: ReadonlySet<string> }
  /** The registration of an inode; NO_BACKING when the kernel refused it. */
  | { kind: "registered"; id: number; backing: number }
  /** `path` is the name that went: by now the inode number may already belong to a new file elsewhere. */
  | { kind: "unlinked"; id: number; path: string; aside: boolean }
  | { kind: "renamed"; id: number; to: string; toParent: number; toName: string; replaced: { id: number; aside: boolean } | undefined }
  /** The write of a commit was done, or refused. */
  | { kind: "committed"; id: number; done: boolean }
  /** A new file that waits to become a rollback journal; `fd` is the thread's from now on. */
  | ({ kind: "spare" } & Spare)
  | { kind: "grant"; key: number }
  | { kind: "refuse"; key: number }
  | { kind: "content"; handle: number; content: Uint8Array | undefined }
  | { kind: "stop" };

/** In place of a backing id: this inode is served by reads and writes through the thread. */
export const NO_BACKING = -1;
