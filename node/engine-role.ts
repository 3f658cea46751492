/**
 * What the role of this node does to its data, its mount and the other nodes: the hands of `Roles`.
 *
 * Always holds: there is a stream from another node only while this node follows; the mount asks before a file is made exactly while this node
 * does not write; a fence that is asked for during a change of role counts for databases that appear meanwhile.
 */
import fs from "node:fs";
import { join } from "node:path";
import type { Standing } from "./core/standing.ts";
import type { MountControl } from "./core/mount-hooks.ts";
import { files } from "./io/files.ts";
import type { Held, LeaseStore, Member } from "./lease/lease.ts";
import { bootTimeMs } from "./native/libc.ts";
import { Peers, publishedPositions, storedOf } from "./replication/peers.ts";
import type { ReplicationClient } from "./replication/client.ts";
import type { ReplicationServer } from "./replication/server.ts";
import { aheadIn, isAhead, refusals } from "./roles/election.ts";
import { ElectorateKeeper, unheard } from "./roles/electorate-keeper.ts";
import type { LeaseTimes } from "./roles/lease-time.ts";
import type { RoleHost, Roles } from "./roles/roles.ts";
import type { Store } from "./store/store.ts";
import { AppError, isAppError } from "../proto/errors.ts";
import type { Hello } from "../proto/gen/sluice/v1/Hello.ts";

export interface RoleParts {
  readonly dataDir: string;
  readonly boot: string;
  readonly store: Store;
  readonly leases: LeaseStore;
  readonly self: Member;
  readonly server: ReplicationServer;
  /** `syncReplicas` of the databases with durability sync; empty where there are none. */
  readonly syncReplicas: readonly number[];
  isSync(database: string): boolean;
  readonly mount: () => Pick<MountControl, "setRole"> | undefined;
  hello(): Hello;
  /** Begins to stream from an address. */
  startClient(address: string): ReplicationClient;
  /** Makes sure that the lease store and this node are of one cluster, and that it has an id. */
  joinCluster(): Promise<void>;
  /** The proxy holds writes; resolves when none runs any more, or after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void>;
  undrain(): void;
  /** To the guardian. */
  watchdog(fenceAtMs: number | null): void;
  tell(): void;
  report(level: "info" | "warn" | "error", message: string, error?: unknown): void;
}

/** How long running writes may take before a planned handoff fences them out. */
const DRAIN_MS = 1_000;
/** How long the target may take to confirm what this node has; writers wait meanwhile. */
const CONFIRM_MS = 5_000;
const MEMBERS_MS = 500;
/** How long those that stay may take to have everything, before whoever is gone is left out of elections. */
const COVER_MS = 5_000;
const ASK_MS = 1_000;
/** What others answered is good for opening if it is not older than this. */
const FRESH_MS = 3_000;

export class EngineRole implements RoleHost {
  readonly #parts: RoleParts;
  readonly peers: Peers;
  /** Who counts for durability sync; undefined where no database has it. */
  readonly electorate: ElectorateKeeper | undefined;
  /** An operator has this node take the lease whatever an election lacks. */
  forced = false;
  client: ReplicationClient | undefined;
  #others: { readonly atMs: number; readonly standings: Awaited<ReturnType<Peers["standings"]>>["standings"] } | undefined;

  constructor(parts: RoleParts) {
    this.#parts = parts;
    this.peers = new Peers(() => parts.hello());
    if (parts.syncReplicas.length === 0) return;
    const { quorum } = parts.server;
    this.electorate = new ElectorateKeeper({
      store: parts.leases, self: parts.self, followers: () => parts.server.followers.map(({ nodeId, node }) => ({ nodeId, name: node.name })),
      covered: (nodes) => this.#covered(nodes), changed: () => quorum.recount(),
      report: (message, error) => parts.report(error === undefined ? "info" : "warn", message, error),
    });
    quorum.electors = this.electorate;
  }

  /**
   * The first role, while no application is served yet (or while its calls wait, after an engine that died). A node that wrote when it last ran
   * captures first, whatever it becomes: what lies in its files may be nowhere else.
   */
  async begin(roles: Roles, resume: boolean): Promise<void> {
    const { store, leases, dataDir, boot } = this.#parts;
    const remembered = leases.type === "static" ? undefined : rememberedLease(dataDir, boot);
    this.#resumed = resume;
    if (leases.type !== "static") await this.#parts.joinCluster().catch((error: unknown) => {
      if (!isAppError(error, "LEASE_STORE_UNAVAILABLE")) throw error;
      this.report("warn", error.message);
    });
    if (remembered !== undefined) {
      this.#parts.mount()?.setRole("primary");
      await store.becomePrimary(remembered.held.epoch, { live: resume });
    }
    // A lease of an earlier boot of the machine is not used again: what the disk lost with the power may be elsewhere under the same TXIDs.
    await roles.start(remembered);
  }

  async settle(): Promise<void> {
    await this.#becomeFollower();
  }

  /** The databases have taken a side since this engine began. */
  #began = false;
  #resumed = false;

  /** Takes up the databases that are on the disk as a follower's. */
  async #followFirst(): Promise<void> {
    this.#began = true;
    this.#parts.mount()?.setRole("follower");
    await this.#parts.store.becomeFollower({ live: this.#resumed });
  }

  report(level: "info" | "warn" | "error", message: string, error?: unknown): void {
    this.#parts.report(level, message, error);
  }

  tell(): void {
    this.#parts.tell();
  }

  unfit(): string | undefined {
    return this.#parts.store.unfit();
  }

  /** Of this node's databases, of its stream, of what others said. */
  epochSeen(): number {
    const own = [...this.#parts.store.databases.values()].map(({ database }) => database.position.epoch);
    return Math.max(0, this.client?.epoch ?? 0, ...own, ...(this.#others?.standings ?? []).map(({ epoch }) => epoch));
  }

  async follow(holder: Member): Promise<void> {
    await this.#becomeFollower();
    if (this.client?.address !== holder.advertise) {
      await this.client?.end();
      this.client = this.#parts.startClient(holder.advertise);
    }
    this.tell();
  }

  async unfollow(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    await client?.end();
  }

  async #becomeFollower(): Promise<void> {
    if (this.#parts.store.role === "follower") {
      if (!this.#began) await this.#followFirst();
      return;
    }
    this.#began = true;
    this.#parts.mount()?.setRole("follower");
    await this.#parts.store.becomeFollower({ live: true });
  }

  async standings(timeoutMs: number): Promise<{ own: Standing; others: readonly Standing[]; silent: readonly string[]; lacking: string | undefined }> {
    const { leases, self, store } = this.#parts;
    const members = await leases.members(MEMBERS_MS).catch(() => []);
    this.peers.keepOnly(members);
    const { standings, silent } = await this.peers.standings(members.filter(({ nodeId }) => nodeId !== self.nodeId), timeoutMs);
    this.#others = { atMs: performance.now(), standings };
    this.#epochAsked = this.epochSeen();
    const heard = new Set([self.nodeId, ...standings.filter(({ reading }) => !reading).map(({ nodeId }) => nodeId)]);
    return { own: { nodeId: self.nodeId, candidate: self.candidate, stored: storedOf(store) }, others: standings, silent, lacking: await this.#lacking(heard) };
  }

  /** Why those that were heard may not have every acknowledged commit among them. */
  async #lacking(heard: ReadonlySet<string>): Promise<string | undefined> {
    const { leases, syncReplicas } = this.#parts;
    if (this.electorate === undefined || leases.type === "static" || this.forced) return undefined;
    try {
      const electorate = await leases.electorate(MEMBERS_MS);
      const least = Math.min(...syncReplicas);
      const names = unheard(electorate, heard, least);
      if (names.length === 0) return undefined;
      return `of the ${electorate!.nodes.length} nodes that store commits under durability sync ${electorate!.nodes.length - least} must answer, and none comes from ${names.join(", ")}. `
        + "An acknowledged commit may be with them alone; `sluice promote --force` does without it";
    } catch (error) {
      return `the lease store does not tell who stores commits under durability sync: ${(error as Error).message}`;
    }
  }

  /** Whether as many of these followers as the databases with durability sync ask for come to have what is committed now. */
  async #covered(nodes: ReadonlySet<string>): Promise<boolean> {
    const { store, server, syncReplicas } = this.#parts;
    const names = [...store.databases.keys()].filter((name) => this.#parts.isSync(name));
    if (names.length > 0) await store.flushAll(names);
    const positions = new Map(publishedPositions(store).filter(([name]) => names.includes(name)));
    const signal = AbortSignal.timeout(COVER_MS);
    const have = await Promise.all(server.followers.filter(({ nodeId }) => nodes.has(nodeId)).map(({ nodeId }) => server.confirmed(nodeId, positions, signal).then(() => true, () => false)));
    return have.filter(Boolean).length >= Math.max(...syncReplicas);
  }

  async open(held: Held, signal: AbortSignal): Promise<void> {
    const { store } = this.#parts;
    await this.#parts.joinCluster();
    // From a cold start there is nothing to fetch into: whoever has more is found by the election, before.
    if (this.#began && store.role === "follower") await this.#fetchAhead(signal);
    if (signal.aborted) return;
    await this.#hear(held, signal);
    // What was proposed under durability sync and is stored here may have been acknowledged, unless somebody knows that it was refused.
    const refused = this.#refusals();
    if (store.role === "follower") for (const name of store.databases.keys()) await store.settle(name, refused.get(name) ?? 0);
    await this.electorate?.begin(held.epoch);
    // Only now: a start that finds it takes the databases up in this epoch, as they are.
    this.remember(held);
    this.#parts.mount()?.setRole("primary");
    await store.becomePrimary(held.epoch, { live: this.#began || this.#resumed });
    this.#began = true;
    this.forced = false;
  }

  /** The greatest epoch that anybody had seen when the others were asked last. */
  #epochAsked = 0;

  /** With durability sync: nothing that was acknowledged may be missing now that this node has fetched. Throws ELECTION_LACKS. */
  async #hear(held: Held, signal: AbortSignal): Promise<void> {
    const { store } = this.#parts;
    if (this.electorate === undefined || this.#parts.leases.type === "static" || store.role !== "follower" || this.forced) return;
    // The answers that led to the election are good unless they are old, or somebody else held the lease in between.
    if (!this.#isFresh() || held.epoch !== this.#epochAsked + 1) {
      const { lacking } = await this.standings(ASK_MS);
      if (signal.aborted) return;
      if (lacking !== undefined) throw new AppError("ELECTION_LACKS", [lacking]);
    }
    const refused = this.#refusals();
    for (const { advertise, stored } of this.#fresh()) {
      const more = aheadIn(stored, storedOf(store), refused).filter((name) => this.#parts.isSync(name));
      if (more.length > 0) throw new AppError("ELECTION_LACKS", [`the node at ${advertise} has more of ${more.join(", ")}, which this node cannot get`]);
    }
  }

  #isFresh(): boolean {
    return this.#others !== undefined && performance.now() - this.#others.atMs <= FRESH_MS;
  }

  /** What the others said, if that is not long ago. */
  #fresh(): Awaited<ReturnType<Peers["standings"]>>["standings"] {
    return this.#isFresh() ? this.#others!.standings : [];
  }

  #refusals(): Map<string, number> {
    return refusals([{ stored: storedOf(this.#parts.store) }, ...this.#fresh()]);
  }

  /** Gets what other nodes have more of. What cannot be had is said, and will be found to differ when its owner follows. */
  async #fetchAhead(signal: AbortSignal): Promise<void> {
    const { store } = this.#parts;
    const refused = this.#refusals();
    for (const other of this.#fresh()) {
      for (const name of aheadIn(other.stored, storedOf(store), refused)) {
        if (signal.aborted) return;
        try {
          await this.peers.fetch(store, other.advertise, name, refused.get(name) ?? 0, signal);
          this.report("info", `Fetched what ${other.advertise} had more of "${name}"`);
        } catch (error) {
          this.report("warn", `${other.advertise} has more of "${name}" than this node, which cannot get it`, error);
        }
      }
    }
  }

  async fence(on: boolean): Promise<void> {
    if (!on) this.#parts.undrain();
    // A commit that waits for followers holds SQLite's lock; it is not to hold up the fence until its own time-out.
    else this.#parts.server.quorum.refuseAll("the lease of this node is in doubt");
    await this.#parts.store.fenceAll(on);
  }

  async prepareHandoff(to: string | undefined, signal: AbortSignal): Promise<string> {
    const { store, server } = this.#parts;
    const target = await this.#target(to);
    await this.#parts.drain(DRAIN_MS);
    if (signal.aborted) throw new AppError("HANDOFF_REFUSED", ["the lease was lost meanwhile"]);
    await store.fenceAll(true);
    await store.flushAll();
    await server.confirmed(target, new Map(publishedPositions(store)), AbortSignal.any([signal, AbortSignal.timeout(CONFIRM_MS)]));
    return target;
  }

  /** The node that is to take over: the one of this name, else the most advanced candidate that follows. */
  async #target(to: string | undefined): Promise<string> {
    const { leases, server } = this.#parts;
    const members = await leases.members(MEMBERS_MS);
    const connected = server.followers.filter(({ nodeId }) => members.some((member) => member.nodeId === nodeId && member.candidate));
    if (to !== undefined) {
      const named = connected.find(({ node }) => node.name === to);
      if (named !== undefined) return named.nodeId;
      const why = server.followers.some(({ node }) => node.name === to) ? "it is no candidate (lease.candidate: false)" : "it is not connected";
      throw new AppError("HANDOFF_REFUSED", [`the lease cannot go to "${to}": ${why}`]);
    }
    const stored = ({ positions }: (typeof connected)[number]): Standing["stored"] => new Map([...positions].map(([name, published]) => [name, { published, tail: undefined, refused: 0 }]));
    const best = connected.reduce<(typeof connected)[number] | undefined>((best, next) => (best === undefined || isAhead(stored(next), stored(best), new Map()) ? next : best), undefined);
    if (best === undefined) throw new AppError("HANDOFF_REFUSED", ["no candidate follows this node now"]);
    return best.nodeId;
  }

  announceHandoff(to: string): void {
    this.#parts.server.announceHandoff(to);
  }

  async close(): Promise<void> {
    this.electorate?.end();
    await this.#becomeFollower();
    this.#parts.server.close();
    this.#parts.undrain();
  }

  watchdog(times: LeaseTimes | undefined): void {
    this.#parts.watchdog(times?.fenceMs ?? null);
  }

  remember(held: Held | undefined): void {
    const path = join(this.#parts.dataDir, "lease.json");
    if (held === undefined) files.unlink("lease:forget", path);
    else files.replace("lease:remember", path, `${JSON.stringify({ held, boot: this.#parts.boot })}\n`);
  }
}

/**
 * The lease under which this node last wrote, if it has not become a follower since. `current`: the same boot of the machine, so the lease may still
 * be used; else all that it says is that there may be commits that nobody has.
 */
export function rememberedLease(dataDir: string, boot: string): { readonly held: Held; readonly current: boolean } | undefined {
  try {
    const { held, boot: then } = JSON.parse(fs.readFileSync(join(dataDir, "lease.json"), "utf8")) as { held: Held; boot: string };
    return typeof held.epoch === "number" && typeof held.token === "string" ? { held, current: then === boot } : undefined;
  } catch {
    return undefined; // This node followed, or is new.
  }
}

/** The clock that leases are measured by. */
export const LEASE_CLOCK = { now: bootTimeMs };
