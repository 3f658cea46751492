/**
 * Where the lease of a cluster is kept: who holds it, who is a member, what the cluster is called. One interface over four stores.
 *
 * Always holds: at most one node holds the lease at a time, and each acquisition has a greater epoch than all before it, over all owners and
 * restarts: the epoch is the fencing number that every position carries. A call either answers what the store has done before its deadline or
 * rejects; nothing that arrives later is believed, and an acquisition that may have succeeded late is given back. What a store cannot read
 * (another program's value, absurd numbers) is refused by name and never removed: LEASE_STORE_CORRUPT.
 *
 * What a TTL means: nobody else gets the lease before `ttlMs` have passed since the last renewal was SENT. How soon after that they get it is
 * the store's own precision: `local` to the millisecond; etcd rounds up to whole seconds, has a minimum (2 s with its usual election timeout), and
 * looks every 0.5 s; Consul has a minimum of 10 s and waits up to twice the TTL. A release or a transfer is seen at once in all of them.
 */

/** A node as it is written in the lease store: how others find it. */
export interface Member {
  /** 16 hex digits. */
  readonly nodeId: string;
  readonly name: string;
  /** `host:port` where it takes replication streams. */
  readonly advertise: string;
  /** URL of its proxy; empty where it has none. */
  readonly proxy: string;
  readonly region: string;
  /** Whether it may become primary. */
  readonly candidate: boolean;
}

/** The lease as it stands in the store. */
export interface Held {
  /** Grows strictly with every acquisition by anyone, over all restarts. */
  readonly epoch: number;
  /** Names this very acquisition (owner, epoch, random). */
  readonly token: string;
  readonly holder: Member;
  /** The store says: nobody else may hold it before this many ms from now; undefined where it cannot tell. */
  readonly remainingMs?: number;
  /**
   * A handoff in progress: `holder` has given the lease up, and only the node with this id may take it for now. Nobody holds it then: a
   * renewal by the former holder answers false.
   */
  readonly reservedFor?: string;
}

/**
 * The nodes whose word counts for durability sync: an acknowledged commit is stored by the primary and by `syncReplicas` more of them. Kept until a primary changes
 * it, so that an election knows whom it has to hear, whoever is gone. `epoch` and `revision` name one state of it: those of a later primary count.
 */
export interface Electorate {
  readonly epoch: number;
  readonly revision: number;
  readonly nodes: readonly { readonly nodeId: string; readonly name: string }[];
}

export type LeaseType = "static" | "local" | "etcd" | "consul";

export interface LeaseStore {
  readonly type: LeaseType;

  /** Reads who holds the lease now; undefined when nobody does (expired, released, never held). Rejects with LEASE_STORE_UNAVAILABLE past `deadlineMs`. */
  read(deadlineMs: number): Promise<Held | undefined>;

  /**
   * Takes the lease if nobody holds it (or it is reserved for this node). The winner gets the new epoch, greater than all before and at least
   * `minEpoch`. undefined: somebody else has it. A store that knows of no epoch near `minEpoch` has lost its memory; then it answers undefined
   * for `ttlMs` after that was first seen, because a holder that it has forgotten may still trust its lease.
   */
  acquire(self: Member, options: { readonly ttlMs: number; readonly minEpoch: number; readonly deadlineMs: number }): Promise<Held | undefined>;

  /**
   * Extends it for `ttlMs` from now; false when it is no longer ours (expired and gone, or taken). The caller counts from when it SENT the call.
   * A `Held` that was read, not acquired, by this process is good as well: a restarted engine of the holder goes on with it.
   */
  renew(held: Held, options: { readonly ttlMs: number; readonly deadlineMs: number }): Promise<boolean>;

  /** Gives it up at once: the next acquire may succeed immediately. Never removes somebody else's lease. */
  release(held: Held, deadlineMs: number): Promise<void>;

  /** Planned handoff: gives it up so that only `to` (a node id) can acquire it during `reserveMs`, after that anybody. Atomic with the release. false: it was not ours any more. */
  transfer(held: Held, to: string, options: { readonly reserveMs: number; readonly deadlineMs: number }): Promise<boolean>;

  /**
   * Calls back soon after every change of the holder that this store can see, with what it read; also when the watch begins, and after the
   * connection was lost and is back. Returns the call that ends it.
   */
  watch(onChange: (held: Held | undefined) => void, onError: (error: unknown) => void): () => void;

  /** Membership: registers this node (again and again: an entry expires after `memberTtlMs` without renewal, by the store's own precision). */
  register(self: Member, options: { readonly memberTtlMs: number; readonly deadlineMs: number }): Promise<void>;

  /** Who is registered now. Entries that cannot be read are left out and left alone. */
  members(deadlineMs: number): Promise<readonly Member[]>;

  /** The cluster's id: the first one that is proposed wins, atomically; answers what is stored. */
  clusterId(proposed: string, deadlineMs: number): Promise<string>;

  /** Who is to be heard in an election; undefined when no commit ever asked for it. */
  electorate(deadlineMs: number): Promise<Electorate | undefined>;

  /** Puts `next` in the place of `before`, atomically; false: something else stands there. It stays until it is replaced. */
  setElectorate(before: Electorate | undefined, next: Electorate, deadlineMs: number): Promise<boolean>;

  /** Ends watches and connections. Gives nothing up: that is `release`. */
  close(): Promise<void>;
}
