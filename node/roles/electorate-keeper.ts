/**
 * Which nodes' word counts for durability sync, as the primary keeps it in the lease store: so that an election knows whom it has to hear.
 *
 * Always holds: a word counts only from nodes that stand in the store as this primary has written it, and, while the list is being changed, in the list before
 * and after. A node comes in with its first word. It goes only when it is a member of the cluster no more and enough of those that stay have all that was
 * committed so far: so at any moment each acknowledged commit is stored by the primary and `replicas` others of the list. What a primary writes replaces
 * what the one before it wrote, which can then change nothing any more. With a static lease there are no elections, and every word counts.
 */
import type { Electorate, LeaseStore, Member } from "../lease/lease.ts";

export type Elector = Electorate["nodes"][number];

export interface ElectorateHost {
  readonly store: LeaseStore;
  readonly self: Member;
  /** The followers that are connected. */
  followers(): readonly Elector[];
  /** Resolves with true when enough of these nodes have everything that is committed now in databases with durability sync; false: not within a while. */
  covered(nodes: ReadonlySet<string>): Promise<boolean>;
  /** Another node counts: what it has said so far counts as well. */
  changed(): void;
  report(message: string, error?: unknown): void;
}

const CALL_MS = 1_000;

export class ElectorateKeeper {
  readonly #host: ElectorateHost;
  readonly #everybody: boolean;
  /** As this node has written it in its epoch. */
  #written: Electorate | undefined;
  #counted: ReadonlySet<string> = new Set();
  /** The change that is under way. */
  #work: Promise<void> | undefined;

  constructor(host: ElectorateHost) {
    this.#host = host;
    this.#everybody = host.store.type === "static";
  }

  /** Whether this node's word counts. One that is new is taken in, and `changed` tells. */
  counts(nodeId: string): boolean {
    if (this.#everybody || this.#counted.has(nodeId)) return true;
    if (this.#written !== undefined) void this.tend();
    return false;
  }

  /** This node writes from now on, in this epoch: what stands in the store becomes its own. Rejects when the store does not answer. */
  async begin(epoch: number): Promise<void> {
    if (this.#everybody) return;
    const { store, self } = this.#host;
    await this.#work;
    for (;;) {
      const before = await store.electorate(CALL_MS);
      const nodes = [...(before?.nodes.filter(({ nodeId }) => nodeId !== self.nodeId) ?? []), { nodeId: self.nodeId, name: self.name }];
      const next = { epoch, revision: (before?.revision ?? 0) + 1, nodes };
      if (!(await store.setElectorate(before, next, CALL_MS))) continue;
      this.#written = next;
      this.#counted = idsOf(nodes);
      return;
    }
  }

  /** This node writes no more. */
  end(): void {
    this.#written = undefined;
    this.#counted = new Set();
  }

  /** Takes in the followers that are new, and leaves out who is gone for good. To be called now and then. */
  tend(): Promise<void> {
    this.#work ??= this.#change().finally(() => (this.#work = undefined));
    return this.#work;
  }

  async #change(): Promise<void> {
    try {
      // An attempt before had no answer: what was being changed is neither in nor out until this is written anew.
      if (this.#written !== undefined && this.#counted.size !== this.#written.nodes.length) await this.#writeAnew();
      await this.#takeIn();
      await this.#leaveOut();
    } catch (error) {
      this.#host.report("Who counts for durability sync cannot be noted in the lease store, and is tried again", error);
    }
  }

  async #takeIn(): Promise<void> {
    const known = idsOf(this.#written?.nodes ?? []);
    const added = this.#host.followers().filter(({ nodeId }) => !known.has(nodeId));
    if (this.#written !== undefined && added.length > 0) await this.#write([...this.#written.nodes, ...added]);
  }

  async #leaveOut(): Promise<void> {
    const { store, self } = this.#host;
    const written = this.#written;
    if (written === undefined) return;
    const here = new Set([self.nodeId, ...this.#host.followers().map(({ nodeId }) => nodeId)]);
    if (written.nodes.every(({ nodeId }) => here.has(nodeId))) return;
    const members = new Set((await store.members(CALL_MS)).map(({ nodeId }) => nodeId));
    const rest = written.nodes.filter(({ nodeId }) => here.has(nodeId) || members.has(nodeId));
    if (rest.length === written.nodes.length || this.#written !== written) return;
    const counted = this.#counted;
    const stay = idsOf(rest);
    // Before the look at what they have: what is committed after it needs their word.
    this.#counted = both(counted, stay);
    const covered = await this.#host.covered(stay);
    if (this.#written !== written) return;
    if (!covered) {
      this.#counted = counted;
      return;
    }
    await this.#write(rest);
    this.#host.report(`No election waits any more for ${written.nodes.filter(({ nodeId }) => !stay.has(nodeId)).map(({ name }) => name).join(", ")}: gone, and others have what it had`);
  }

  async #write(nodes: readonly Elector[]): Promise<void> {
    const { store } = this.#host;
    const before = this.#written!;
    const next: Electorate = { epoch: before.epoch, revision: before.revision + 1, nodes };
    this.#counted = both(this.#counted, idsOf(nodes));
    let done = false;
    try {
      done = await store.setElectorate(before, next, CALL_MS);
    } catch (error) {
      // Done or not: what stands there is read before it is changed again.
      const stored = await store.electorate(CALL_MS).catch(() => undefined);
      if (stored?.epoch !== next.epoch || stored.revision !== next.revision) throw error;
      done = true;
    }
    if (this.#written !== before) return;
    if (!done) return this.#writeAnew();
    this.#written = next;
    this.#counted = idsOf(nodes);
    this.#host.changed();
  }

  /** Something else stands in the store: a later primary's, or what an attempt without an answer left, or nothing, because the store has lost its memory. */
  async #writeAnew(): Promise<void> {
    const { store } = this.#host;
    const written = this.#written!;
    const stored = await store.electorate(CALL_MS);
    if (stored !== undefined && stored.epoch > written.epoch) return this.end();
    const next = { ...written, revision: Math.max(written.revision, stored?.revision ?? 0) + 1 };
    if (!(await store.setElectorate(stored, next, CALL_MS)) || this.#written !== written) return;
    this.#written = next;
    this.#counted = idsOf(next.nodes);
    this.#host.changed();
  }
}

const idsOf = (nodes: readonly Elector[]): ReadonlySet<string> => new Set(nodes.map(({ nodeId }) => nodeId));
const both = (a: ReadonlySet<string>, b: ReadonlySet<string>): ReadonlySet<string> => new Set([...a].filter((id) => b.has(id)));

/** Whose answer an election lacks: empty when those that were heard have every acknowledged commit among them, `replicas` being the copies beside the primary's. */
export function unheard(electorate: Electorate | undefined, heard: ReadonlySet<string>, replicas: number): readonly string[] {
  const silent = electorate?.nodes.filter(({ nodeId }) => !heard.has(nodeId)) ?? [];
  return silent.length <= replicas ? [] : silent.map(({ name }) => name);
}
