/**
 * What the proxy knows about its node: role, primary and positions, from the engine over its unix socket.
 *
 * Always holds: `state()` is what the engine said last, and undefined while there is no engine to ask; the stream is opened again for as long as
 * the view lives. Nothing here throws because the engine is away: it restarts in under a second, and requests can wait that long.
 */
import * as grpc from "@grpc/grpc-js";
import { Coalesced } from "./coalesce.ts";
import { AppError } from "../proto/errors.ts";
import { CHANNEL_OPTIONS, ClusterService, type WirePosition } from "../proto/grpc.ts";
import { NO_MARKS, reachedAll, recentFirst, type Mark, type Marks } from "./positions.ts";

/** Another node, as far as requests are concerned. */
export interface NodeName {
  readonly name: string;
  /** URL of its proxy; empty when it runs none. */
  readonly proxy: string;
}

export interface NodeView {
  readonly self: NodeName;
  readonly role: "primary" | "follower" | "candidate";
  readonly epoch: number;
  readonly primary: NodeName | undefined;
  /** Positions of every replicated database, most recently changed first. */
  readonly positions: Marks;
}

export interface WaitResult {
  readonly reached: boolean;
  /** Where the node was when the wait ended. */
  readonly positions: Marks;
}

/** What the request handling needs of the engine. */
export interface EngineView {
  /** The last known state; undefined while the engine is away. */
  state(): NodeView | undefined;
  /** Positions of this node; with `flush`, after everything committed so far is captured. NODE_UNAVAILABLE when the engine does not answer in time. */
  positions(flush: boolean): Promise<Marks>;
  /** Resolves when the engine is there and every position is reached, or after `timeoutMs`. Never rejects. */
  wait(want: Marks, timeoutMs: number): Promise<WaitResult>;
  /** How many followers have every position: as soon as `replicas` of them have, else after `timeoutMs`. On the primary; NODE_UNAVAILABLE elsewhere. */
  replicated(marks: Marks, replicas: number, timeoutMs: number): Promise<number>;
  /** Positions of the primary, which it named after this call; NODE_UNAVAILABLE when it does not answer in time. */
  primaryPositions(): Promise<Marks>;
  /** Resolves at the next change of the state, or after `timeoutMs`. */
  changed(timeoutMs: number): Promise<void>;
  /** A request that may write has gone to the application of this node; call what is returned when it is over. A handoff waits for that. */
  writeBegins(): () => void;
  /** How many handoffs have had this node drain its writes so far. */
  readonly drains: number;
  close(): void;
}

interface WireNode { name: string; advertise: string; proxy: string; region: string }
interface WireState { self: WireNode | null; role: string; epoch: number; primary: WireNode | null; ready: boolean; connected: boolean; positions: WirePosition[]; validMs: number; drain: number }
interface WireWait { reached: boolean; positions: WirePosition[] }
type Callback<T> = (error: grpc.ServiceError | null, value?: T) => void;
interface ClusterClient extends grpc.Client {
  watch(request: { process: number }, metadata: grpc.Metadata): grpc.ClientReadableStream<WireState>;
  getPositions(request: { flush: boolean; primary: boolean }, options: grpc.CallOptions, done: Callback<{ positions: WirePosition[] }>): void;
  drained(request: { drain: number; process: number }, options: grpc.CallOptions, done: Callback<object>): void;
  wait(request: { positions: WirePosition[]; timeoutMs: number }, options: grpc.CallOptions, done: Callback<WireWait>): void;
  waitReplicated(request: { positions: WirePosition[]; replicas: number; timeoutMs: number }, options: grpc.CallOptions, done: Callback<{ replicas: number }>): void;
}

/** Bounds between two attempts to reach an engine that went away. */
const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 250;
/** What a call may take beyond the time the engine was told, before the proxy stops believing in an answer. */
const GRACE_MS = 250;
const NO_CHECKSUM = Buffer.alloc(8);

export interface EngineViewOptions {
  /** Path of the unix socket. */
  readonly socket: string;
  /** Longest time for one question about positions. */
  readonly timeoutMs: number;
  /** Told when the engine comes and goes. */
  readonly onChange?: (present: boolean) => void;
}

/** Connects to the engine of this node. The first state arrives later; use `wait` with no positions to await it. */
export function connectEngine(options: EngineViewOptions): EngineView {
  return new Connection(options);
}

class Connection implements EngineView {
  readonly #options: EngineViewOptions;
  readonly #client: ClusterClient;
  #state: NodeView | undefined;
  #stream: grpc.ClientReadableStream<WireState> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MS_MIN;
  #closed = false;
  readonly #listeners = new Set<() => void>();
  #doubt: NodeJS.Timeout | undefined;
  #writes = 0;
  /** The drain that the engine waits for; 0: none. */
  #drain = 0;
  #lastDrain = 0;
  drains = 0;
  readonly #flushes = new Coalesced(() => this.#ask({ flush: true, primary: false }));
  readonly #strong = new Coalesced(() => this.#ask({ flush: false, primary: true }));

  constructor(options: EngineViewOptions) {
    this.#options = options;
    this.#client = new ClusterService(`unix:${options.socket}`, grpc.credentials.createInsecure(), {
      ...CHANNEL_OPTIONS, "grpc.initial_reconnect_backoff_ms": RETRY_MS_MIN, "grpc.max_reconnect_backoff_ms": RETRY_MS_MAX,
    }) as unknown as ClusterClient;
    this.#watch();
  }

  state(): NodeView | undefined {
    return this.#state;
  }

  positions(flush: boolean): Promise<Marks> {
    return flush ? this.#flushes.call() : this.#ask({ flush: false, primary: false });
  }

  primaryPositions(): Promise<Marks> {
    return this.#strong.call();
  }

  replicated(marks: Marks, replicas: number, timeoutMs: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#client.waitReplicated({ positions: wirePositions(marks), replicas, timeoutMs }, { deadline: Date.now() + timeoutMs + GRACE_MS }, (error, answer) => {
      if (error !== null || answer === undefined) reject(unavailable(error));
      else resolve(answer.replicas);
    });
    return promise;
  }

  async wait(want: Marks, timeoutMs: number): Promise<WaitResult> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const state = this.#state;
      if (state !== undefined && reachedAll(state.positions, want)) return { reached: true, positions: state.positions };
      const leftMs = Math.ceil(deadline - performance.now());
      if (leftMs <= 0 || this.#closed) return { reached: false, positions: state?.positions ?? NO_MARKS };
      if (state === undefined) {
        await this.changed(leftMs);
        continue;
      }
      try {
        const answer = await this.#askWait(want, leftMs);
        return { reached: answer.reached, positions: marksOf(state.positions, answer.positions) };
      } catch {
        // The engine went away while it was asked; the watch notices too, and the loop goes on with what it says.
        await this.changed(Math.min(leftMs, RETRY_MS_MAX));
      }
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#doubt);
    this.#stream?.cancel();
    this.#client.close();
    this.#tell();
  }

  #watch(): void {
    const stream = (this.#stream = this.#client.watch({ process: process.pid }, new grpc.Metadata({ waitForReady: true })));
    let ended = false;
    const again = (): void => {
      if (ended || this.#closed) return;
      ended = true;
      this.#setState(undefined);
      this.#retry = setTimeout(() => this.#watch(), this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    };
    stream.on("data", (wire: WireState) => {
      this.#retryMs = RETRY_MS_MIN;
      if (wire.drain !== 0 && wire.drain !== this.#lastDrain) this.drains++;
      this.#lastDrain = wire.drain;
      this.#setState(viewOf(this.#state?.positions ?? NO_MARKS, wire));
      this.#believeFor(wire.validMs);
      this.#drain = wire.drain;
      this.#tellDrained();
    });
    stream.on("error", again);
    stream.on("end", again);
  }

  /** A primary whose engine falls silent may be the primary no more: after this time its role is not known. */
  #believeFor(validMs: number): void {
    clearTimeout(this.#doubt);
    if (validMs === 0) return;
    this.#doubt = setTimeout(() => {
      if (this.#state?.role === "primary") this.#setState({ ...this.#state, role: "candidate", primary: undefined });
    }, validMs);
  }

  writeBegins(): () => void {
    this.#writes++;
    let over = false;
    return () => {
      if (over) return;
      over = true;
      this.#writes--;
      this.#tellDrained();
    };
  }

  #tellDrained(): void {
    if (this.#drain === 0 || this.#writes > 0) return;
    // No answer is needed: an engine that does not hear it goes on after a while.
    this.#client.drained({ drain: this.#drain, process: process.pid }, { deadline: Date.now() + this.#options.timeoutMs }, () => undefined);
    this.#drain = 0;
  }

  #setState(state: NodeView | undefined): void {
    const present = this.#state !== undefined;
    this.#state = state;
    if (present !== (state !== undefined)) this.#options.onChange?.(state !== undefined);
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#listeners.add(done);
    });
  }

  #ask(request: { flush: boolean; primary: boolean }): Promise<Marks> {
    const { promise, resolve, reject } = Promise.withResolvers<Marks>();
    this.#client.getPositions(request, { deadline: Date.now() + this.#options.timeoutMs + GRACE_MS }, (error, answer) => {
      if (error !== null || answer === undefined) {
        reject(unavailable(error));
        return;
      }
      const marks = marksOf(this.#state?.positions ?? NO_MARKS, answer.positions);
      // The primary's positions are not this node's.
      if (request.primary) return resolve(marks);
      // Newer than what the stream said: reads that bring this position back find it reached at once.
      if (this.#state !== undefined && reachedAll(marks, this.#state.positions)) this.#state = { ...this.#state, positions: marks };
      resolve(marks);
    });
    return promise;
  }

  #askWait(want: Marks, timeoutMs: number): Promise<WireWait> {
    const { promise, resolve, reject } = Promise.withResolvers<WireWait>();
    this.#client.wait({ positions: wirePositions(want), timeoutMs }, { deadline: Date.now() + timeoutMs + GRACE_MS }, (error, answer) => {
      if (error !== null || answer === undefined) reject(unavailable(error));
      else resolve(answer);
    });
    return promise;
  }
}

function unavailable(error: grpc.ServiceError | null): AppError {
  return new AppError("NODE_UNAVAILABLE", ["the engine", error?.details ?? "it gave no answer"], { cause: error });
}

function wirePositions(marks: Marks): WirePosition[] {
  return [...marks].map(([database, mark]) => ({ database, ...mark, checksum: NO_CHECKSUM }));
}

function marksOf(previous: Marks, positions: readonly WirePosition[]): Marks {
  return recentFirst(previous, positions.map(({ database, epoch, txid }): [string, Mark] => [database, { epoch, txid }]));
}

/** A role that this release does not know counts as "candidate": it serves reads and writes nothing. */
function viewOf(previous: Marks, wire: WireState): NodeView {
  return {
    self: { name: wire.self?.name ?? "", proxy: wire.self?.proxy ?? "" },
    role: wire.role === "primary" || wire.role === "follower" ? wire.role : "candidate",
    epoch: wire.epoch,
    primary: wire.primary === null ? undefined : { name: wire.primary.name, proxy: wire.primary.proxy },
    positions: marksOf(previous, wire.positions),
  };
}
