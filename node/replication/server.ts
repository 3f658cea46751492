/**
 * The primary's side of replication: one session for each follower's stream, and snapshots.
 *
 * Always holds: a session keeps no transaction in memory; it has a cursor per database and reads the log as fast as its follower takes it, so a
 * follower that is slow, stopped or gone costs at most one message queue (FOLLOWER_QUEUE_BYTES_MAX) and never delays a commit. A foreign
 * cluster or protocol version is refused by name before anything is sent.
 */
import * as grpc from "@grpc/grpc-js";
import fs from "node:fs";
import { setImmediate as nextTick } from "node:timers/promises";
import { passedBy } from "../core/garbage.ts";
import { STREAM_PIECE_BYTES } from "../core/limits.ts";
import type { Database } from "../store/database.ts";
import { epochAt, type EpochHistory } from "../store/epoch-history.ts";
import { SnapshotSource } from "../store/snapshot-source.ts";
import { ownershipOf } from "../store/ownership.ts";
import type { Store } from "../store/store.ts";
import type { LogEntry } from "../store/tx-log.ts";
import { AppError, isAppError } from "../../proto/errors.ts";
import { PROTOCOL_VERSION, fromWire, toWire, type WirePosition } from "../../proto/grpc.ts";
import { formatPosition, hasReached, ZERO_POSITION, type Position } from "../../proto/position.ts";
import type { FollowDown } from "../../proto/gen/sluice/v1/FollowDown.ts";
import type { FollowUp__Output } from "../../proto/gen/sluice/v1/FollowUp.ts";
import type { Hello__Output } from "../../proto/gen/sluice/v1/Hello.ts";
import type { NodeRef, NodeRef__Output } from "../../proto/gen/sluice/v1/NodeRef.ts";
import type { Positions } from "../../proto/gen/sluice/v1/Positions.ts";
import type { PositionsRequest__Output } from "../../proto/gen/sluice/v1/PositionsRequest.ts";
import type { SnapshotChunk } from "../../proto/gen/sluice/v1/SnapshotChunk.ts";
import type { SnapshotRequest__Output } from "../../proto/gen/sluice/v1/SnapshotRequest.ts";
import { encodeSnapshotPages } from "../../proto/snapshot-pages.ts";
import { historiesOf, historyOf, toWireHistory } from "./wire-history.ts";
import { planStream } from "./stream-plan.ts";
import { Proposals } from "./proposals.ts";
import { Quorum } from "./quorum.ts";
import type { BulkDoor, Expected } from "./bulk-door.ts";
import { sendPages } from "./bulk-send.ts";
import { WayDown, type FollowCall } from "./link-primary.ts";

export interface ServerIdentity {
  readonly self: NodeRef;
  readonly nodeId: string;
  /** Made on the first start of a primary; never empty here. */
  clusterId(): string;
  epoch(): number;
  isPrimary(): boolean;
  /** Commits may be decided: this node is the primary, also while it hands its lease over, until that has moved. */
  mayDecide(): boolean;
}

export interface FollowerView {
  readonly node: NodeRef__Output;
  readonly nodeId: string;
  readonly peer: string;
  readonly connectedSinceMs: number;
  readonly positions: ReadonlyMap<string, Position>;
}

/** Fewer bytes of pages than this are not worth a connection of their own. */
const BULK_BYTES_MIN = 16 << 20;
const HEARTBEAT_MS = 1_000;

export class ReplicationServer {
  readonly #store: Store;
  readonly #identity: ServerIdentity;
  readonly #report: (message: string, error: unknown) => void;
  readonly #sessions = new Set<Session>();
  readonly #ackListeners = new Set<() => void>();
  /** Where the store takes proposals of databases with durability sync. */
  readonly quorum = new Quorum(() => [...this.#sessions].filter((session) => session.hello !== undefined), () => this.#identity.mayDecide());

  readonly #door: BulkDoor | undefined;

  readonly #links: boolean;

  /** Without a door, pages of snapshots travel in the gRPC calls. `links`: streams go on over links, where followers open them. */
  constructor(store: Store, identity: ServerIdentity, report: (message: string, error: unknown) => void, door?: BulkDoor, links = false) {
    this.#links = links;
    this.#store = store;
    this.#identity = identity;
    this.#report = report;
    this.#door = door;
    store.onChange((database) => {
      for (const session of this.#sessions) session.changed(database);
    });
  }

  get followers(): FollowerView[] {
    return [...this.#sessions].filter((session) => session.hello !== undefined).map((session) => session.view());
  }

  /** Calls back after each acknowledgement of a follower. Returns the call that ends it. */
  onAck(listener: () => void): () => void {
    this.#ackListeners.add(listener);
    return () => this.#ackListeners.delete(listener);
  }

  /** The handlers of the gRPC service. */
  handlers(): grpc.UntypedServiceImplementation {
    return {
      follow: (call: FollowCall) => {
        const session = new Session(call, this.#store, this.#identity, {
          quorum: this.quorum, linkDoor: this.#links ? this.#door : undefined, onAck: () => {
            for (const listener of this.#ackListeners) listener();
          },
        }, (error) => this.#report("A follower's stream failed", error));
        this.#sessions.add(session);
        session.ended.finally(() => this.#sessions.delete(session)).catch(() => undefined);
      },
      positions: (call: grpc.ServerUnaryCall<PositionsRequest__Output, Positions>, done: grpc.sendUnaryData<Positions>) => {
        this.#positions(call.request.databases).then((positions) => done(null, positions), (error: unknown) => done(statusOf(error)));
      },
      snapshot: (call: grpc.ServerWritableStream<SnapshotRequest__Output, SnapshotChunk>) => {
        this.#snapshot(call).catch((error: unknown) => {
          if (!isAppError(error)) this.#report("A snapshot failed", error);
          call.emit("error", statusOf(error));
        });
      },
    };
  }

  async #positions(names: readonly string[]): Promise<Positions> {
    const check = (): void => {
      if (!this.#identity.isPrimary()) throw new AppError("NOT_PRIMARY", [names[0] ?? "a database", "another node"]);
    };
    check();
    await this.#store.flushAll(names);
    // Who was the primary before the capture and is it no more may have missed what its successor committed.
    check();
    const entries = names.length > 0 ? names.flatMap((name) => this.#store.databases.get(name) ?? []) : [...this.#store.databases.values()];
    return { positions: entries.filter(({ database }) => database.position.txid > 0).map(({ database }) => toWire(database.name, database.position)) };
  }

  async #snapshot(call: grpc.ServerWritableStream<SnapshotRequest__Output, SnapshotChunk>): Promise<void> {
    const { request } = call;
    checkHello(request.hello, this.#identity);
    if (!this.#identity.isPrimary()) throw new AppError("NOT_PRIMARY", [request.database, "another node"]);
    const known = this.#store.databases.get(request.database);
    if (known?.primary === undefined && known?.database.deleted === true && request.fromPage > 0) return sendDeleted(call, known.database);
    const primary = this.#store.primaryOf(request.database);
    const { database } = primary;
    const resume = request.resumeBase === null ? undefined : fromWire(request.resumeBase as WirePosition);
    const source = await SnapshotSource.begin(primary);
    // A snapshot can go on where it broke off while the log still leads from its base to here, in one page size.
    const resumable = resume !== undefined && request.fromPage > 1 && epochAt(database.epochs, resume.txid) === resume.epoch
      && (resume.txid === source.base.txid || (resume.txid < source.base.txid && database.log.coversFrom(resume.txid + 1)));
    const base = resumable ? resume : source.base;
    const unpin = this.#store.pin(database.name, base.txid + 1);
    let bulk: Expected | undefined;
    try {
      const heal = request.fromPage === 0;
      const fromPage = heal ? 0 : resumable ? request.fromPage : 1;
      let numbers = heal || resumable ? request.pages : [];
      if (request.bulk && !heal && (source.pageCount - fromPage) * source.pageSize >= BULK_BYTES_MIN) bulk = this.#door?.expect();
      await write(call, { begin: { base: toWire(database.name, base), pageSize: source.pageSize, pageCount: source.pageCount, fromPage, owner: source.ownership ?? null, bulk: bulk?.token ?? Buffer.alloc(0) } });
      if (bulk !== undefined) numbers = [...numbers, ...(await sendInBulk(call, bulk, source, fromPage))];
      for await (const message of source.pages({ fromPage: bulk === undefined ? fromPage : 0, numbers }, encodeSnapshotPages)) {
        await write(call, message);
        if (call.cancelled) return;
      }
      const end = await source.end();
      if (!heal) {
        for (let next = base.txid + 1; next <= end.txid; ) {
          const entry = database.log.entryAt(next);
          if (entry === undefined) throw new AppError("LOG_GONE", [database.name, next, database.log.entries[0]?.min ?? 0]);
          await forEachPiece(database, entry, (data, last) => write(call, { transactions: { database: database.name, epoch: end.epoch, minTxid: entry.min, maxTxid: entry.max, data, last } }));
          next = entry.max + 1;
        }
      }
      await write(call, { end: { end: toWire(database.name, entryEnd(database, end)) } });
      call.end();
    } finally {
      bulk?.forget();
      unpin();
    }
  }

  /** Tells a follower that the lease is free for it. */
  announceHandoff(nodeId: string): void {
    for (const session of this.#sessions) if (session.hello?.nodeId === nodeId) session.announceHandoff();
  }

  /** Resolves when a follower has acknowledged these positions; rejects when it is gone, or `signal` is aborted. */
  async confirmed(nodeId: string, positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void> {
    for (;;) {
      const session = [...this.#sessions].find(({ hello }) => hello?.nodeId === nodeId);
      if (session === undefined) throw new AppError("HANDOFF_REFUSED", ["the node that is to take over is not connected"]);
      const { positions: acked } = session.view();
      if ([...positions].every(([name, position]) => hasReached(acked.get(name) ?? ZERO_POSITION, position))) return;
      if (signal.aborted) throw new AppError("HANDOFF_REFUSED", ["the node that is to take over did not confirm in time what this node has"]);
      await session.acknowledged(signal);
    }
  }

  /** Ends all streams: the node stops or is no longer the primary. */
  close(): void {
    this.quorum.refuseAll("the node stops, or is the primary no more");
    for (const session of this.#sessions) session.close();
  }
}

/** A database that was deleted, for a follower that the log does not lead there: the state without a page. */
async function sendDeleted(call: grpc.ServerWritableStream<unknown, SnapshotChunk>, database: Database): Promise<void> {
  const position = toWire(database.name, database.position);
  await write(call, { begin: { base: position, pageSize: database.pageSize, pageCount: 0, fromPage: 1, owner: null, bulk: Buffer.alloc(0) } });
  await write(call, { end: { end: position } });
  call.end();
}

/** Sends the pages from `fromPage` on beside the call; answers those that the follower still needs. */
async function sendInBulk(call: grpc.ServerWritableStream<unknown, SnapshotChunk>, bulk: Expected, source: SnapshotSource, fromPage: number): Promise<readonly number[]> {
  const { promise: cancelled, reject } = Promise.withResolvers<never>();
  cancelled.catch(() => undefined);
  const onCancelled = (): void => reject(new AppError("NODE_UNAVAILABLE", ["the follower", "it ended the call"]));
  call.on("cancelled", onCancelled);
  try {
    const socket = await Promise.race([bulk.connected, cancelled]);
    call.on("cancelled", () => socket.destroy());
    return await sendPages(socket, source, fromPage);
  } finally {
    call.off("cancelled", onCancelled);
  }
}

/** A log entry may reach past the position at which the snapshot was to end; then that is the end. */
function entryEnd(database: Database, end: Position): Position {
  return database.position.txid > end.txid && database.log.entryAt(end.txid)?.max === database.position.txid ? database.position : end;
}

export function checkHello(hello: Hello__Output | null, identity: ServerIdentity): asserts hello is Hello__Output {
  const name = hello?.node?.name ?? "a node without a name";
  if (hello === null) throw new AppError("INVALID_MESSAGE", ["Follow", "it does not begin with a hello"]);
  if (hello.version !== PROTOCOL_VERSION) throw new AppError("FOREIGN_VERSION", [name, hello.version, PROTOCOL_VERSION]);
  if (hello.clusterId !== "" && hello.clusterId !== identity.clusterId()) throw new AppError("FOREIGN_CLUSTER", [identity.self.name ?? "", identity.clusterId(), hello.clusterId]);
}

/** Writes one message and waits while the receiver's window is full. */
async function write(call: grpc.ServerWritableStream<unknown, SnapshotChunk>, chunk: SnapshotChunk | Uint8Array): Promise<void> {
  if (call.cancelled) throw new AppError("NODE_UNAVAILABLE", ["the follower", "it ended the call"]);
  // Bytes are a message that is encoded already: see proto/snapshot-pages.ts.
  if (!call.write(chunk as SnapshotChunk)) await drained(call);
}

/** Resolves when more can be written, or nothing any more. Leaves no listener behind. */
function drained(call: grpc.ServerWritableStream<unknown, SnapshotChunk>): Promise<void> {
  return new Promise((resolve) => {
    const events = ["drain", "cancelled", "close"] as const;
    const done = (): void => {
      for (const event of events) call.off(event, done);
      resolve();
    };
    for (const event of events) call.on(event, done);
  });
}

/** The bytes of a log entry in messages of at most STREAM_PIECE_BYTES. */
export async function forEachPiece(database: Database, entry: LogEntry, send: (data: Buffer, last: boolean) => Promise<void>): Promise<void> {
  const fd = entry.size > STREAM_PIECE_BYTES ? database.log.openEntry(entry) : undefined;
  if (fd === undefined) return send(database.log.read(entry), true);
  try {
    for (let at = 0; at < entry.size; at += STREAM_PIECE_BYTES) {
      const piece = Buffer.allocUnsafe(Math.min(STREAM_PIECE_BYTES, entry.size - at));
      fs.readSync(fd, piece, 0, piece.length, at);
      await send(piece, at + piece.length >= entry.size);
      // gRPC makes two more of it.
      passedBy(3 * piece.length);
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** An error as the other side sees it: the table's status, and its sentence. Emitted on a call, not given to destroy(), which sends no status. */
export function statusOf(error: unknown): Error & Partial<grpc.StatusObject> {
  const metadata = new grpc.Metadata();
  if (isAppError(error)) {
    metadata.set("sluice-code", error.code);
    return Object.assign(new Error(error.message), { code: grpc.status[error.row.grpc], details: error.message, metadata });
  }
  return Object.assign(new Error(String(error)), { code: grpc.status.INTERNAL, details: String(error), metadata });
}

/** One follower's stream. */
class Session {
  readonly ended: Promise<void>;
  hello: Hello__Output | undefined;
  readonly #call: FollowCall;
  readonly #way: WayDown;
  readonly #linkDoor: BulkDoor | undefined;
  readonly #store: Store;
  readonly #identity: ServerIdentity;
  readonly #since = Date.now();
  /** Next transaction to send, by database; absent while a snapshot is awaited. */
  readonly #cursors = new Map<string, number>();
  /** Databases whose snapshot the follower was asked to take; it subscribes when it has it. */
  readonly #awaited = new Set<string>();
  readonly #acked = new Map<string, Position>();
  readonly #onAck = new Set<() => void>();
  /** What leads to the follower's positions. */
  readonly #histories = new Map<string, EpochHistory>();
  /** The history of each database as the follower was told it last. */
  readonly #told = new Map<string, EpochHistory>();
  /** Databases with something to send. */
  readonly #dirty = new Set<string>();
  readonly #beat = new Set<string>();
  #pumping = false;
  #isDue = false;
  #closed = false;
  readonly #timer: NodeJS.Timeout;

  readonly #quorum: Quorum;
  readonly #proposals: Proposals;
  readonly #tellAck: () => void;

  constructor(call: FollowCall, store: Store, identity: ServerIdentity, shared: { quorum: Quorum; linkDoor: BulkDoor | undefined; onAck(): void }, report: (error: unknown) => void) {
    this.#quorum = shared.quorum;
    this.#proposals = new Proposals(shared.quorum);
    this.#tellAck = shared.onAck;
    this.#call = call;
    this.#linkDoor = shared.linkDoor;
    this.#store = store;
    this.#identity = identity;
    this.#timer = setInterval(() => this.#heartbeat(), HEARTBEAT_MS);
    this.ended = new Promise((resolve) => {
      const end = (): void => {
        this.#closed = true;
        clearInterval(this.#timer);
        this.#way.close();
        resolve();
      };
      call.on("end", () => {
        call.end();
        end();
      });
      call.on("cancelled", end);
      call.on("close", end);
      call.on("error", end);
    });
    const failed = (error: unknown): void => {
      if (!isAppError(error)) report(error);
      this.#closed = true;
      call.emit("error", statusOf(error));
    };
    const received = (message: FollowUp__Output): void => {
      try {
        this.#receive(message);
      } catch (error) {
        failed(error);
      }
    };
    this.#way = new WayDown(call, { onMessage: received, onLost: failed });
    call.on("data", received);
  }

  view(): FollowerView {
    const hello = this.hello!;
    return { node: hello.node!, nodeId: hello.nodeId, peer: this.#call.getPeer(), connectedSinceMs: this.#since, positions: this.#acked };
  }

  #receive(message: FollowUp__Output): void {
    if (message.hello !== null && message.hello !== undefined && this.hello === undefined) return this.#welcome(message.hello);
    if (this.hello === undefined) throw new AppError("INVALID_MESSAGE", ["Follow", "it does not begin with a hello"]);
    if (message.ack !== null && message.ack !== undefined) {
      this.#acked.set(message.ack.database, fromWire(message.ack as WirePosition));
      for (const told of this.#onAck) told();
      this.#tellAck();
    } else if (message.stored !== null && message.stored !== undefined) {
      this.#quorum.stored(this.hello.nodeId, message.stored.database, message.stored.serial);
    } else if (message.linked !== null && message.linked !== undefined) {
      this.#way.goOn();
    } else if (message.subscribe?.after !== null && message.subscribe?.after !== undefined) {
      const { after } = message.subscribe;
      this.#awaited.delete(after.database);
      this.#acked.set(after.database, fromWire(after as WirePosition));
      this.#histories.set(after.database, historyOf(message.subscribe.history));
      this.#tellAck();
      const database = this.#store.databases.get(after.database)?.database;
      if (database !== undefined) this.#plan(database, fromWire(after as WirePosition));
      this.#pump();
    }
  }

  #welcome(hello: Hello__Output): void {
    checkHello(hello, this.#identity);
    if (!this.#identity.isPrimary()) throw new AppError("NOT_PRIMARY", ["any database", "another node"]);
    this.hello = hello;
    const databases = [...this.#store.databases.values()].map(({ database }) => database).filter(({ position }) => position.txid > 0);
    this.#send({
      welcome: {
        version: PROTOCOL_VERSION, clusterId: this.#identity.clusterId(), nodeId: this.#identity.nodeId, node: this.#identity.self, epoch: this.#identity.epoch(),
        positions: databases.map((database) => toWire(database.name, database.position)),
        histories: databases.map((database) => toWireHistory(database.name, this.#tell(database)!)),
        link: this.#linkDoor === undefined ? Buffer.alloc(0) : this.#way.expectLink(this.#linkDoor),
      },
    });
    for (const [name, history] of historiesOf(hello.histories)) this.#histories.set(name, history);
    const have = new Map(hello.positions.map((wire) => [wire.database, fromWire(wire as WirePosition)]));
    for (const database of databases) {
      const position = have.get(database.name);
      if (position !== undefined) this.#acked.set(database.name, position);
      this.#plan(database, position ?? ZERO_POSITION);
    }
    for (const { serial } of hello.tails) this.#quorum.heardOf(serial);
    this.#pump();
    if (hello.tails.length > 0) void this.#settleTails(hello.tails);
  }

  /**
   * What the follower has stored and nobody has told it about: committed here, then it is sent; or not, then it was refused, or its commit ended
   * with an earlier engine of this node. Which of the two is known once what is committed here is captured. One that is still undecided was offered again.
   */
  async #settleTails(tails: Hello__Output["tails"]): Promise<void> {
    for (const { position, serial } of tails) {
      const name = position?.database ?? "";
      try {
        await this.#store.flushAll([name]);
        if (this.#quorum.live(name)?.serial === serial) continue;
        // Decided a moment ago, and not yet done: a capture does not wait for that.
        while (this.#store.databases.get(name)?.primary?.isHolding === true && this.#quorum.live(name) === undefined) await nextTick();
        await this.#store.flushAll([name]);
        const known = this.#store.databases.get(name)?.database;
        if (known !== undefined && known.distrust === undefined && known.position.txid < position!.txid) this.#send({ rewind: { database: name, serial } });
      } catch {
        continue; // Not captured, so not known: it stays undecided.
      }
    }
  }

  /** A proposal of this database is live: it is sent in its place. */
  offer(name: string): void {
    if (this.hello === undefined || this.#closed) return;
    const database = this.#store.databases.get(name)?.database;
    if (database !== undefined && !this.#cursors.has(name) && !this.#awaited.has(name)) this.#plan(database, this.#acked.get(name) ?? ZERO_POSITION);
    this.#dirty.add(name);
    if (!this.#pumping) this.#pump();
  }

  rewind(name: string, serial: number): void {
    const message = this.#proposals.rewind(name, serial);
    if (message !== undefined) this.#send(message);
  }

  #plan(database: Database, follower: Position): void {
    const { log } = database;
    const next = log.entryAt(follower.txid + 1);
    const plan = planStream({
      follower, followerHistory: this.#histories.get(database.name) ?? [], primary: database.position, history: database.epochs, logCovers: log.coversFrom(follower.txid + 1),
      nextPreApply: next !== undefined && next.min === follower.txid + 1 ? log.header(next).preApplyChecksum : undefined,
    });
    if (plan.kind === "snapshot") {
      this.#askForSnapshot(database.name, plan.reason, plan.ancestor);
    } else {
      this.#cursors.set(database.name, plan.kind === "stream" ? plan.from : follower.txid + 1);
      this.#dirty.add(database.name);
    }
  }

  #askForSnapshot(name: string, reason: string, ancestor?: { readonly epoch: number; readonly txid: number }): void {
    this.#cursors.delete(name);
    this.#awaited.add(name);
    const history = this.#store.databases.get(name)?.database.epochs ?? [];
    this.#send({ needSnapshot: { database: name, reason, history: toWireHistory(name, history), ancestor: ancestor === undefined ? null : toWire(name, { ...ancestor, checksum: 0n }) } });
  }

  /** The history of a database, if the follower does not have it as it is now. Cheap: histories are never changed in place. */
  #tell(database: Database): EpochHistory | undefined {
    const { epochs } = database;
    if (this.#told.get(database.name) === epochs) return undefined;
    this.#told.set(database.name, epochs);
    return epochs;
  }

  announceHandoff(): void {
    // On the call: it ends in order, and says the last of this node.
    if (!this.#closed) this.#call.write({ takeLease: {} });
  }

  /** Resolves at the next acknowledgement, at the end of the stream or of `signal`, or after a moment. */
  async acknowledged(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onAck.add(resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
    await Promise.race([promise, this.ended]);
    this.#onAck.delete(resolve);
  }

  changed(database: Database): void {
    if (this.hello === undefined || this.#closed) return;
    // A database that the follower has not heard of yet: from its first transaction, or by a snapshot where that is not in the log.
    if (!this.#cursors.has(database.name) && !this.#awaited.has(database.name)) this.#plan(database, this.#acked.get(database.name) ?? ZERO_POSITION);
    this.#dirty.add(database.name);
    this.#beat.add(database.name);
    if (this.#pumping || this.#isDue) return;
    // After what is under way now: an application may be waiting for its answer, and other code may run on another processor meanwhile.
    this.#isDue = true;
    process.nextTick(() => {
      this.#isDue = false;
      this.#pump();
    });
  }

  #send(message: FollowDown): boolean {
    return !this.#closed && this.#way.write(message);
  }

  /** Sends what the cursors have not reached, until nothing is left or the follower's window is full. */
  #pump(): void {
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    this.#run().catch((error: unknown) => {
      this.#closed = true;
      this.#call.emit("error", statusOf(error));
    }).finally(() => {
      this.#pumping = false;
      if (this.#dirty.size > 0) this.#pump();
    });
  }

  async #run(): Promise<void> {
    for (const name of this.#dirty) {
      this.#dirty.delete(name);
      const database = this.#store.databases.get(name)?.database;
      if (database === undefined) continue;
      for (let next = this.#cursors.get(name); next !== undefined && next <= database.position.txid && !this.#closed; next = this.#cursors.get(name)) {
        const entry = database.log.entryAt(next);
        if (entry === undefined) {
          // Retention or a break has overtaken this follower.
          this.#askForSnapshot(name, `the log does not hold transaction ${next}`);
          break;
        }
        this.#cursors.set(name, entry.max + 1);
        const epoch = epochAt(database.epochs, entry.max) ?? database.position.epoch;
        // Cheap, and the follower needs it whenever the database begins for it: also after a deletion in the middle of the log.
        const owner = ownershipOf(database.paths.database) ?? null;
        const told = this.#tell(database);
        const history = told === undefined ? null : toWireHistory(name, told);
        const confirm = this.#proposals.confirm(name, entry);
        // A confirmation has no room for a history; where that is new, the transaction itself goes.
        if (confirm !== undefined && told === undefined) {
          if (!this.#send(confirm)) await this.#drained();
        } else if (entry.size <= STREAM_PIECE_BYTES) {
          if (!this.#send({ transactions: { database: name, epoch, minTxid: entry.min, maxTxid: entry.max, data: database.log.read(entry), last: true, owner, history } })) await this.#drained();
        } else {
          await forEachPiece(database, entry, async (data, last) => {
            if (!this.#send({ transactions: { database: name, epoch, minTxid: entry.min, maxTxid: entry.max, data, last, owner, history } })) await this.#drained();
          });
        }
      }
      const next = this.#cursors.get(name);
      if (next === undefined || next !== database.position.txid + 1 || this.#quorum.live(name) === undefined) continue;
      const begins = next === 1 || database.deleted;
      for (const message of this.#proposals.offer(name, next, begins ? (ownershipOf(database.paths.database) ?? null) : null)) if (!this.#send(message)) await this.#drained();
    }
  }

  async #drained(): Promise<void> {
    if (this.#closed) return;
    await Promise.race([this.#way.drained(), this.ended]);
  }

  #heartbeat(): void {
    if (this.hello === undefined || this.#closed || this.#way.writableNeedDrain) return;
    const positions = [...this.#beat].flatMap((name) => {
      const database = this.#store.databases.get(name)?.database;
      return database === undefined ? [] : [toWire(name, database.position)];
    });
    this.#beat.clear();
    this.#send({ heartbeat: { nowMs: Date.now(), positions } });
  }

  close(): void {
    this.#closed = true;
    this.#call.end();
  }

  /** For logs. */
  toString(): string {
    return `${this.hello?.node?.name ?? "?"} (${[...this.#acked].map(([name, position]) => `${name} ${formatPosition(position)}`).join(", ")})`;
  }
}
