/**
 * The role of this node as it runs: takes in what the lease store, timers and operators say, asks the role machine, and has its effects done.
 *
 * Always holds: effects on the data (follow, open, hand, close) run one after another, in the order of the transitions; a later transition
 * aborts what an earlier one still does. Fences are raised at once, beside them. Nothing is believed that the store answered after its deadline.
 * A lease is written down (by the host's `open`) before the databases are opened under it and struck out after they are a follower's again: so a node
 * that starts knows whether it may have committed what nobody has.
 */
import type { Standing } from "../core/standing.ts";
import type { Held, LeaseStore, Member } from "../lease/lease.ts";
import { AppError } from "../../proto/errors.ts";
import { decideElection } from "./election.ts";
import { LeaseKeeper, type KeeperClock } from "./lease-keeper.ts";
import { callDeadline, leaseTimes, type LeaseTimes } from "./lease-time.ts";
import { holdsLease, step, type RoleEffect, type RoleEvent, type RoleState } from "./role-machine.ts";

/** What the role has done to the data and to the other nodes. */
export interface RoleHost {
  /** Streams from the holder; where it does so already nothing changes. */
  follow(holder: Member, epoch: number): Promise<void>;
  unfollow(): Promise<void>;
  /**
   * Where this node and the others stand, of those that answer in time; at least itself. `silent`: the ids of those that may merely be slow. `lacking`: why
   * an acknowledged commit of a database with durability sync may be with none of them.
   */
  standings(timeoutMs: number): Promise<{ readonly own: Standing; readonly others: readonly Standing[]; readonly silent: readonly string[]; readonly lacking: string | undefined }>;
  /** Fetches what others have more of, publishes what it has stored, writes the lease down, then lets applications write, in this epoch. */
  open(held: Held, signal: AbortSignal): Promise<void>;
  /** Keeps writers out of every database, or lets them in. */
  fence(on: boolean): Promise<void>;
  /** Drains, fences, has the target confirm what this node has; resolves with the id of the node that is to take the lease. */
  prepareHandoff(to: string | undefined, signal: AbortSignal): Promise<string>;
  /** Tells the target that the lease is free for it. */
  announceHandoff(to: string): void;
  /** Captures everything and makes every database a follower's. */
  close(): Promise<void>;
  /** The same at the start, when this node does not write. */
  settle(): Promise<void>;
  /** A role or a holder has changed. */
  tell(): void;
  /** The guardian watches over this moment; undefined: there is nothing to watch. */
  watchdog(times: LeaseTimes | undefined): void;
  /** The lease that this node writes under, for its next start; undefined: none any more. */
  remember(held: Held | undefined): void;
  /** Greatest epoch that this node has seen. */
  epochSeen(): number;
  /** Why this node should not write now, if so. */
  unfit(): string | undefined;
  report(level: "info" | "warn" | "error", message: string, error?: unknown): void;
}

export interface RoleOptions {
  readonly store: LeaseStore;
  readonly self: Member;
  readonly ttlMs: number;
  /** With a primary by configuration: who it is, for those that are not. */
  readonly fixedPrimary: Member | undefined;
  /** Takes a free lease by itself; else only when an operator says so. */
  readonly auto: boolean;
  readonly clock: KeeperClock;
  readonly host: RoleHost;
}

/** Whoever is ahead gets so long to take the lease. */
const YIELD_MS = 1_500;
/** A member that does not answer may have what nobody else has, and gets so long: its machine may be busy. */
const SILENT_MS = 1_000;
const ASK_AGAIN_MS = 40;
/** While something is lacking that may take long. */
const LACKING_MS = 200;
const ASK_MS = 250;
const RESERVE_MS = 3_000;
const FIRST_READ_MS = 3_000;

export class Roles {
  readonly #options: RoleOptions;
  #state: RoleState = "follower";
  #keeper: LeaseKeeper | undefined;
  /** Who holds the lease, as this node last read it. */
  #holder: Held | undefined;
  /** The id of who holds it or held it last, as far as this node has seen. */
  #former: string | undefined;
  #work: Promise<void> = Promise.resolve();
  #abort = new AbortController();
  #electing: { readonly sinceMs: number } | undefined;
  /** An operator wants this node to take the lease although it does not do so by itself. */
  #wanted = false;
  /** The acquisition whose holder this node follows. */
  #followed: string | undefined;
  #handoff: { readonly to: string | undefined; readonly done: PromiseWithResolvers<string> } | undefined;
  #unwatch: (() => void) | undefined;
  #registration: NodeJS.Timeout | undefined;
  #lastError = "";

  constructor(options: RoleOptions) {
    this.#options = options;
  }

  get state(): RoleState {
    return this.#state;
  }

  /** The node that writes, as far as it is known: undefined in a failover. */
  get primary(): Held | undefined {
    if (this.#state === "primary") return this.#held;
    return holdsLease(this.#state) || this.#state === "closing" ? undefined : this.#holder;
  }

  get epoch(): number {
    return this.#held?.epoch ?? this.#holder?.epoch ?? this.#options.host.epochSeen();
  }

  /** Until when this node may be believed to be the primary, in ms of the clock; undefined: for as long as it says so. */
  get surelyUntilMs(): number | undefined {
    return this.#options.store.type === "static" ? undefined : this.#keeper?.times.fenceMs;
  }

  /**
   * Begins. `remembered`: the lease under which this node wrote when it last ran; `current`: on this boot of the machine, so that it may still be
   * good. Resolves when the first answer of the store is acted upon, or does not come.
   */
  async start(remembered: { readonly held: Held; readonly current: boolean } | undefined): Promise<void> {
    const { store, ttlMs, clock, host } = this.#options;
    if (store.type === "static") return this.#startStatic();
    try {
      await this.#register();
      const sentMs = clock.now();
      if (remembered?.current === true && await store.renew(remembered.held, { ttlMs, deadlineMs: callDeadline(ttlMs) })) {
        this.#keep(remembered.held, sentMs);
        this.#event("own");
      }
    } catch (error) {
      this.#problem("The lease store does not answer; this node follows nobody until it does", error);
    }
    if (this.#state === "follower") {
      this.#serial(async () => {
        await host.settle();
        host.remember(undefined);
      });
      await this.look();
    }
    this.#registration = setInterval(() => void this.#register(), Math.max(250, ttlMs / 2));
    this.#unwatch = store.watch((held) => this.#seen(held), (error) => this.#problem("The lease store cannot be watched", error));
    await this.#work;
    host.tell();
  }

  async #startStatic(): Promise<void> {
    const { store, self, ttlMs, fixedPrimary } = this.#options;
    const held = await store.acquire(self, { ttlMs, minEpoch: 0, deadlineMs: FIRST_READ_MS });
    if (held === undefined) {
      if (fixedPrimary !== undefined) this.#seen({ epoch: 0, token: "configured", holder: fixedPrimary });
    } else {
      this.#static = held;
      this.#event("own");
    }
    await this.#work;
  }

  #static: Held | undefined;

  get #held(): Held | undefined {
    return this.#keeper?.held ?? this.#static;
  }

  async #register(): Promise<void> {
    const { store, self, ttlMs } = this.#options;
    try {
      await store.register(self, { memberTtlMs: ttlMs * 3, deadlineMs: callDeadline(ttlMs) });
    } catch (error) {
      this.#problem("This node cannot be registered in the lease store", error);
    }
  }

  /** The store says who holds the lease. */
  #seen(held: Held | undefined): void {
    const { self, store } = this.#options;
    const own = this.#held;
    if (held !== undefined && held.epoch < Math.max(own?.epoch ?? 0, this.#holder?.epoch ?? 0)) return; // Read before what is known now.
    if (own !== undefined && holdsLease(this.#state)) {
      if (held === undefined || held.reservedFor !== undefined) this.#keeper?.renewNow();
      else if (held.token !== own.token) {
        this.#holder = held;
        this.#event("taken");
      }
      return;
    }
    const free = held === undefined || held.reservedFor === self.nodeId;
    if (!free && held.holder.nodeId === self.nodeId && held.reservedFor === undefined) {
      // An acquisition that this node does not know of: its answer came too late, or never. It was never believed, so it is given back.
      store.release(held, callDeadline(this.#options.ttlMs)).catch((error: unknown) => this.#problem("A lease of this node that it does not know cannot be given back", error));
      return;
    }
    const before = this.#holder;
    this.#holder = held === undefined || held.reservedFor !== undefined ? undefined : held;
    this.#former = held?.holder.nodeId ?? before?.holder.nodeId ?? this.#former;
    if (free) {
      if (this.#mayTake()) this.#event("free");
      else if (before !== undefined) this.#options.host.tell();
      return;
    }
    if (held.reservedFor !== undefined) {
      if (before !== undefined) this.#options.host.tell();
      return;
    }
    if (this.#followed !== held.token || this.#state === "electing") this.#event("taken");
  }

  #mayTake(): boolean {
    const { self, auto, host } = this.#options;
    if (!self.candidate || !(auto || this.#wanted)) return false;
    const unfit = host.unfit();
    if (unfit !== undefined) {
      host.report("warn", `This node does not take the free lease: ${unfit}`);
      // It may become fit while the lease stays free.
      setTimeout(() => void this.look(), 500);
    }
    return unfit === undefined;
  }

  /** Reads who holds the lease, and acts on it. */
  async look(): Promise<void> {
    if (this.#state === "stopped") return;
    try {
      this.#seen(await this.#options.store.read(callDeadline(this.#options.ttlMs)));
    } catch (error) {
      this.#problem("The lease cannot be read", error);
      setTimeout(() => void this.look(), 250);
    }
  }

  #event(event: RoleEvent): void {
    const next = step(this.#state, event);
    if (next === undefined) return;
    const before = this.#state;
    this.#state = next.state;
    if (before !== next.state) {
      this.#options.host.report("info", `Role: ${before} to ${next.state} (${event}), epoch ${this.epoch}`);
      // What belongs to the state before is not finished.
      this.#abort.abort();
      this.#abort = new AbortController();
    }
    if (!holdsLease(next.state)) this.#letGo(next.state);
    if (next.state !== "electing") this.#electing = this.#lacking = undefined;
    const { signal } = this.#abort;
    for (const effect of next.effects) this.#do(effect, signal);
  }

  #letGo(state: RoleState): void {
    if (this.#keeper === undefined) return;
    // Struck out as soon as it is not ours; its epoch is still needed to close.
    this.#keeper.end();
    if (state !== "closing" && state !== "stopped") this.#keeper = undefined;
    this.#options.host.watchdog(undefined);
  }

  #do(effect: RoleEffect, signal: AbortSignal): void {
    const { host } = this.#options;
    switch (effect) {
      case "tell": return host.tell();
      case "look": return void this.look();
      case "ask": return void this.#elect(signal);
      case "acquire": return void this.#acquire(signal);
      case "release": return void this.#release();
      case "fence": return void host.fence(true).catch((error: unknown) => host.report("error", "A fence could not be raised", error));
      case "unfence": return void host.fence(false).catch((error: unknown) => host.report("error", "A fence could not be lowered", error));
      case "follow": return this.#serial(async () => {
        const holder = this.#holder;
        if (holder === undefined || signal.aborted) return;
        this.#followed = holder.token;
        await host.follow(holder.holder, holder.epoch);
      });
      case "unfollow": return this.#serial(() => {
        this.#followed = undefined;
        return host.unfollow();
      });
      case "open": return this.#serial(() => this.#open(signal));
      case "hand": return this.#serial(() => this.#hand(signal));
      case "close": return this.#serial(() => this.#close());
    }
  }

  #serial(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => this.#options.host.report("error", "A change of role failed", error));
  }

  async #elect(signal: AbortSignal): Promise<void> {
    const { host, self } = this.#options;
    const since = (this.#electing ??= { sinceMs: performance.now() }).sinceMs;
    while (!signal.aborted) {
      const { own, others, silent, lacking } = await host.standings(ASK_MS);
      if (signal.aborted) return;
      if (lacking !== undefined && this.#lacking === undefined) host.report("warn", `This node does not take the free lease: ${lacking}`);
      this.#lacking = lacking;
      // Who lost the lease is most likely why there is an election.
      const awaited = silent.filter((nodeId) => nodeId !== this.#former).length;
      const decision = decideElection(own, others.filter(({ nodeId }) => nodeId !== self.nodeId), awaited, { ms: performance.now() - since, mostMs: YIELD_MS, silentMs: SILENT_MS }, lacking);
      if (decision === "take") return this.#event("elected");
      await new Promise((resolve) => setTimeout(resolve, lacking === undefined ? ASK_AGAIN_MS : LACKING_MS));
    }
  }

  #lacking: string | undefined;

  /** What the election that is under way lacks, if anything but time. */
  get lacking(): string | undefined {
    return this.#state === "electing" ? this.#lacking : undefined;
  }

  async #acquire(signal: AbortSignal): Promise<void> {
    const { store, self, ttlMs, clock, host } = this.#options;
    const sentMs = clock.now();
    try {
      const held = await store.acquire(self, { ttlMs, minEpoch: host.epochSeen() + 1, deadlineMs: callDeadline(ttlMs) });
      if (signal.aborted) {
        if (held !== undefined) await store.release(held, callDeadline(ttlMs));
        return;
      }
      if (held === undefined) return this.#event("missed");
      this.#wanted = false;
      this.#keep(held, sentMs);
      this.#event("acquired");
    } catch (error) {
      this.#problem("The lease cannot be acquired", error);
      if (!signal.aborted) setTimeout(() => this.#event("missed"), 100);
    }
  }

  #keep(held: Held, sentMs: number): void {
    const { store, ttlMs, clock, host } = this.#options;
    this.#holder = held;
    this.#keeper?.end();
    this.#keeper = new LeaseKeeper(store, held, { ttlMs, sentMs, clock }, {
      onRenewed: (times, late) => {
        this.#lastError = "";
        host.watchdog(times);
        // The guardian raises the fences by its own clock, whether or not this process came to know of the deadline.
        if (late && this.#state === "primary") this.#do("unfence", this.#abort.signal);
        this.#event("renewed");
        host.tell();
      },
      onDeadline: () => this.#event("deadline"),
      onLost: () => {
        if (this.#holder?.token === held.token) this.#holder = undefined;
        this.#event("lost");
      },
      onError: (error) => this.#problem("The lease was not renewed", error),
    });
    host.watchdog(leaseTimes(sentMs, ttlMs));
  }

  async #open(signal: AbortSignal): Promise<void> {
    const { host } = this.#options;
    const held = this.#held;
    if (held === undefined || signal.aborted) return;
    try {
      await host.open(held, signal);
      if (!signal.aborted) this.#event("opened");
    } catch (error) {
      host.report("error", "The databases cannot be opened for writing", error);
      if (!signal.aborted) this.#event("failed");
    }
  }

  async #close(): Promise<void> {
    const { host } = this.#options;
    for (;;) {
      try {
        await host.close();
        break;
      } catch (error) {
        // The fence is up: nothing is lost by trying again (a disk that is full, most likely).
        host.report("error", "The databases cannot be closed for writing yet", error);
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
      if (this.#state === "stopped") return;
    }
    host.remember(undefined);
    this.#keeper = undefined;
    this.#event("closed");
  }

  async #release(): Promise<void> {
    const held = this.#held;
    if (held === undefined || this.#options.store.type === "static") return;
    try {
      await this.#options.store.release(held, callDeadline(this.#options.ttlMs));
    } catch (error) {
      this.#problem("The lease cannot be given back and ends by itself", error);
    }
  }

  // What operators ask for.

  /** Moves the lease to the node of this name (or the most advanced follower); resolves with the name of the new primary, once it is known. */
  async handOff(to: string | undefined): Promise<string> {
    if (this.#options.store.type === "static") throw new AppError("HANDOFF_REFUSED", ["the primary is fixed by configuration (lease.type: static)"]);
    if (this.#state !== "primary") throw new AppError("HANDOFF_REFUSED", [`this node is not the primary now (${this.#state})`]);
    const done = Promise.withResolvers<string>();
    done.promise.catch(() => undefined);
    this.#handoff = { to, done };
    this.#event("handoff");
    return done.promise;
  }

  async #hand(signal: AbortSignal): Promise<void> {
    const { host, store, ttlMs } = this.#options;
    const { to, done } = this.#handoff!;
    const held = this.#held;
    let reason: unknown;
    try {
      if (held === undefined || signal.aborted) throw new AppError("HANDOFF_REFUSED", ["the lease was lost meanwhile"]);
      const target = await host.prepareHandoff(to, signal);
      if (signal.aborted) throw new AppError("HANDOFF_REFUSED", ["the lease was lost meanwhile"]);
      if (await store.transfer(held, target, { reserveMs: RESERVE_MS, deadlineMs: callDeadline(ttlMs) })) {
        this.#holder = undefined;
        this.#event("moved");
        host.announceHandoff(target);
        done.resolve(target);
        return;
      }
      reason = new AppError("HANDOFF_REFUSED", ["the lease is not this node's any more"]);
    } catch (error) {
      reason = error;
    }
    done.reject(reason);
    // If the transfer took place without an answer, the next renewal says that the lease is lost.
    this.#event("kept");
    this.#keeper?.renewNow();
  }

  /** The holder has given the lease up for this node, or an operator wants this node to take a free one. */
  async take(): Promise<void> {
    this.#wanted = true;
    await this.look();
  }

  /** No role changes any more; resolves when none is under way. The lease stays as it is: `giveBack`. */
  async halt(): Promise<void> {
    clearInterval(this.#registration);
    this.#unwatch?.();
    this.#event("stop");
    await this.#work;
  }

  /** After `halt`, when everything is captured: the lease, if this node holds it, is free. */
  async giveBack(): Promise<void> {
    const held = this.#held;
    if (held === undefined || this.#options.store.type === "static") return;
    await this.#options.store.release(held, callDeadline(this.#options.ttlMs)).catch((error: unknown) => this.#problem("The lease cannot be given back and ends by itself", error));
    this.#options.host.remember(undefined);
  }

  /** Says the same problem once, not with every try. */
  #problem(message: string, error: unknown): void {
    const text = `${message}: ${(error as Error).message}`;
    if (text === this.#lastError) return;
    this.#lastError = text;
    this.#options.host.report("warn", text, error instanceof AppError ? undefined : error);
  }
}
