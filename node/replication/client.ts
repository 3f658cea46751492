/**
 * The follower's side of replication: one stream from the primary, kept alive; what arrives is applied, acknowledged, and mended where it
 * does not fit.
 *
 * Always holds: transactions of one database are applied in the order they came, those of different databases side by side; what waits to be
 * applied is bounded, then the stream is paused; a database that a snapshot is on its way for ignores the stream until it is there. Nothing is
 * replaced before it is verified. A lost connection is made anew for ever, with a growing pause.
 */
import * as grpc from "@grpc/grpc-js";
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { splitAddress } from "../core/config.ts";
import { passedBy } from "../core/garbage.ts";
import { FOLLOWER_QUEUE_BYTES_MAX, LOG_MEMORY_BYTES_MAX } from "../core/limits.ts";
import { files } from "../io/files.ts";
import { Prepared } from "./prepared.ts";
import { diskOf, whyNoRoom } from "../store/room.ts";
import { SnapshotTarget } from "../store/snapshot-target.ts";
import type { Store } from "../store/store.ts";
import type { Follower } from "../store/follower.ts";
import { commonAncestor, isStalePrimary, type EpochHistory } from "../store/epoch-history.ts";
import { pageNumbers, rewind } from "./rewind.ts";
import { historiesOf, historyOf, toWireHistory } from "./wire-history.ts";
import { AppError, isAppError } from "../../proto/errors.ts";
import { receivePages } from "./bulk-receive.ts";
import { WayUp, type FollowStream } from "./link-follower.ts";
import { CHANNEL_OPTIONS, PROTOCOL_VERSION, ReplicationService, fromWire, toWire, type WirePosition } from "../../proto/grpc.ts";
import { ZERO_POSITION, hasReached, samePosition, type Position } from "../../proto/position.ts";
import type { FollowDown__Output } from "../../proto/gen/sluice/v1/FollowDown.ts";
import type { Hello } from "../../proto/gen/sluice/v1/Hello.ts";
import type { NodeRef, NodeRef__Output } from "../../proto/gen/sluice/v1/NodeRef.ts";
import type { Positions__Output } from "../../proto/gen/sluice/v1/Positions.ts";
import type { PositionsRequest } from "../../proto/gen/sluice/v1/PositionsRequest.ts";
import type { SnapshotBegin__Output } from "../../proto/gen/sluice/v1/SnapshotBegin.ts";
import type { SnapshotChunk__Output } from "../../proto/gen/sluice/v1/SnapshotChunk.ts";
import type { NeedSnapshot__Output } from "../../proto/gen/sluice/v1/NeedSnapshot.ts";
import type { Transactions__Output } from "../../proto/gen/sluice/v1/Transactions.ts";
import type { Welcome__Output } from "../../proto/gen/sluice/v1/Welcome.ts";

export interface ClientOptions {
  readonly store: Store;
  /** gRPC address of the primary. */
  readonly address: string;
  readonly self: NodeRef;
  readonly nodeId: string;
  clusterId(): string;
  /** The first primary that this node meets makes it a member of its cluster. */
  adoptClusterId(id: string): void;
  /** The newest epoch of any primary that this node has known, whatever its databases say. */
  seenEpoch(): number;
  sawEpoch(epoch: number): void;
  onChange(): void;
  /** The primary has given the lease up for this node. */
  onTakeLease(): void;
  report(level: "info" | "warn" | "error", message: string, error?: unknown): void;
}

interface Incoming {
  /** Pieces of the transaction file that is just arriving. */
  pieces: Buffer[];
  bytes: number;
  spill: { fd: number; path: string; written: number } | undefined;
  /** A snapshot is under way: the stream is ignored. */
  snapshot: boolean;
  /** The snapshot replaces everything that is here, whatever it is. */
  anew: boolean;
  /** Why the last attempt to take it failed. */
  failure: unknown;
  /** The newest transaction that the primary says both have. */
  ancestor: { readonly epoch: number; readonly txid: number } | undefined;
}

interface ReplicationStub extends grpc.Client {
  follow(): FollowStream;
  snapshot(request: object): grpc.ClientReadableStream<SnapshotChunk__Output>;
  positions(request: PositionsRequest, options: grpc.CallOptions, done: (error: grpc.ServiceError | null, value?: Positions__Output) => void): void;
}

const BACKOFF_MS = [50, 100, 200, 500, 1_000, 2_000];
const SILENCE_MS_MAX = 10_000;
const DAMAGE_CHECK_MS = 1_000;
/** How long the primary may take to say where it stands. */
const POSITIONS_MS = 10_000;
const REFETCH_LOOK_MS = 10;

export class ReplicationClient {
  readonly #options: ClientOptions;
  readonly #client: ReplicationStub;
  readonly #incoming = new Map<string, Incoming>();
  readonly #prepared: Prepared;
  readonly #primaryPositions = new Map<string, Position>();
  /** Epoch histories as the primary told them. */
  readonly #histories = new Map<string, EpochHistory>();
  #primaryId = "";
  readonly #behindSince = new Map<string, number>();
  #stream: WayUp | undefined;
  #queuedBytes = 0;
  /** Applies and snapshots that are under way. */
  readonly #running = new Set<Promise<void>>();
  #attempt = 0;
  #closed = false;
  #lastHeardMs = 0;
  /** False after a bulk connection brought nothing: something between the nodes lets only HTTP/2 through. Until the next stream. */
  #bulk = true;
  #retry: NodeJS.Timeout | undefined;
  readonly #watchdog: NodeJS.Timeout;
  readonly #healer: NodeJS.Timeout;
  /** The primary as it introduced itself; undefined before the first contact. */
  primary: NodeRef__Output | undefined;
  epoch = 0;
  connected = false;
  /** Every database has once reached the position that the primary named. */
  ready = false;
  #readyTargets: Map<string, Position> | undefined;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#prepared = new Prepared({
      followerOf: (name) => options.store.followerOf(name), send: (...messages) => this.#stream?.write(...messages), ack: ({ database }) => ({ ack: toWire(database.name, database.position) }),
      epoch: () => this.epoch,
      historyOf: (name) => this.#histories.get(name),
      resend: (name) => {
        if (!this.snapshotting(name)) this.#subscribe(name);
      },
      report: (message, error) => options.report("warn", message, error),
    });
    this.#client = new ReplicationService(options.address, grpc.credentials.createInsecure(), CHANNEL_OPTIONS) as unknown as ReplicationStub;
    this.#watchdog = setInterval(() => this.#checkSilence(), 1_000);
    this.#healer = setInterval(() => void this.#healAll(), DAMAGE_CHECK_MS);
    options.store.onChange((database) => {
      this.#noteLag(database.name);
      this.#checkReady();
    });
    void this.#begin();
  }

  async #begin(): Promise<void> {
    for (const [name, { follower, database }] of this.#options.store.databases) {
      if (follower === undefined || database.distrust === undefined) continue;
      this.#options.report("warn", `Reading "${name}" to be sure of it: ${database.distrust}`);
      if (await follower.resolveDistrust()) this.#options.report("info", `"${name}" is at a known position`);
    }
    if (!this.#closed) this.#connect();
  }

  hello(): Hello {
    const databases = [...this.#options.store.databases.values()].map(({ database }) => database).filter(({ position, distrust }) => position.txid > 0 && distrust === undefined);
    const tails = [...this.#options.store.databases.keys()].flatMap((name) => {
      const { tail } = this.#options.store.storedPosition(name);
      return tail === undefined ? [] : [{ position: toWire(name, tail.position), serial: tail.serial }];
    });
    return {
      version: PROTOCOL_VERSION, clusterId: this.#options.clusterId(), nodeId: this.#options.nodeId, node: this.#options.self,
      positions: databases.map((database) => toWire(database.name, database.position)), histories: databases.map((database) => toWireHistory(database.name, database.epochs)), tails,
    };
  }

  #connect(): void {
    this.#bulk = true;
    this.#lastHeardMs = Date.now();
    const stream = new WayUp(this.#client.follow(), {
      onMessage: (message) => {
        this.#lastHeardMs = Date.now();
        this.#receive(message).catch((error: unknown) => {
          this.#options.report("error", "A message of the primary could not be used", error);
          stream.cancel();
        });
      },
      onLost: (error) => this.#disconnected(error),
    });
    this.#stream = stream;
    stream.write({ hello: this.hello() });
  }

  #disconnected(error: grpc.ServiceError | undefined): void {
    const was = this.connected;
    this.connected = false;
    this.#stream = undefined;
    for (const incoming of this.#incoming.values()) this.#dropPieces(incoming);
    this.#prepared.reset();
    if (this.#closed) return;
    const refused = error?.metadata?.get("sluice-code")[0];
    if (refused !== undefined && refused !== "NOT_PRIMARY") this.#options.report("error", `${error!.details}`);
    else if (was || this.#attempt === 3) this.#options.report("warn", `No stream from ${this.#options.address}: ${error?.details ?? "it was ended"}; trying again`);
    const delay = BACKOFF_MS[Math.min(this.#attempt++, BACKOFF_MS.length - 1)]!;
    this.#retry = setTimeout(() => this.#connect(), delay);
    this.#options.onChange();
  }

  #checkSilence(): void {
    if (this.#stream !== undefined && Date.now() - this.#lastHeardMs > SILENCE_MS_MAX) this.#stream.cancel();
  }

  async #receive(message: FollowDown__Output): Promise<void> {
    if (message.welcome !== null && message.welcome !== undefined) this.#welcome(message.welcome);
    else if (message.transactions !== null && message.transactions !== undefined) this.#transactions(message.transactions);
    else if (message.prepare !== null && message.prepare !== undefined) await this.#prepared.prepare(message.prepare);
    else if (message.confirm !== null && message.confirm !== undefined) await this.#prepared.confirm(message.confirm);
    else if (message.rewind !== null && message.rewind !== undefined) await this.#prepared.rewind(message.rewind);
    else if (message.needSnapshot !== null && message.needSnapshot !== undefined) {
      this.#options.report("info", `Snapshot of "${message.needSnapshot.database}": ${message.needSnapshot.reason}`);
      this.#needSnapshot(message.needSnapshot);
    } else if (message.takeLease !== null && message.takeLease !== undefined) {
      this.#options.onTakeLease();
    } else if (message.heartbeat !== null && message.heartbeat !== undefined) {
      for (const wire of message.heartbeat.positions) this.#primaryAt(wire as WirePosition);
    }
  }

  #welcome(welcome: Welcome__Output): void {
    if (welcome.version !== PROTOCOL_VERSION) throw new AppError("FOREIGN_VERSION", [welcome.node?.name ?? this.#options.address, welcome.version, PROTOCOL_VERSION]);
    const own = this.#options.clusterId();
    if (own === "") this.#options.adoptClusterId(welcome.clusterId);
    else if (own !== welcome.clusterId) throw new AppError("FOREIGN_CLUSTER", [welcome.node?.name ?? this.#options.address, welcome.clusterId, own]);
    const { store } = this.#options;
    const seen = Math.max(this.epoch, this.#options.seenEpoch(), store.highestEpoch());
    if (isStalePrimary(welcome.epoch, seen)) throw new AppError("STALE_EPOCH", [welcome.node?.name ?? this.#options.address, welcome.epoch, seen]);
    this.#options.sawEpoch(welcome.epoch);
    this.primary = welcome.node ?? undefined;
    this.epoch = welcome.epoch;
    this.#primaryId = welcome.nodeId;
    if (welcome.link.length > 0) this.#stream?.openLink(splitAddress(this.#options.address), welcome.link);
    for (const [name, history] of historiesOf(welcome.histories)) this.#histories.set(name, history);
    this.connected = true;
    this.#attempt = 0;
    for (const wire of welcome.positions) this.#primaryAt(wire as WirePosition);
    this.#readyTargets ??= new Map(welcome.positions.map((wire) => [wire.database, fromWire(wire as WirePosition)]));
    this.#options.report("info", `Following ${this.primary?.name ?? this.#options.address} in epoch ${this.epoch}`);
    const named = new Set(welcome.positions.map(({ database }) => database));
    for (const [name, { database, follower }] of store.databases) {
      // Begun in an older epoch, and never seen by whoever was elected since.
      if (follower !== undefined && !named.has(name) && database.position.txid > 0 && !database.deleted && database.position.epoch < welcome.epoch) void this.#abandon(name, follower, 0);
    }
    this.#checkReady();
    this.#options.onChange();
  }

  #primaryAt(wire: WirePosition): void {
    const position = fromWire(wire);
    this.#primaryPositions.set(wire.database, position);
    const own = this.#options.store.databases.get(wire.database);
    const have = own?.database.position;
    // The same transaction and the same state in another epoch (the primary began one and has committed nothing since): nothing will be sent for it.
    if (own?.follower !== undefined && have !== undefined && have.txid > 0 && have.txid === position.txid && have.checksum === position.checksum && have.epoch < position.epoch) {
      own.database.followEpoch(this.#histories.get(wire.database) ?? []);
      this.#ack(own.follower);
    }
    this.#noteLag(wire.database);
  }

  #noteLag(name: string): void {
    const target = this.#primaryPositions.get(name);
    const have = this.#options.store.databases.get(name)?.database.position ?? ZERO_POSITION;
    if (target === undefined || hasReached(have, target)) this.#behindSince.delete(name);
    else if (!this.#behindSince.has(name)) this.#behindSince.set(name, Date.now());
  }

  #checkReady(): void {
    if (this.ready || this.#readyTargets === undefined) return;
    for (const [name, target] of this.#readyTargets) {
      const database = this.#options.store.databases.get(name)?.database;
      if (database === undefined || database.distrust !== undefined || !hasReached(database.position, target)) return;
    }
    this.ready = true;
    this.#options.onChange();
  }

  /** How far behind this node is, ms; undefined before the first contact. A lost connection counts from the last word of the primary. */
  lagMs(name?: string): number | undefined {
    if (this.primary === undefined) return undefined;
    const now = Date.now();
    const silent = this.connected ? 0 : now - this.#lastHeardMs;
    const since = name === undefined ? Math.min(...this.#behindSince.values(), Infinity) : (this.#behindSince.get(name) ?? Infinity);
    return Math.max(silent, since === Infinity ? 0 : now - since);
  }

  lagTransactions(name: string): number {
    const have = this.#options.store.databases.get(name)?.database.position.txid ?? 0;
    return Math.max(0, (this.#primaryPositions.get(name)?.txid ?? 0) - have);
  }

  snapshotting(name: string): boolean {
    return this.#incoming.get(name)?.snapshot ?? false;
  }

  #of(name: string): Incoming {
    let incoming = this.#incoming.get(name);
    if (incoming === undefined) this.#incoming.set(name, (incoming = { pieces: [], bytes: 0, spill: undefined, snapshot: false, anew: false, failure: undefined, ancestor: undefined }));
    return incoming;
  }

  #dropPieces(incoming: Incoming): void {
    incoming.pieces = [];
    incoming.bytes = 0;
    if (incoming.spill === undefined) return;
    fs.closeSync(incoming.spill.fd);
    files.unlink("receive:drop", incoming.spill.path);
    incoming.spill = undefined;
  }

  #transactions(piece: Transactions__Output): void {
    const incoming = this.#of(piece.database);
    if (piece.history !== null && piece.history !== undefined) this.#histories.set(piece.database, historyOf(piece.history));
    if (incoming.snapshot) return;
    incoming.pieces.push(piece.data);
    incoming.bytes += piece.data.length;
    passedBy(2 * piece.data.length);
    if (incoming.bytes > LOG_MEMORY_BYTES_MAX) this.#spill(piece.database, incoming);
    if (!piece.last) return;
    const { bytes } = incoming;
    let ltx: Buffer | { path: string; size: number };
    if (incoming.spill === undefined) {
      ltx = incoming.pieces.length === 1 ? incoming.pieces[0]! : Buffer.concat(incoming.pieces);
    } else {
      this.#spill(piece.database, incoming);
      fs.closeSync(incoming.spill.fd);
      ltx = { path: incoming.spill.path, size: bytes };
      incoming.spill = undefined;
    }
    incoming.pieces = [];
    incoming.bytes = 0;
    this.#queuedBytes += bytes;
    if (this.#queuedBytes > FOLLOWER_QUEUE_BYTES_MAX) this.#stream?.pause();
    const applied = this.#apply(piece, ltx).finally(() => {
      this.#queuedBytes -= bytes;
      if (this.#queuedBytes <= FOLLOWER_QUEUE_BYTES_MAX / 2) this.#stream?.resume();
      this.#running.delete(applied);
    });
    this.#running.add(applied);
  }

  #spill(name: string, incoming: Incoming): void {
    if (incoming.spill === undefined) {
      const folder = this.#options.store.logFolder(name);
      files.mkdir("receive:folder", folder);
      const path = `${folder}/received.part`;
      incoming.spill = { fd: files.open("receive:open", path, "w"), path, written: 0 };
    }
    for (const data of incoming.pieces) {
      files.write("receive:write", incoming.spill.fd, data, 0, data.length, incoming.spill.written);
      incoming.spill.written += data.length;
    }
    incoming.pieces = [];
  }

  async #apply(piece: Transactions__Output, ltx: Buffer | { path: string; size: number }): Promise<void> {
    const name = piece.database;
    try {
      if (this.#closed) return;
      const follower = await this.#options.store.followerOf(name);
      if (this.#of(name).snapshot || this.#closed) return;
      await follower.apply(ltx, piece.epoch, piece.owner ?? undefined, this.#histories.get(name));
      this.#ack(follower);
    } catch (error) {
      if (this.#of(name).snapshot || this.#closed) return;
      if (isAppError(error, "STALE_EPOCH")) {
        this.#options.report("error", error.message);
        this.#stream?.cancel();
        return;
      }
      if (isAppError(error, "STORAGE_FULL")) {
        this.#options.report("warn", error.message);
        // Nothing was kept: the same transactions are asked for again, when there may be space.
        setTimeout(() => this.#subscribe(name), 1_000);
        return;
      }
      this.#options.report("warn", `${(error as Error).message}; taking a snapshot`, isAppError(error) ? undefined : error);
      this.#snapshot(name);
    }
  }

  #ack(follower: Follower): void {
    this.#stream?.write({ ack: toWire(follower.database.name, follower.database.position) });
  }

  #subscribe(name: string): void {
    const database = this.#options.store.databases.get(name)?.database;
    this.#stream?.write({ subscribe: { after: toWire(name, database?.position ?? ZERO_POSITION), history: toWireHistory(name, database?.epochs ?? []) } });
  }

  #needSnapshot({ database, history, ancestor }: NeedSnapshot__Output): void {
    this.#histories.set(database, historyOf(history));
    this.#of(database).ancestor = ancestor === null ? undefined : { epoch: ancestor.epoch, txid: ancestor.txid };
    this.#snapshot(database);
  }

  /**
   * The newest transaction that this node and the primary have, when this node has more: found from both histories, and what the primary says of
   * it. Undefined when everything here is the primary's history too.
   */
  #divergedAfter(name: string, follower: Follower): { readonly epoch: number; readonly txid: number } | undefined {
    const { position, epochs } = follower.database;
    const history = this.#histories.get(name);
    if (position.txid === 0 || history === undefined || history.length === 0) return undefined;
    const found = commonAncestor({ history: epochs, txid: position.txid }, { history, txid: Number.MAX_SAFE_INTEGER });
    const said = this.#of(name).ancestor;
    const ancestor = said !== undefined && said.txid < found.txid ? said : found;
    return ancestor.txid < position.txid ? ancestor : undefined;
  }

  #keepDiverged(follower: Follower, ancestor: { readonly epoch: number; readonly txid: number }, reason: string): ReturnType<Store["keepDiverged"]> {
    return this.#options.store.keepDiverged(follower, { ancestor, reason, primary: { name: this.primary?.name ?? this.#options.address, id: this.#primaryId, epoch: this.epoch } });
  }

  /** A database that the primary does not have: kept, then it leaves this node. Tried again until there is space for it. */
  async #abandon(name: string, follower: Follower, attempt: number): Promise<void> {
    try {
      await this.#keepDiverged(follower, { epoch: 0, txid: 0 }, "the database was made here in an older epoch and never reached the primary");
      if (this.#options.store.databases.get(name)?.follower === follower && !this.#closed) await this.#options.store.forget(name);
    } catch (error) {
      this.#options.report("warn", `"${name}" cannot be kept in diverged/ and stays: ${(error as Error).message}`);
      setTimeout(() => void (this.#closed || this.#abandon(name, follower, attempt + 1)), BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)]).unref();
    }
    this.#options.onChange();
  }

  #snapshot(name: string): void {
    const incoming = this.#of(name);
    if (incoming.snapshot) return;
    incoming.snapshot = true;
    this.#dropPieces(incoming);
    this.#options.onChange();
    const again = async (attempt: number): Promise<void> => {
      try {
        incoming.failure = undefined;
        await this.#takeSnapshot(name);
        incoming.snapshot = false;
        incoming.anew = false;
        incoming.ancestor = undefined;
        this.#subscribe(name);
        this.#checkReady();
        this.#options.onChange();
      } catch (error) {
        if (this.#closed) return;
        incoming.failure = error;
        // A repair for which there is no room is given up, as long as nothing here was touched: the node follows with what it has.
        if (incoming.anew && isAppError(error, "REPAIR_NO_SPACE") && this.#options.store.databases.get(name)?.database.pendingInstall === undefined) {
          incoming.snapshot = false;
          incoming.anew = false;
          this.#subscribe(name);
          this.#options.onChange();
          return;
        }
        this.#options.report("warn", `Snapshot of "${name}" did not complete and goes on: ${(error as Error).message}`);
        setTimeout(() => run(attempt + 1), BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)]);
      }
    };
    const run = (attempt: number): void => {
      if (this.#closed) return;
      const running = again(attempt).finally(() => this.#running.delete(running));
      this.#running.add(running);
    };
    run(0);
  }

  /**
   * Takes a database anew from the primary, whatever is here: the old files and the log go to `aside/`. Resolves when it is there; rejects when this node
   * has no stream, the primary has no such database, this node ceases to follow before it is there, or the disk is full: if something has been
   * replaced by then, that goes on by itself.
   */
  async refetch(name: string): Promise<void> {
    if (!this.connected) throw new AppError("REPAIR_REFUSED", [name, `this node has no stream from the primary (${this.#options.address}) now`]);
    // One that is new there comes before anybody says where it stands.
    if (!this.#primaryPositions.has(name)) for (const position of (await this.primaryPositions([name], POSITIONS_MS)).positions) this.#primaryAt(position);
    if (!this.#primaryPositions.has(name)) throw new AppError("DATABASE_NOT_FOUND", [name]);
    const incoming = this.#of(name);
    const ended = async (): Promise<void> => {
      while (incoming.snapshot && !this.#closed) {
        if (isAppError(incoming.failure, "STORAGE_FULL")) throw new AppError("REPAIR_NO_SPACE", [name, `${diskOf(this.#options.store.logFolder(name)).name} is full (${incoming.failure.message}); what has come so far is kept`], { cause: incoming.failure });
        if (isAppError(incoming.failure, "REPAIR_NO_SPACE")) throw incoming.failure;
        await sleep(REFETCH_LOOK_MS);
      }
      if (isAppError(incoming.failure, "REPAIR_NO_SPACE")) throw incoming.failure;
      if (this.#closed) throw new AppError("REPAIR_REFUSED", [name, "this node has ceased to follow the primary from which it was being taken"]);
    };
    incoming.failure = undefined;
    const isUnderWay = incoming.snapshot && incoming.anew;
    await ended();
    if (isUnderWay) return;
    incoming.anew = true;
    this.#snapshot(name);
    await ended();
  }

  async #takeSnapshot(name: string): Promise<void> {
    const follower = await this.#options.store.followerOf(name);
    const { anew } = this.#of(name);
    const ancestor = this.#divergedAfter(name, follower);
    const history = this.#histories.get(name) ?? [];
    if (ancestor !== undefined) {
      const pages = await this.#keepDiverged(follower, ancestor, `the history of the primary parts from this node's after transaction ${ancestor.txid}`);
      const came = pages === undefined || anew ? undefined : await rewind({ follower, ancestor, pages, history, ask: (request) => this.#client.snapshot({ hello: this.hello(), ...request }) });
      if (came !== undefined) return this.#options.report("info", `"${name}" went back to transaction ${ancestor.txid} and took over the primary's state: ${came} pages`);
    }
    const folder = follower.database.paths.log;
    const interrupted = SnapshotTarget.interrupted(folder);
    const call = this.#client.snapshot({
      hello: this.hello(), database: name, fromPage: interrupted?.nextPage ?? 1, resumeBase: interrupted === undefined ? null : toWire(name, interrupted.base),
      pages: interrupted?.missing ?? [], bulk: this.#bulk,
    });
    const ended = new AbortController();
    call.on("error", () => ended.abort());
    call.once("status", () => ended.abort());
    let target: SnapshotTarget | undefined;
    let pieces: Buffer[] = [];
    try {
      for await (const chunk of call as AsyncIterable<SnapshotChunk__Output>) {
        if (chunk.begin !== null && chunk.begin !== undefined) {
          if (anew) this.#mustHaveRoom(name, follower, chunk.begin);
          target = await SnapshotTarget.open(folder, { ...chunk.begin, base: fromWire(chunk.begin.base as WirePosition), ownership: chunk.begin.owner ?? undefined });
          if (chunk.begin.bulk.length > 0) await this.#receiveBulk(target, chunk.begin, ended.signal);
        } else if (target === undefined) {
          throw new AppError("INVALID_MESSAGE", ["SnapshotChunk", "pages before the beginning"]);
        } else if (chunk.pages !== null && chunk.pages !== undefined) {
          target.addPages(pageNumbers(chunk.pages, target.pageSize), chunk.pages.data);
        } else if (chunk.transactions !== null && chunk.transactions !== undefined) {
          pieces.push(chunk.transactions.data);
          if (chunk.transactions.last) {
            target.addTransaction(Buffer.concat(pieces));
            pieces = [];
          }
        } else if (chunk.end !== null && chunk.end !== undefined) {
          const whole: SnapshotTarget = target;
          target = undefined;
          const finished = await whole.finish(fromWire(chunk.end.end as WirePosition));
          await follower.installSnapshot({ ...finished, history, keepLogTo: anew ? -1 : (ancestor?.txid ?? -1), anew });
          this.#options.report("info", `Snapshot of "${name}" installed: ${finished.sums.pageCount} pages`);
          return;
        }
      }
      throw new AppError("NODE_UNAVAILABLE", [this.#options.address, "the snapshot ended early"]);
    } catch (error) {
      call.cancel();
      if (isAppError(error, "LOG_GONE")) await target?.discard();
      else await target?.suspend();
      throw error;
    }
  }

  #mustHaveRoom(name: string, follower: Follower, { pageCount, pageSize }: SnapshotBegin__Output): void {
    const disk = diskOf(this.#options.store.logFolder(name));
    const why = whyNoRoom(disk, follower.repairBytes(pageCount * pageSize, disk.sharesBlocks));
    if (why !== undefined) throw new AppError("REPAIR_NO_SPACE", [name, why]);
  }

  async #receiveBulk(target: SnapshotTarget, begin: SnapshotBegin__Output, signal: AbortSignal): Promise<void> {
    const before = target.writtenPages;
    try {
      await receivePages({ ...splitAddress(this.#options.address), token: begin.bulk, pageCount: begin.pageCount, signal }, target);
    } catch (error) {
      if (target.writtenPages === before && isAppError(error, "NODE_UNAVAILABLE")) this.#bulk = false;
      throw error;
    }
  }

  /** Looks for damage by raw writes and fetches what is wrong from the primary. */
  async #healAll(): Promise<void> {
    for (const [name, { follower }] of this.#options.store.databases) {
      if (follower?.replica === undefined || this.snapshotting(name) || !follower.needsLook) continue;
      try {
        const damaged = await follower.findDamage();
        if (damaged.length === 0) continue;
        this.#options.report("error", `"${name}" was changed past SQLite's locks: ${damaged.length} pages are not what the primary wrote (page ${damaged[0]!} first); fetching them`);
        if (!this.connected) continue;
        const healed = await follower.heal(await this.#fetchPages(name, damaged));
        this.#options.report(healed === damaged.length ? "info" : "warn", `"${name}": ${healed} of ${damaged.length} damaged pages are healed`);
      } catch (error) {
        this.#options.report("warn", `Healing of "${name}" failed and is tried again`, error);
      }
    }
  }

  async #fetchPages(name: string, numbers: readonly number[]): Promise<Map<number, Buffer>> {
    const call = this.#client.snapshot({ hello: this.hello(), database: name, fromPage: 0, pages: numbers });
    const pages = new Map<number, Buffer>();
    let pageSize = 0;
    for await (const chunk of call as AsyncIterable<SnapshotChunk__Output>) {
      if (chunk.begin !== null && chunk.begin !== undefined) ({ pageSize } = chunk.begin);
      const run = chunk.pages;
      if (run !== null && run !== undefined) pageNumbers(run, pageSize).forEach((pgno, index) => pages.set(pgno, run.data.subarray(index * pageSize, (index + 1) * pageSize)));
    }
    return pages;
  }

  /** Whether this node is exactly where the primary last said it is. */
  caughtUp(name: string): boolean {
    const target = this.#primaryPositions.get(name);
    const have = this.#options.store.databases.get(name)?.database.position;
    return target !== undefined && have !== undefined && samePosition(target, have);
  }

  /** Where the primary is now, asked after this call. NODE_UNAVAILABLE when it does not answer in time or is the primary no more. */
  primaryPositions(databases: readonly string[], timeoutMs: number): Promise<Positions__Output> {
    const { promise, resolve, reject } = Promise.withResolvers<Positions__Output>();
    this.#client.positions({ flush: true, databases: [...databases] }, { deadline: Date.now() + timeoutMs }, (error, value) => {
      if (error === null && value !== undefined) resolve(value);
      else reject(new AppError("NODE_UNAVAILABLE", [`the primary at ${this.#options.address}`, error?.details ?? "it gave no answer"], { cause: error }));
    });
    return promise;
  }

  /** Where it connects to. */
  get address(): string {
    return this.#options.address;
  }

  /** Ends the stream; resolves when nothing of what it brought is being applied any more. What is only queued is dropped: it was not acknowledged. */
  async end(): Promise<void> {
    this.close();
    await Promise.allSettled([...this.#running]);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearInterval(this.#watchdog);
    clearInterval(this.#healer);
    this.#stream?.cancel();
    this.#client.close();
  }
}
