/**
 * What nodes ask each other beside the stream: where they stand, transactions out of a log, a handoff.
 *
 * Always holds: any node answers, whatever its role, but only to its own cluster and protocol version. What is fetched is applied like what a
 * stream brings: verified against the position before and after, or refused. Each question has a time limit; no answer is an answer.
 */
import * as grpc from "@grpc/grpc-js";
import type { Standing } from "../core/standing.ts";
import { epochAt } from "../store/epoch-history.ts";
import type { StoredPosition } from "../core/stored-position.ts";
import type { Store } from "../store/store.ts";
import type { Member } from "../lease/lease.ts";
import { AppError, ERRORS } from "../../proto/errors.ts";
import { CHANNEL_OPTIONS, ReplicationService, fromWire, toWire, type WirePosition } from "../../proto/grpc.ts";
import { ZERO_POSITION, type Position } from "../../proto/position.ts";
import type { FetchRequest__Output } from "../../proto/gen/sluice/v1/FetchRequest.ts";
import type { HandoffReply } from "../../proto/gen/sluice/v1/HandoffReply.ts";
import type { HandoffRequest__Output } from "../../proto/gen/sluice/v1/HandoffRequest.ts";
import type { Hello } from "../../proto/gen/sluice/v1/Hello.ts";
import type { NodeStanding, NodeStanding__Output } from "../../proto/gen/sluice/v1/NodeStanding.ts";
import type { StandingRequest__Output } from "../../proto/gen/sluice/v1/StandingRequest.ts";
import type { Transactions, Transactions__Output } from "../../proto/gen/sluice/v1/Transactions.ts";
import { STREAM_PIECE_BYTES } from "../core/limits.ts";
import { checkHello, forEachPiece, statusOf, type ServerIdentity } from "./server.ts";
import { planStream } from "./stream-plan.ts";
import { historiesOf, historyOf, toWireHistory } from "./wire-history.ts";

export interface PeerFacts extends ServerIdentity {
  readonly candidate: boolean;
  epochSeen(): number;
  /** Moves the lease; resolves with the name of the node that gets it. */
  handOff(to: string | undefined): Promise<string>;
}

/** The handlers of the service that any node answers. */
export function peerHandlers(store: Store, facts: PeerFacts): grpc.UntypedServiceImplementation {
  return {
    standing(call: grpc.ServerUnaryCall<StandingRequest__Output, NodeStanding>, done: grpc.sendUnaryData<NodeStanding>): void {
      try {
        checkHello(call.request.hello, facts);
        done(null, { nodeId: facts.nodeId, node: facts.self, candidate: facts.candidate, epoch: facts.epochSeen(), reading: store.unfit() !== undefined, ...toWireStored(storedOf(store)) });
      } catch (error) {
        done(statusOf(error));
      }
    },
    handoff(call: grpc.ServerUnaryCall<HandoffRequest__Output, HandoffReply>, done: grpc.sendUnaryData<HandoffReply>): void {
      const run = async (): Promise<HandoffReply> => {
        checkHello(call.request.hello, facts);
        return { to: await facts.handOff(call.request.to === "" ? undefined : call.request.to) };
      };
      run().then((reply) => done(null, reply), (error: unknown) => done(statusOf(error)));
    },
    fetch(call: grpc.ServerWritableStream<FetchRequest__Output, Transactions>): void {
      sendAfter(call, store, facts).catch((error: unknown) => call.emit("error", statusOf(error)));
    },
  };
}

/** Of each database that is whole: what readers see, and what is stored beyond that. */
export function storedOf(store: Store): Map<string, StoredPosition> {
  return new Map(publishedPositions(store).map(([name]) => [name, store.storedPosition(name)]));
}

function toWireStored(stored: ReadonlyMap<string, StoredPosition>): Pick<NodeStanding, "positions" | "tails" | "refusals"> {
  return {
    positions: [...stored].map(([name, { published }]) => toWire(name, published)),
    tails: [...stored].flatMap(([name, { tail }]) => (tail === undefined ? [] : [{ position: toWire(name, tail.position), serial: tail.serial }])),
    refusals: [...stored].flatMap(([database, { refused }]) => (refused === 0 ? [] : [{ database, serial: refused }])),
  };
}

function fromWireStored({ positions, tails, refusals }: NodeStanding__Output): Map<string, StoredPosition> {
  const tailOf = new Map(tails.map(({ position, serial }) => [position?.database, { position: fromWire(position as WirePosition), serial }]));
  const refusedOf = new Map(refusals.map(({ database, serial }) => [database, serial]));
  return new Map(positions.map((wire) => [wire.database, { published: fromWire(wire as WirePosition), tail: tailOf.get(wire.database), refused: refusedOf.get(wire.database) ?? 0 }]));
}

/** Where the databases of a node are, as readers see them. */
export function publishedPositions(store: Store): [string, Position][] {
  return [...store.databases.values()].filter(({ database }) => database.position.txid > 0 && database.distrust === undefined).map(({ database }) => [database.name, database.position]);
}

async function sendAfter(call: grpc.ServerWritableStream<FetchRequest__Output, Transactions>, store: Store, facts: PeerFacts): Promise<void> {
  checkHello(call.request.hello, facts);
  const wire = call.request.after;
  if (wire === null) throw new AppError("INVALID_MESSAGE", ["Fetch", "it names no position"]);
  const after = fromWire(wire as WirePosition);
  const database = store.databases.get(wire.database)?.database;
  if (database === undefined) throw new AppError("DATABASE_NOT_FOUND", [wire.database]);
  const { log } = database;
  const next = log.entryAt(after.txid + 1);
  const plan = planStream({
    follower: after, followerHistory: historiesOf(call.request.hello?.histories ?? []).get(database.name) ?? [], primary: database.position, history: database.epochs, logCovers: log.coversFrom(after.txid + 1),
    nextPreApply: next !== undefined && next.min === after.txid + 1 ? log.header(next).preApplyChecksum : undefined,
  });
  if (plan.kind === "snapshot") throw new AppError("LOG_GONE", [database.name, after.txid + 1, `${log.entries[0]?.min ?? 0} (${plan.reason})`]);
  const unpin = store.pin(database.name, after.txid + 1);
  try {
    for (let txid = after.txid + 1; plan.kind === "stream" && txid <= database.position.txid; ) {
      const entry = log.entryAt(txid);
      if (entry === undefined) throw new AppError("LOG_GONE", [database.name, txid, log.entries[0]?.min ?? 0]);
      const epoch = epochAt(database.epochs, entry.max) ?? database.position.epoch;
      const history = toWireHistory(database.name, database.epochs);
      await forEachPiece(database, entry, async (data, last) => {
        if (!call.write({ database: database.name, epoch, minTxid: entry.min, maxTxid: entry.max, data, last, history })) await new Promise((resolve) => call.once("drain", resolve));
      });
      txid = entry.max + 1;
    }
    // The proposal that lies behind them: whoever asks is about to decide on it.
    const tail = database.tail.after(database.position);
    if (tail !== undefined && tail.serial > call.request.refused) {
      for (let at = 0; at < tail.ltx.length; at += STREAM_PIECE_BYTES) {
        const data = tail.ltx.subarray(at, at + STREAM_PIECE_BYTES);
        call.write({ database: database.name, epoch: tail.epoch, minTxid: tail.txid, maxTxid: tail.txid, data, last: at + data.length >= tail.ltx.length });
      }
    }
    call.end();
  } finally {
    unpin();
  }
}

interface PeerStub extends grpc.Client {
  standing(request: { hello: Hello }, options: grpc.CallOptions, done: (error: grpc.ServiceError | null, value?: NodeStanding__Output) => void): void;
  handoff(request: { hello: Hello; to: string }, options: grpc.CallOptions, done: (error: grpc.ServiceError | null, value?: { to: string }) => void): void;
  fetch(request: { hello: Hello; after: WirePosition; refused: number }, options: grpc.CallOptions): grpc.ClientReadableStream<Transactions__Output>;
}

/** What the other node's sentence begins with: here it is said once. */
const HANDOFF_SENTENCE = ERRORS.HANDOFF_REFUSED.sentence.replace("%s", "");

/** The asking side. */
export class Peers {
  readonly #hello: () => Hello;
  readonly #stubs = new Map<string, PeerStub>();

  constructor(hello: () => Hello) {
    this.#hello = hello;
  }

  #stub(address: string): PeerStub {
    let stub = this.#stubs.get(address);
    if (stub === undefined) this.#stubs.set(address, (stub = new ReplicationService(address, grpc.credentials.createInsecure(), CHANNEL_OPTIONS) as unknown as PeerStub));
    return stub;
  }

  /** Forgets the connections to nodes that are members no more. */
  keepOnly(members: readonly Member[]): void {
    for (const [address, stub] of this.#stubs) {
      if (members.some(({ advertise }) => advertise === address)) continue;
      stub.close();
      this.#stubs.delete(address);
    }
  }

  /** Where the members stand, of those that answer in time, and the ids of those that do not, though nothing says that they are gone. */
  async standings(members: readonly Member[], timeoutMs: number): Promise<{ readonly standings: readonly (Standing & { readonly advertise: string; readonly epoch: number; readonly reading: boolean })[]; readonly silent: readonly string[] }> {
    const silent: string[] = [];
    const answers = await Promise.all(members.map(async (member) => {
      const answer = await this.#ask<NodeStanding__Output>((done) => this.#stub(member.advertise).standing({ hello: this.#hello() }, { deadline: Date.now() + timeoutMs }, done)).catch((error: Error) => {
        if ((error.cause as grpc.ServiceError | undefined)?.code === grpc.status.DEADLINE_EXCEEDED) silent.push(member.nodeId);
        return undefined;
      });
      // An address that another node has by now does not speak for this one.
      if (answer === undefined || answer.nodeId !== member.nodeId) return undefined;
      return {
        nodeId: answer.nodeId, advertise: member.advertise, candidate: answer.candidate, epoch: answer.epoch, reading: answer.reading,
        stored: fromWireStored(answer),
      };
    }));
    return { standings: answers.filter((answer) => answer !== undefined), silent };
  }

  /** Asks the primary to move the lease. */
  async requestHandoff(address: string, to: string, timeoutMs: number): Promise<string> {
    const answer = await this.#ask<{ to: string }>((done) => this.#stub(address).handoff({ hello: this.#hello(), to }, { deadline: Date.now() + timeoutMs }, done));
    return answer.to;
  }

  #ask<T>(call: (done: (error: grpc.ServiceError | null, value?: T) => void) => void): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    call((error, value) => {
      if (error === null && value !== undefined) return resolve(value);
      const code = error?.metadata?.get("sluice-code")[0];
      reject(code === "HANDOFF_REFUSED" ? new AppError("HANDOFF_REFUSED", [error!.details.replace(HANDOFF_SENTENCE, "")]) : new AppError("NODE_UNAVAILABLE", ["the other node", error?.details ?? "it gave no answer"], { cause: error }));
    });
    return promise;
  }

  /**
   * Brings a follower's database on from the log of another node, and from the proposal behind it unless that is known to be refused. Throws when that node cannot, or what comes does not fit.
   */
  async fetch(store: Store, address: string, name: string, refused: number, signal: AbortSignal): Promise<void> {
    const after = store.databases.get(name)?.database.position ?? ZERO_POSITION;
    const call = this.#stub(address).fetch({ hello: this.#hello(), after: toWire(name, after), refused }, { deadline: Date.now() + 60_000 });
    const abort = (): void => call.cancel();
    signal.addEventListener("abort", abort);
    let pieces: Buffer[] = [];
    try {
      for await (const piece of call as AsyncIterable<Transactions__Output>) {
        pieces.push(piece.data);
        if (!piece.last) continue;
        const follower = await store.followerOf(name);
        await follower.apply(pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces), piece.epoch, piece.owner ?? undefined, historyOf(piece.history));
        pieces = [];
      }
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  close(): void {
    for (const stub of this.#stubs.values()) stub.close();
    this.#stubs.clear();
  }
}
