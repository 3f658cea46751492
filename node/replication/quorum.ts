/**
 * The proposals of a primary that are not decided yet, and who has stored them.
 *
 * Always holds: one proposal a database at most; its serial is higher than any that this node has given or heard of, also across restarts, because
 * it starts from the clock. It is decided once: enough different nodes have stored it, or the time is over, or the node is no longer the primary.
 * Everybody to whom a refused one was offered is told.
 */
import { assert } from "../core/assert.ts";
import { Refusal, type Proposal, type Quorum as StoreQuorum } from "../store/sync-commit.ts";
import { Wakefulness } from "./wakefulness.ts";

/** A follower's stream, as far as proposals go. */
export interface Voter {
  /** Sends the live proposal of this database as soon as everything before it has been sent. */
  offer(name: string): void;
  /** Drops what was offered up to this serial. */
  rewind(name: string, serial: number): void;
}

/** Whose word counts: see roles/electorate-keeper.ts. */
export interface Electors {
  counts(nodeId: string): boolean;
}

interface Live {
  readonly proposal: Proposal;
  readonly serial: number;
  readonly replicas: number;
  readonly stored: Set<string>;
  decide(reason: string | undefined): void;
}

export class Quorum implements StoreQuorum {
  readonly #voters: () => Iterable<Voter>;
  readonly #mayDecide: () => boolean;
  readonly #live = new Map<string, Live>();
  /** Where elections are held, they must know whom to ask: until then a word is kept and does not count. */
  electors: Electors = { counts: () => true };
  readonly #wakefulness = new Wakefulness();
  #serial = 0;

  /** `mayDecide`: this node is the primary now. */
  constructor(voters: () => Iterable<Voter>, mayDecide: () => boolean) {
    this.#mayDecide = mayDecide;
    this.#voters = voters;
  }

  /** Serials given from now on are higher. */
  heardOf(serial: number): void {
    this.#serial = Math.max(this.#serial, serial);
  }

  /** The proposal that a stream offers when it has reached its place. */
  live(name: string): { readonly proposal: Proposal; readonly serial: number } | undefined {
    return this.#live.get(name);
  }

  async propose(proposal: Proposal, terms: { readonly replicas: number; readonly timeoutMs: number }): Promise<number> {
    const { name } = proposal;
    assert(!this.#live.has(name), "one proposal at a time");
    this.#serial = Math.max(this.#serial + 1, Date.now());
    const serial = this.#serial;
    const reason = await new Promise<string | undefined>((resolve) => {
      const live: Live = { proposal, serial, replicas: terms.replicas, stored: new Set(), decide: resolve };
      this.#live.set(name, live);
      const timer = setTimeout(() => resolve(`${live.stored.size} of ${terms.replicas} followers have stored the transaction within ${terms.timeoutMs} ms (${[...this.#voters()].length} connected)`), terms.timeoutMs);
      const decided = this.#wakefulness.expect();
      live.decide = (why) => {
        decided();
        clearTimeout(timer);
        resolve(why);
      };
      for (const voter of this.#voters()) voter.offer(name);
    });
    this.#live.delete(name);
    if (reason === undefined) return serial;
    this.withdraw(name, serial);
    throw new Refusal(serial, reason);
  }

  withdraw(name: string, serial: number): void {
    for (const voter of this.#voters()) voter.rewind(name, serial);
  }

  /** A node has stored this proposal. */
  stored(nodeId: string, name: string, serial: number): void {
    // Asked in any case: it takes in a node that is new.
    const counts = this.electors.counts(nodeId);
    const live = this.#live.get(name);
    if (live?.serial !== serial) return;
    live.stored.add(nodeId);
    if (counts) this.#judge(live);
  }

  /** Other nodes count now than before. */
  recount(): void {
    for (const live of this.#live.values()) this.#judge(live);
  }

  #judge(live: Live): void {
    let counted = 0;
    for (const nodeId of live.stored) if (this.electors.counts(nodeId)) counted++;
    if (counted >= live.replicas) live.decide(this.#mayDecide() ? undefined : "the lease of this node has ended");
  }

  /** Refuses everything that is undecided: the node stops, or is the primary no more. */
  refuseAll(reason: string): void {
    for (const live of this.#live.values()) live.decide(reason);
  }
}
