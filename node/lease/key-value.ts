/**
 * What etcd and Consul have in common, as the lease needs it: keys with versions, transactions that compare them, and sessions whose end
 * takes the keys with them that were written under them.
 *
 * Always holds: `snapshot` is one state of the service, no older than the call (linearizable); `commit` does all of its writes or none; each
 * call rejects with LEASE_STORE_UNAVAILABLE when its deadline is over, and may then still be done by the service.
 */
import type { Deadline } from "./deadline.ts";
import type { LeaseType } from "./lease.ts";

export interface Entry {
  readonly value: string;
  /** Another one after each write. */
  readonly version: string;
  /** The session that it ends with. */
  readonly session: string | undefined;
}

/** By key, without the prefix: "lease", "members/0123456789abcdef". */
export type Snapshot = ReadonlyMap<string, Entry>;

/** This key still stands as it was read; undefined: it does not exist. */
export interface Condition { readonly key: string; readonly entry: Entry | undefined }

/** A write to a key among the conditions. Without a session it stays. */
export interface Write { readonly key: string; readonly value: string; readonly session?: string }

export interface KeyValue {
  readonly type: LeaseType;
  /** For errors. */
  readonly name: string;
  /** The key as an operator knows it, and the setting that moves it elsewhere. */
  fullKey(key: string): string;
  readonly prefixSetting: string;

  snapshot(deadline: Deadline): Promise<Snapshot>;
  /** Opens a session that lives for at least `ttlMs` from now. */
  openSession(ttlMs: number, deadline: Deadline): Promise<string>;
  /** Keeps it alive for at least `ttlMs` from now, then reads; `ttlMs` 0: it has ended. */
  touch(session: string, deadline: Deadline): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot }>;
  /** Ends it, and with it its keys. One that has ended already is fine. */
  closeSession(session: string, deadline: Deadline): Promise<void>;
  /** false: a condition does not hold, or a session has ended. After a lost answer also when it was done: read what stands there. */
  commit(conditions: readonly Condition[], writes: readonly Write[], deadline: Deadline): Promise<boolean>;
  /** Calls when the key may have changed, and after each new connection; answers the call that ends it. */
  watch(key: string, onEvent: () => void): { restart(): void; end(): void };
  close(): void;
}
