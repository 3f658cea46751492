/**
 * The store without a store: the configuration says who the primary is.
 *
 * Always holds: only the node whose `advertise` address is `primary` acquires, and it keeps the lease until it releases it; there is nothing to
 * expire, to hand over or to watch, and no member is known but the primary's address. The epoch is the node's own (node/identity.ts).
 */
import { AppError } from "../../proto/errors.ts";
import { newToken } from "./entry.ts";
import type { Electorate, Held, LeaseStore, Member } from "./lease.ts";

export interface StaticOptions {
  /** The `advertise` address of the primary. */
  readonly primary: string;
  /** This node's epoch, if it is the primary; asked once for each acquisition. */
  readonly epoch: () => number;
}

export class StaticStore implements LeaseStore {
  readonly type = "static";
  readonly #options: StaticOptions;
  #held: Held | undefined;
  readonly #watches = new Set<(held: Held | undefined) => void>();

  constructor(options: StaticOptions) {
    this.#options = options;
  }

  /** Known only on the primary itself: the others read the address from their configuration. */
  async read(): Promise<Held | undefined> {
    return this.#held;
  }

  async acquire(self: Member, options: { readonly minEpoch: number }): Promise<Held | undefined> {
    if (self.advertise !== this.#options.primary) return undefined;
    if (this.#held !== undefined) return undefined;
    const epoch = Math.max(this.#options.epoch(), options.minEpoch);
    this.#set({ epoch, token: newToken(self.nodeId, epoch), holder: self });
    return this.#held;
  }

  async renew(held: Held): Promise<boolean> {
    return this.#held?.token === held.token;
  }

  async release(held: Held): Promise<void> {
    if (this.#held?.token === held.token) this.#set(undefined);
  }

  async transfer(): Promise<boolean> {
    throw new AppError("HANDOFF_REFUSED", ["the lease is static: the configuration names the primary"]);
  }

  watch(onChange: (held: Held | undefined) => void): () => void {
    this.#watches.add(onChange);
    queueMicrotask(() => {
      if (this.#watches.has(onChange)) onChange(this.#held);
    });
    return () => void this.#watches.delete(onChange);
  }

  #set(held: Held | undefined): void {
    this.#held = held;
    for (const onChange of this.#watches) onChange(held);
  }

  async register(): Promise<void> {}

  async members(): Promise<readonly Member[]> {
    return [];
  }

  /** Nobody to agree with: a follower adopts the primary's id with its first stream. */
  async clusterId(proposed: string): Promise<string> {
    return proposed;
  }

  /** There are no elections. */
  async electorate(): Promise<Electorate | undefined> {
    return undefined;
  }

  async setElectorate(): Promise<boolean> {
    return false;
  }

  async close(): Promise<void> {
    this.#watches.clear();
  }
}
