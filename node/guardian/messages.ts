/**
 * What the guardian and its children say to each other over Node's IPC channel (JSON, so every message is plain data).
 *
 * Always holds: a child that loses the channel ends itself, because its guardian is dead. The engine says nothing before it has received
 * `init`. Descriptors reach the engine by inheritance, at the numbers below.
 */
import type { Config } from "../core/config.ts";

/** Where the engine finds what it inherits. The lock is only held open, so that the data folder stays locked while any engine lives. */
export const ENGINE_FDS = { fuse: 3, ipc: 4, dataLock: 5 } as const;

/** Where the proxy finds what it inherits. The lock is only held open: a proxy that outlives its guardian still has the port. */
export const PROXY_FDS = { ipc: 3, dataLock: 4, socket: 5 } as const;

/** How much of SQLite's locks is held on a database; the table is in fences.ts. */
export type FenceLevel = "off" | "ready" | "write" | "exclusive" | "follow";

export type GuardianToEngine =
  | {
      readonly type: "init";
      readonly config: Config;
      /** An earlier engine served this mount: applications may have files open and requests may wait for an answer. */
      readonly resume: boolean;
      readonly mountPoint: string;
      readonly guardianPid: number;
      /** Which driver serves the mount, and why that one. With fuse-native the engine inherits no /dev/fuse. */
      readonly driver: { readonly driver: "passthrough" | "fuse-native"; readonly reason: string };
    }
  /** The node is going to stop: hand the lease over, if this node holds it and somebody can take it, then say `handedOff`. The application still runs. */
  | { readonly type: "handOff" }
  /** Capture what is committed, write what must be written, close connections, then say `stopped`. The unmount follows. */
  | { readonly type: "stop" }
  /** End in order, but as the primary or follower that this is: the next engine goes on over the same mount. */
  | { readonly type: "leave" }
  /** The answer to `fence`; with `error` the fence is not held. */
  | { readonly type: "fenced"; readonly id: number; readonly error?: string }
  /** The proxy's counters, about once a second, in the proxy's own shape. */
  | { readonly type: "proxyMetrics"; readonly metrics: unknown };

export type EngineToGuardian =
  /** Requests on the mount are answered. */
  | { readonly type: "serving" }
  /** The primary is open for writes, or the follower has caught up once. Sent again by each new engine. */
  | { readonly type: "ready"; readonly role: "primary" | "follower" }
  /** Bring the fence of a database (a path below the mount) to a level. Asking for what already holds is answered at once. */
  | { readonly type: "fence"; readonly id: number; readonly database: string; readonly level: FenceLevel }
  /**
   * The lease holds until this moment (ms of CLOCK_BOOTTIME); then, unless another word comes before it, the guardian raises every fence that
   * is `ready`. null: there is nothing to watch (this node is no primary, or one by configuration).
   */
  | { readonly type: "lease"; readonly fenceAtMs: number | null }
  /** The answer to `handOff`. */
  | { readonly type: "handedOff" }
  /** Start the engine and the proxy again from the files as they are now, over the same mount. */
  | { readonly type: "upgrade" }
  | { readonly type: "stopped" }
  /** The engine cannot go on and ends. Before the first `serving` this ends the node; later the engine is started again. */
  | { readonly type: "fatal"; readonly error: ReportedError };

export interface ReportedError {
  readonly code?: string;
  readonly message: string;
  readonly hint?: string;
}

/** What the proxy is told: finish what runs, and end. `followed`: another one accepts on the same socket already. */
export type GuardianToProxy = { readonly type: "stop"; readonly followed: boolean };

/** What the guardian reads of the proxy's messages. */
export type ProxyToGuardian =
  | { readonly type: "listening"; readonly address: string }
  /** It was told to end and goes on until it is followed by another one: then it waits for `stop`. */
  | { readonly type: "leaving" }
  /** After `stop`: no request is running any more. */
  | { readonly type: "drained" }
  | { readonly type: "fatal"; readonly message: string; readonly hint: string }
  | { readonly type: "metrics"; readonly metrics: unknown };

/** An error as it crosses a process boundary. */
export function reportError(error: unknown): ReportedError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  return {
    message: error.message,
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof hint === "string" ? { hint } : {}),
  };
}

/** Whether something received is a message of ours: the sender is a program of the same release, so the type is all that is looked at. */
export function isMessage(value: unknown): value is { readonly type: string } {
  return typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
}
