/**
 * The gRPC service for this node's own proxy and command line, on the unix socket `run/engine.sock`.
 *
 * Always holds: what it tells is this node's view; positions with `flush` include everything that was committed before the call. State
 * changes are pushed STATE_MS after the first of them, and less and less often while only positions move: who needs a position at once asks
 * or waits for it.
 */
import type * as grpc from "@grpc/grpc-js";
import { statusOf } from "./replication/server.ts";
import { waitReplicated, type Acknowledged } from "./replication/wait-replicated.ts";
import type { Store } from "./store/store.ts";
import { AppError } from "../proto/errors.ts";
import { toWire, type WirePosition } from "../proto/grpc.ts";
import { hasReached, ZERO_POSITION } from "../proto/position.ts";
import type { DrainedReply } from "../proto/gen/sluice/v1/DrainedReply.ts";
import type { DrainedRequest__Output } from "../proto/gen/sluice/v1/DrainedRequest.ts";
import type { NodeState } from "../proto/gen/sluice/v1/NodeState.ts";
import type { Positions } from "../proto/gen/sluice/v1/Positions.ts";
import type { PositionsRequest__Output } from "../proto/gen/sluice/v1/PositionsRequest.ts";
import type { WaitReplicatedRequest__Output } from "../proto/gen/sluice/v1/WaitReplicatedRequest.ts";
import type { WaitReplicatedResponse } from "../proto/gen/sluice/v1/WaitReplicatedResponse.ts";
import type { WaitRequest__Output } from "../proto/gen/sluice/v1/WaitRequest.ts";
import type { WaitResponse } from "../proto/gen/sluice/v1/WaitResponse.ts";
import type { WatchRequest__Output } from "../proto/gen/sluice/v1/WatchRequest.ts";

/** A push costs both processes a tenth of a millisecond: 200 of them a second took 5 % of a core on each node under load. */
const STATE_MS = 5;
const STATE_MS_MAX = 80;
const WAIT_MS_MAX = 60_000;
/** How long the primary may take to say where it is. */
const ASK_MS = 10_000;

export type NodeFacts = Omit<NodeState, "positions" | "drain">;

export type AskPrimary = (databases: readonly string[], timeoutMs: number) => Promise<Positions>;

export class ClusterService {
  readonly #store: Store;
  readonly #facts: () => NodeFacts;
  readonly #askPrimary: AskPrimary;
  readonly #acknowledged: Acknowledged;
  /** The streams, and the processes that read them: more than one while a proxy is followed by another. */
  readonly #watchers = new Map<grpc.ServerWritableStream<WatchRequest__Output, NodeState>, number>();
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #timerMs = STATE_MS;
  #pushedMs = 0;
  /** The drain that is asked for, by number; 0: none. */
  #drain = 0;
  #drains = 0;
  /** Processes that have no write running any more, of this drain. */
  readonly #drained = new Set<number>();
  #checkDrained: () => void = () => undefined;

  /** `askPrimary` is for the positions of the primary while this node is not it. */
  constructor(store: Store, facts: () => NodeFacts, askPrimary: AskPrimary, acknowledged: Acknowledged) {
    this.#acknowledged = acknowledged;
    this.#store = store;
    this.#facts = facts;
    this.#askPrimary = askPrimary;
    store.onChange(() => {
      for (const check of this.#waiting) check();
      this.#moved();
    });
  }

  /** Something that the state tells has changed, other than a position. */
  changed(): void {
    if (this.#timer !== undefined && this.#timerMs > STATE_MS) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    if (this.#timer === undefined) this.#pushIn(STATE_MS);
  }

  /** A position has moved. While that goes on, each push comes later than the one before it. */
  #moved(): void {
    if (this.#timer !== undefined) return;
    const isQuiet = performance.now() - this.#pushedMs > 2 * this.#timerMs;
    this.#pushIn(isQuiet ? STATE_MS : Math.min(2 * this.#timerMs, STATE_MS_MAX));
  }

  #pushIn(ms: number): void {
    if (this.#watchers.size === 0) return;
    this.#timerMs = ms;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#push();
    }, ms);
  }

  #state(): NodeState {
    return { ...this.#facts(), positions: this.#positions(), drain: this.#drain };
  }

  /** Has the proxies hold writes; resolves when each says that it runs none any more, when there is no proxy, or after `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    this.#drain = ++this.#drains;
    this.#drained.clear();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#checkDrained = () => {
      if ([...this.#watchers.values()].every((process) => this.#drained.has(process))) resolve();
    };
    this.#checkDrained();
    this.#push();
    const timer = setTimeout(resolve, timeoutMs);
    await promise;
    clearTimeout(timer);
  }

  /** Writes go where the role says again. */
  undrain(): void {
    this.#drain = 0;
    this.changed();
  }

  #push(): void {
    this.#pushedMs = performance.now();
    const state = this.#state();
    // A proxy that does not read gets the next state instead of a queue of old ones.
    for (const call of this.#watchers.keys()) if (!call.writableNeedDrain) call.write(state);
  }

  #positions(names: readonly string[] = []): ReturnType<typeof toWire>[] {
    const all = names.length > 0 ? names.flatMap((name) => this.#store.databases.get(name) ?? []) : [...this.#store.databases.values()];
    return all.filter(({ database }) => database.position.txid > 0).map(({ database }) => toWire(database.name, database.position));
  }

  handlers(): grpc.UntypedServiceImplementation {
    return {
      watch: (call: grpc.ServerWritableStream<WatchRequest__Output, NodeState>) => {
        this.#watchers.set(call, call.request.process);
        const end = (): void => {
          this.#watchers.delete(call);
          this.#checkDrained();
        };
        call.on("cancelled", end);
        call.on("close", end);
        call.on("error", end);
        call.write(this.#state());
      },
      getPositions: (call: grpc.ServerUnaryCall<PositionsRequest__Output, Positions>, done: grpc.sendUnaryData<Positions>) => {
        const { flush, databases, primary } = call.request;
        if (primary && this.#store.role !== "primary") {
          this.#askPrimary(databases, ASK_MS).then((positions) => done(null, positions), (error: unknown) => done(statusOf(error)));
          return;
        }
        if (!flush && !primary) return done(null, { positions: this.#positions(databases) });
        this.#store.flushAll(databases).then(() => done(null, { positions: this.#positions(databases) }), (error: unknown) => done(statusOf(error)));
      },
      drained: (call: grpc.ServerUnaryCall<DrainedRequest__Output, DrainedReply>, done: grpc.sendUnaryData<DrainedReply>) => {
        if (call.request.drain === this.#drain) this.#drained.add(call.request.process);
        this.#checkDrained();
        done(null, {});
      },
      waitReplicated: (call: grpc.ServerUnaryCall<WaitReplicatedRequest__Output, WaitReplicatedResponse>, done: grpc.sendUnaryData<WaitReplicatedResponse>) => {
        if (this.#store.role !== "primary") return done(statusOf(new AppError("NOT_PRIMARY", ["any database", "another node"])));
        const { positions, replicas, timeoutMs } = call.request;
        const { reached, cancel } = waitReplicated(this.#acknowledged, positions, replicas, Math.min(timeoutMs, WAIT_MS_MAX));
        call.on("cancelled", cancel);
        void reached.then((count) => done(null, { replicas: count }));
      },
      wait: (call: grpc.ServerUnaryCall<WaitRequest__Output, WaitResponse>, done: grpc.sendUnaryData<WaitResponse>) => this.#wait(call, done),
    };
  }

  #wait(call: grpc.ServerUnaryCall<WaitRequest__Output, WaitResponse>, done: grpc.sendUnaryData<WaitResponse>): void {
    const wanted = call.request.positions as WirePosition[];
    const reached = (): boolean => wanted.every((wire) => hasReached(this.#store.databases.get(wire.database)?.database.position ?? ZERO_POSITION, wire));
    const finish = (outcome: boolean): void => {
      clearTimeout(timer);
      this.#waiting.delete(check);
      done(null, { reached: outcome, positions: this.#positions(wanted.map(({ database }) => database)) });
    };
    const check = (): void => {
      if (reached()) finish(true);
    };
    const timer = setTimeout(() => finish(false), Math.min(call.request.timeoutMs, WAIT_MS_MAX));
    if (reached()) return finish(true);
    this.#waiting.add(check);
    call.on("cancelled", () => {
      clearTimeout(timer);
      this.#waiting.delete(check);
    });
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const call of this.#watchers.keys()) call.end();
  }
}
