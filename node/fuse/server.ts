/**
 * What all request handlers of the FUSE thread share: the device, the inode table, the state that the main thread pushes, and the replies.
 *
 * Always holds: one request is handled at a time; `out` is free between requests. A request is answered exactly once: by reply() or fail(),
 * by the main thread after defer(), or later after ask() and park().
 */
import * as fs from "node:fs";
import { constants as os } from "node:os";
import { receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import { InodeTable, type Inode } from "./inodes.ts";
import { SHARED_CACHED_OPENS, SHARED_OPENS, SHARED_PARKED, SHARED_POSTED, SHARED_SEEN, type Deferred, type DeferredAsk, type Spare, type ThreadOptions, type ToMain, type ToThread } from "./messages.ts";
import { databaseSettings, type DatabaseRule } from "../core/config.ts";
import { splitCompanion } from "../core/mount-hooks.ts";
import { opcodeByNumber } from "./opcodes.ts";
import { hashName, isWal, joinPath, pathOfTrustedName, TRUSTED_DIRECTORY_ID, VIRTUAL_BASE } from "./policy.ts";
import type { WalGates } from "./wal-gate.ts";
import { Request, REPLY_BODY, writeReplyHeader } from "./wire.ts";

/** The largest read or write the kernel may send. Almost all data passes through, so this is for virtual and unregistered files. */
export const MAX_WRITE = 1 << 20;

/** A refusal by POSIX name, caught by the dispatcher. */
export function refusal(code: keyof typeof os.errno): Error {
  return Object.assign(new Error(code), { code, errno: -os.errno[code] });
}

/** A name in a directory, as a request gives it. */
export interface Place {
  readonly parent: Inode;
  readonly name: string;
  readonly path: string;
  readonly file: string;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly type: number;
}

/** Paths of which something is remembered. */
const PATHS_MAX = 1_000;

/** Between two announcements that a `-wal` is fsynced: `synchronous=FULL` does it with every commit. */
const WAL_SYNC_GAP_MS = 8;

export class Server {
  readonly filesDir: string;
  readonly inodes: InodeTable;
  readonly out = Buffer.alloc(MAX_WRITE + 4096);
  readonly shared: Int32Array;
  /** Content of virtual files by handle, from the first read of an open to its release. */
  readonly contents = new Map<number, Buffer>();
  readonly directories = new Map<number, DirectoryEntry[]>();
  role: "primary" | "follower" = "primary";
  gateOpen = false;
  stopping = false;
  virtualNames: ReadonlySet<string> = new Set();
  /** Judges the writes to `-wal` files of databases with durability sync; undefined where there is none. */
  gates: WalGates | undefined;
  readonly #databases: readonly DatabaseRule[];
  /** What the rules say of paths that were asked for: it is asked with every write. */
  readonly #gated = new Map<string, boolean>();
  readonly hidden = new Set<string>();
  /** What the next rollback journal can be made of. */
  spare: Spare | undefined;
  readonly #virtualPaths = new Map<number, string>();
  readonly #trusted: ReadonlySet<number>;
  readonly #fd: number;
  readonly #inbox: MessagePort;
  readonly #post: (message: ToMain) => void;
  readonly #asked = new Map<number, Request>();
  #granted: { key: number; request: Request }[] = [];
  #parked: Request[] = [];
  #seen = 0;
  #nextKey = 1;
  /** Of each `-wal`: its fsyncs since the last announcement, and when that was. */
  readonly #walSyncs = new Map<string, { count: number; saidMs: number }>();
  // Handles of an earlier engine must not be mistaken for those of this one.
  #nextHandle = Date.now() * 1000;

  constructor(options: ThreadOptions, post: (message: ToMain) => void) {
    this.#fd = options.fuseFd;
    this.#inbox = options.inbox;
    this.#post = post;
    this.#trusted = new Set(options.trusted);
    this.#databases = options.databases;
    this.filesDir = options.filesDir;
    this.shared = new Int32Array(options.shared);
    this.inodes = new InodeTable({ ...options, unregister: (id, backing) => { post({ kind: "unregister", id, backing }); } });
  }

  // Replies.

  /** Sends `out`: the body of `length` bytes was written from REPLY_BODY on. */
  reply(request: Request, length = 0): void {
    writeReplyHeader(this.out, request.unique, length, 0);
    this.#write(length);
  }

  fail(request: Request, errno: number): void {
    writeReplyHeader(this.out, request.unique, 0, errno);
    this.#write(0);
  }

  #write(length: number): void {
    try {
      fs.writeSync(this.#fd, this.out, 0, REPLY_BODY + length);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // The request was aborted, or the mount is gone: nobody waits for this reply.
      if (code !== "ENOENT" && code !== "ENODEV" && code !== "EPERM") this.report("The kernel refused a reply of the mount", error);
    }
  }

  // The main thread.

  /** Tells the main thread that a writer is about to wait for its disk, now and then. */
  announceWalSync(path: string): void {
    const now = performance.now();
    let syncs = this.#walSyncs.get(path);
    if (syncs === undefined) {
      if (this.#walSyncs.size >= PATHS_MAX) this.#walSyncs.clear();
      this.#walSyncs.set(path, (syncs = { count: 0, saidMs: 0 }));
    }
    syncs.count++;
    if (now - syncs.saidMs < WAL_SYNC_GAP_MS) return;
    this.post({ kind: "walSyncs", path, count: syncs.count });
    syncs.count = 0;
    syncs.saidMs = now;
  }

  post(message: ToMain): void {
    this.#post(message);
  }

  /** Leaves the reply to the main thread. */
  defer(message: Deferred): void {
    this.#post(message);
  }

  /** Asks the main thread whether this request may run; it is dispatched again as granted. */
  ask(request: Request, path: string, to?: string): void {
    const key = this.#nextKey++;
    this.#asked.set(key, request.copy());
    const message: DeferredAsk = { kind: "ask", unique: request.unique, key, path, to };
    this.#post(message);
  }

  report(message: string, error: unknown): void {
    const cause = error instanceof Error ? error : new Error(String(error));
    this.#post({ kind: "report", message, error: { message: cause.message, stack: cause.stack } });
  }

  /** How many opens there were so far; see SHARED_OPENS. */
  get openCounter(): number {
    return Atomics.load(this.shared, SHARED_OPENS);
  }

  countOpen(): void {
    Atomics.add(this.shared, SHARED_OPENS, 1);
  }

  /** Somebody opens a `-wal` of which the kernel is going to keep pages. */
  countCachedOpen(id: number, node: number, isNew: boolean): void {
    Atomics.add(this.shared, SHARED_CACHED_OPENS, 1);
    this.post({ kind: "cachedOpen", id, node, isNew });
  }

  /**
   * A read that fills the kernel's page cache: it is served while the gate is closed, because the kernel lets nobody drop a page meanwhile, and who is to
   * open the gate may have to. What is in the file is as good as what a reader has of it already.
   */
  fillsCache(request: Request): boolean {
    if (this.#databases.length === 0 || opcodeByNumber[request.opcode]?.name !== "READ") return false;
    const inode = this.inodes.find(request.node);
    const path = inode === undefined ? undefined : this.inodes.path(inode);
    return path !== undefined && this.isGated(path);
  }

  /** Takes in what the main thread has posted. Granted requests are kept for takeGranted(), so no handler runs inside another. */
  drain(): void {
    const posted = Atomics.load(this.shared, SHARED_POSTED);
    if (posted === this.#seen) return;
    this.#seen = posted;
    for (;;) {
      const received = receiveMessageOnPort(this.#inbox) as { message: ToThread } | undefined;
      if (received === undefined) break;
      this.#take(received.message);
    }
    Atomics.store(this.shared, SHARED_SEEN, posted);
  }

  takeGranted(): { key: number; request: Request }[] {
    const granted = this.#granted;
    if (granted.length > 0) this.#granted = [];
    return granted;
  }

  #take(message: ToThread): void {
    const { inodes } = this;
    switch (message.kind) {
      case "role":
        this.role = message.role;
        this.gates?.setRole(message.role);
        return;
      case "committed": this.gates?.decided(message.id, message.done); return;
      case "gate": this.gateOpen = true; return;
      case "hide": this.hidden.add(message.path); return;
      case "reveal": this.hidden.delete(message.path); return;
      case "virtualNames": this.virtualNames = message.names; return;
      case "registered": {
        const inode = inodes.find(message.id);
        if (inode !== undefined) inode.backing = message.backing;
        return;
      }
      case "unlinked": this.#unlinked(message.id, message.path, message.aside); return;
      case "renamed": {
        if (message.replaced !== undefined) this.#unlinked(message.replaced.id, message.to, message.replaced.aside);
        const inode = inodes.find(message.id);
        const parent = inodes.find(message.toParent);
        if (inode !== undefined && parent !== undefined) inodes.renamed(inode, parent, message.toName);
        return;
      }
      case "spare": this.spare = message; return;
      case "grant": {
        const request = this.#asked.get(message.key);
        if (request !== undefined) this.#granted.push({ key: message.key, request });
        this.#asked.delete(message.key);
        return;
      }
      case "refuse": this.#asked.delete(message.key); return;
      case "content":
        if (message.content !== undefined) this.contents.set(message.handle, Buffer.from(message.content));
        return;
      case "stop": this.stopping = true; return;
    }
  }

  #unlinked(id: number, path: string, aside: boolean): void {
    const inode = this.inodes.find(id);
    if (inode !== undefined && this.inodes.path(inode) === path) this.inodes.unlinked(inode, aside);
  }

  // The gate, and who is trusted.

  /** Keeps a request until the gate opens. */
  park(request: Request): void {
    this.#parked.push(request.copy());
    this.#countParked();
    // The gate may have been opened by someone who did not see this one wait yet.
    this.drain();
  }

  takeParked(): Request[] {
    const parked = this.#parked;
    if (parked.length > 0) this.#parked = [];
    this.#countParked();
    return parked;
  }

  #countParked(): void {
    Atomics.store(this.shared, SHARED_PARKED, this.#parked.length);
  }

  /** Ends a parked request whose caller was interrupted. */
  interrupt(unique: bigint): void {
    const at = this.#parked.findIndex((request) => request.unique === unique);
    if (at < 0) return;
    const [request] = this.#parked.splice(at, 1);
    this.#countParked();
    if (request !== undefined) this.fail(request, -os.errno.EINTR);
  }

  /** Whether the guardian or the engine sent this: the header names a thread, the thread's status its process. */
  isTrusted(request: Request): boolean {
    if (this.#trusted.has(request.pid)) return true;
    try {
      const tgid = /^Tgid:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/${request.pid}/status`, "latin1"))?.[1];
      return tgid !== undefined && this.#trusted.has(Number(tgid));
    } catch {
      return false;
    }
  }

  /** Whether this path is not to be seen by the sender of the request. */
  isHiddenFrom(request: Request, path: string): boolean {
    return this.hidden.size > 0 && this.hidden.has(path) && !this.isTrusted(request);
  }

  // Names.

  /** The name in a request that acts on a directory. `at` is the size of the body struct before the names. */
  place(request: Request, at: number): Place {
    if (request.node === TRUSTED_DIRECTORY_ID) throw refusal("EPERM");
    return this.placeIn(this.inodes.need(request.node), request.name(at));
  }

  placeIn(parent: Inode, name: string | undefined): Place {
    // Hooks and tables carry paths as text, so a name that is no text cannot be served.
    if (name === undefined) throw refusal("EILSEQ");
    const folder = this.inodes.path(parent);
    if (folder === undefined) throw refusal("ENOENT");
    const path = joinPath(folder, name);
    return { parent, name, path, file: this.inodes.fileOf(path) };
  }

  /** The real place that a name in the trusted directory leads to. */
  placeOfTrustedName(name: string | undefined): Place {
    const path = name === undefined ? undefined : pathOfTrustedName(name);
    if (path === undefined) throw refusal("ENOENT");
    const parts = path.split("/");
    const last = parts.pop();
    let parent = this.inodes.root;
    let folder = "";
    for (const part of parts) {
      folder = joinPath(folder, part);
      const stat = fs.lstatSync(this.inodes.fileOf(folder), { bigint: true, throwIfNoEntry: false });
      if (stat?.isDirectory() !== true) throw refusal("ENOENT");
      parent = this.inodes.learn(parent, part, stat);
    }
    return this.placeIn(parent, last);
  }

  /** Whether this is the `-wal` of a database with durability sync: each write to it is a request. */
  isGated(path: string): boolean {
    if (this.#databases.length === 0 || !isWal(path)) return false;
    let gated = this.#gated.get(path);
    if (gated === undefined) {
      gated = databaseSettings({ databases: this.#databases }, splitCompanion(path).base).durability === "sync";
      if (this.#gated.size >= PATHS_MAX) this.#gated.clear();
      this.#gated.set(path, gated);
    }
    return gated;
  }

  isVirtual(path: string): boolean {
    return this.virtualNames.has(path);
  }

  /** Virtual files belong to Sluice: nobody makes, moves or removes them. */
  refuseVirtual(path: string): void {
    if (this.virtualNames.has(path)) throw refusal("EPERM");
  }

  virtualId(path: string): number {
    let id = VIRTUAL_BASE + hashName(path);
    for (;;) {
      const taken = this.#virtualPaths.get(id);
      if (taken === path) return id;
      if (taken === undefined) {
        this.#virtualPaths.set(id, path);
        return id;
      }
      id++;
    }
  }

  /** The path of a virtual file. An id of an earlier engine is found by the names there are. */
  virtualPath(id: number): string {
    if (!this.#virtualPaths.has(id)) for (const name of this.virtualNames) this.virtualId(name);
    const path = this.#virtualPaths.get(id);
    if (path === undefined) throw refusal("ESTALE");
    return path;
  }

  newHandle(): number {
    return this.#nextHandle++;
  }

  // Attributes.

  /** Attributes of the backing file. Throws ESTALE, upon which the kernel looks the name up again, when it is another file by now. */
  stat(inode: Inode): fs.BigIntStats {
    if (inode.opens > 0 || inode.fd >= 0) return fs.fstatSync(this.inodes.descriptor(inode), { bigint: true });
    for (let attempt = 0; attempt < 2; attempt++) {
      const stat = fs.lstatSync(this.inodes.file(inode), { bigint: true, throwIfNoEntry: false });
      if (stat !== undefined && this.inodes.idOf(stat) === inode.id) return stat;
      // The main thread may just have renamed it.
      this.drain();
    }
    throw refusal("ESTALE");
  }

  /** The count of names that is shown: one for files, since there are no hard links; what the backing folder has for directories. */
  links(inode: Inode, stat: fs.BigIntStats): number {
    if (inode.unlinked) return 0;
    return stat.isDirectory() ? Number(stat.nlink) : 1;
  }
}

