/**
 * The fast path: plain reads of this node, from socket to socket.
 *
 * Every client connection begins here. A GET or HEAD that fast-head.ts understands and fast-terms.ts admits is sent to the application on a kept
 * connection, and the response comes back as its bytes come. Everything else (another method, a body, a wait, a forward, a fault) is handed over,
 * with all bytes that have been read, to the general path, and the connection stays there. Always holds: one request of a connection is under way
 * at a time, and nothing is read ahead of it but what came along; no byte of a response has reached the client when its request is handed over;
 * each side is read only as fast as the other takes it; a response that was cut short never looks complete. A read whose connection to the
 * application broke before the response is sent once more, on a new one (RFC 9110, section 9.2.2).
 */
import type { Server } from "node:http";
import type { NetConnectOpts, Socket } from "node:net";
import type { Logger } from "pino";
import { writeFastAccess } from "./access-log.ts";
import { answerSocket, type AnswerCode } from "./answer.ts";
import type { ProxyConfig } from "./config.ts";
import { peerOf, type Door } from "./door.ts";
import type { EngineView } from "./engine-view.ts";
import { BEGINNING, readRequestHead } from "./fast-head.ts";
import { FastPool } from "./fast-pool.ts";
import { FastResponses, type Delivery } from "./fast-response.ts";
import { clientDrained, FastClient, takeOver, type ClientPhase, type FastUpstream, type Flow } from "./fast-sockets.ts";
import { FastTerms } from "./fast-terms.ts";
import { Wheel, type Timed } from "./fast-wheel.ts";
import type { Metrics } from "./metrics.ts";

export interface FastParts {
  readonly config: ProxyConfig;
  readonly view: EngineView;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly nextId: () => string;
  readonly door: Door;
}

/** A head that comes in more pieces than this is no plain one. */
const PIECES_MAX = 8;
const FAR_MS = 1 << 30;

/** Puts the fast path in front of `server`, which must not listen yet. Undefined where the configuration leaves no use for one. */
export function attachFastPath(server: Server, parts: FastParts): FastPath | undefined {
  return FastTerms.fit(parts.config) ? new FastPath(server, parts) : undefined;
}

export class FastPath implements Flow, Delivery {
  readonly #parts: FastParts;
  /** What Node's server does with a new connection. */
  readonly #general: (socket: Socket) => void;
  readonly #terms: FastTerms;
  readonly #wheel = new Wheel();
  readonly #pool: FastPool;
  readonly #responses: FastResponses;
  stopping = false;
  /** How long a connection is left open without a request once a stop has begun. */
  #quietMs = 0;
  /** Connections handed over so far. */
  handedOver = 0;

  constructor(server: Server, parts: FastParts) {
    this.#parts = parts;
    this.#terms = new FastTerms(parts.config, parts.view);
    this.#responses = new FastResponses(this, this.#terms, parts.config.limits.responseHeadBytes);
    const { hostname, port } = new URL(parts.config.target);
    const to: NetConnectOpts = { host: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? 80 : Number(port), noDelay: true };
    this.#pool = new FastPool(this, to, parts.config.limits.upstreamConnections);
    const listeners = server.listeners("connection");
    this.#general = (socket) => {
      for (const listener of listeners) listener.call(server, socket);
    };
    server.removeAllListeners("connection");
    server.on("connection", (socket: Socket) => this.#accept(socket));
  }

  /** Connections to the application, for the metrics. */
  get counts(): FastPool["counts"] {
    return this.#pool.counts;
  }

  /** From now on each connection ends with its running or next response, and those end that are quiet for so long. */
  stop(quietMs: number): void {
    this.stopping = true;
    this.#quietMs = quietMs;
    for (const entry of this.#wheel.entries()) if (entry instanceof FastClient && entry.phase === "idle") this.#wheel.set(entry, quietMs);
  }

  /** Cuts all connections that are not handed over. */
  destroy(): void {
    for (const entry of this.#wheel.entries()) (entry as Timed & Socket).destroy();
    this.#pool.destroy();
    this.#wheel.stop();
  }

  // ---- clients

  #accept(shell: Socket): void {
    const peer = peerOf(shell);
    if (!this.#parts.door.enter(shell, peer)) return;
    const client = takeOver(shell, this);
    if (client === undefined) {
      shell.once("close", () => this.#parts.door.leave(peer));
      this.#general(shell);
      return;
    }
    client.peer = peer;
    this.#wheel.set(client, this.stopping ? this.#quietMs : this.#parts.config.limits.headMs);
  }

  clientRead(client: FastClient, bytes: Buffer, count: number): boolean {
    if (client.phase === "over") return true;
    if (client.phase === "busy") {
      client.rest = Buffer.concat([...(client.rest === undefined ? [] : [client.rest]), bytes.subarray(0, count)]);
      return false;
    }
    if (client.rest === undefined) return this.#take(client, bytes.toString("latin1", 0, count));
    const text = client.rest.toString("latin1") + bytes.toString("latin1", 0, count);
    client.rest = undefined;
    return this.#take(client, text);
  }

  /** Looks at what has come while no request was under way. Returns whether to go on reading. */
  #take(client: FastClient, text: string): boolean {
    const { limits } = this.#parts.config;
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) {
      if (text.length > limits.headBytes || ++client.pieces > PIECES_MAX || !BEGINNING.test(text)) return this.#handOver(client, text);
      client.rest = Buffer.from(text, "latin1");
      if (client.pieces === 1) this.#wheel.set(client, limits.headMs);
      return true;
    }
    client.pieces = 0;
    const head = end > limits.headBytes ? undefined : readRequestHead(text, end, limits.headerCount);
    if (head === undefined || !this.#terms.admits(head)) return this.#handOver(client, text);
    const isAlone = text.length === end + 4;
    client.phase = "busy";
    client.head = head;
    client.text = isAlone ? text : text.slice(0, end + 4);
    client.rest = isAlone ? undefined : Buffer.from(text.slice(end + 4), "latin1");
    client.id = this.#parts.nextId();
    client.again = false;
    client.status = 0;
    client.startedMs = performance.now();
    this.#parts.metrics.active++;
    this.#wheel.set(client, FAR_MS);
    this.#send(client, false);
    return isAlone;
  }

  clientEnded(client: FastClient): void {
    client.ended = true;
    if (client.phase === "idle") {
      client.phase = "over";
      client.end();
    } else if (client.phase === "busy") this.#watch(client);
  }

  clientDrained(client: FastClient): void {
    if (client.phase !== "busy") return;
    this.#watch(client);
    const { upstream } = client;
    if (upstream === undefined) return;
    this.#wheel.set(upstream, this.#parts.config.limits.responseIdleMs);
    upstream.resume();
  }

  /**
   * Who ends its side while its request is under way has gone, or waits for a last response. Nobody can tell, so it gets the time in which most
   * responses come; a response that streams on finds out by itself.
   */
  #watch(client: FastClient): void {
    this.#wheel.set(client, client.ended ? this.#parts.config.limits.lingerMs : FAR_MS);
  }

  clientExpired(client: FastClient): void {
    if (client.phase === "idle" && client.rest !== undefined) this.#answer(client, "HEAD_SLOW");
    else if (client.phase === "idle" && !client.ended) {
      client.phase = "over";
      client.end();
      this.#wheel.set(client, this.#parts.config.limits.lingerMs);
    } else if (client.phase === "busy" && client.queued && !client.ended) this.#answer(client, "TARGET_SLOW");
    else client.destroy();
  }

  clientClosed(client: FastClient): void {
    this.#parts.door.leave(client.peer);
    this.#wheel.remove(client);
    if (client.phase !== "busy") return;
    client.phase = "over";
    this.#count(client);
    this.#cutUpstream(client);
    if (client.queued) this.#pool.leave(client);
  }

  /** Gives the connection, and what has been read of it, to the general path for good. Returns whether to go on reading. */
  #handOver(client: FastClient, text: string): boolean {
    const bytes = Buffer.from(text, "latin1");
    this.#wheel.remove(client);
    client.phase = "handed";
    client.text = "";
    client.head = undefined;
    client.rest = undefined;
    this.handedOver++;
    this.#general(client as unknown as Socket);
    if (bytes.length > 0) client.unshift(bytes);
    return true;
  }

  /** Answers in the application's place, and ends the connection. */
  #answer(client: FastClient, code: AnswerCode): void {
    if (client.phase === "busy") this.#count(client);
    else this.#parts.metrics.invalid("slow");
    client.phase = "over";
    this.#cutUpstream(client);
    if (client.queued) this.#pool.leave(client);
    answerSocket(client, code, { id: client.id === "" ? this.#parts.nextId() : client.id });
    client.resume();
    this.#wheel.set(client, this.#parts.config.limits.lingerMs);
  }

  #count(client: FastClient): void {
    const { metrics, config } = this.#parts;
    metrics.active--;
    metrics.request("local", client.status, client.status === 0 ? undefined : client.headMs - client.startedMs, config.node.name);
    writeFastAccess(this.#parts.log, config.accessLog, client, config.node.name);
  }

  // ---- the application

  #send(client: FastClient, isFresh: boolean): void {
    const upstream = this.#pool.take(isFresh);
    if (upstream === undefined) {
      this.#wheel.set(client, this.#parts.config.limits.responseHeadMs);
      this.#pool.wait(client);
      return;
    }
    const { limits } = this.#parts.config;
    upstream.client = client;
    upstream.phase = "head";
    client.upstream = upstream;
    this.#wheel.set(upstream, upstream.connecting ? limits.connectMs : limits.responseHeadMs);
    upstream.write(this.#terms.requestText(client.text, client.head!, client.id, client), "latin1");
  }

  upstreamConnected(upstream: FastUpstream): void {
    upstream.connected = true;
    if (upstream.phase === "head") this.#wheel.set(upstream, this.#parts.config.limits.responseHeadMs);
  }

  upstreamRead(upstream: FastUpstream, bytes: Buffer, count: number): boolean {
    const { client } = upstream;
    if (client === undefined || upstream.phase === "idle") {
      // It speaks without being asked: what it says next could pass for the answer to somebody's request.
      upstream.destroy();
      return true;
    }
    return this.#responses.read(upstream, client, bytes, count);
  }

  /** A piece has been passed on, and more is to come. `isTaken`: the client takes more now. */
  goOn(upstream: FastUpstream, client: FastClient, isTaken: boolean): boolean {
    const { limits } = this.#parts.config;
    if (isTaken) {
      this.#wheel.set(upstream, limits.responseIdleMs);
      if (client.ended) this.#watch(client);
      return true;
    }
    this.#wheel.set(client, limits.stalledClientMs);
    this.#wheel.set(upstream, FAR_MS);
    client.once("drain", clientDrained);
    return false;
  }

  /** The response has been passed on in full. `isExact`: nothing came behind it. Returns whether to go on reading from the application. */
  complete(upstream: FastUpstream, client: FastClient, isExact: boolean): boolean {
    upstream.client = undefined;
    client.upstream = undefined;
    const isKept = isExact && upstream.keepAlive && upstream.idleMs > 0 && !this.stopping && !upstream.destroyed;
    upstream.phase = isKept ? "idle" : "over";
    if (!isKept) upstream.destroy();
    else {
      this.#wheel.set(upstream, upstream.idleMs);
      this.#pool.give(upstream);
      const waiting = this.#pool.nextWaiting();
      if (waiting !== undefined) this.#send(waiting, false);
    }
    this.#count(client);
    this.#release(client);
    return true;
  }

  /** A request is over; the next one of its connection may begin. */
  #release(client: FastClient): void {
    const { limits } = this.#parts.config;
    client.text = "";
    client.head = undefined;
    const { rest } = client;
    if (client.closing || client.ended || this.stopping) {
      if (client.closing || rest === undefined) {
        client.phase = "over";
        client.rest = undefined;
        client.end();
        client.resume();
        this.#wheel.set(client, client.writableLength > 0 ? limits.stalledClientMs : limits.lingerMs);
        return;
      }
    }
    client.phase = "idle";
    this.#wheel.set(client, this.stopping ? this.#quietMs : limits.keepAliveMs);
    if (rest === undefined) return;
    client.rest = undefined;
    const isWanted = this.#take(client, rest.toString("latin1"));
    // Who was handed over is read as the general path wants it.
    if (isWanted && (client.phase as ClientPhase) !== "handed" && !client.destroyed) client.resume();
  }

  upstreamEnded(upstream: FastUpstream): void {
    const { client } = upstream;
    if (client === undefined || upstream.phase !== "body" || upstream.framing !== "close") return;
    client.write("0\r\n\r\n", "latin1");
    this.complete(upstream, client, true);
  }

  upstreamClosed(upstream: FastUpstream, error: Error | null): void {
    this.#wheel.remove(upstream);
    this.#pool.closed(upstream);
    const { client, phase } = upstream;
    upstream.client = undefined;
    upstream.phase = "over";
    const waiting = this.#pool.nextWaiting();
    if (client !== undefined && client.upstream === upstream) {
      client.upstream = undefined;
      if (phase !== "head") this.break(client, codeOf(error));
      // Nothing was sent: the general path knows how long to wait for an application that is away.
      else if (!upstream.connected) this.#fallBack(client);
      else if (!client.again) {
        client.again = true;
        this.#parts.metrics.resent("idempotent");
        this.#send(client, true);
      } else {
        this.#parts.metrics.upstreamError(codeOf(error));
        this.#answer(client, "TARGET_BROKE");
      }
    }
    if (waiting !== undefined) this.#send(waiting, false);
  }

  upstreamExpired(upstream: FastUpstream): void {
    const { client, phase } = upstream;
    if (client === undefined) {
      upstream.destroy();
      return;
    }
    this.#parts.metrics.upstreamError(phase === "head" ? "UND_ERR_HEADERS_TIMEOUT" : "UND_ERR_BODY_TIMEOUT");
    if (phase === "head") this.#answer(client, "TARGET_SLOW");
    else this.break(client, undefined);
  }

  /** What comes is not for the fast path: the connection to the application is given up, and the request handed over. */
  giveUp(upstream: FastUpstream, client: FastClient): boolean {
    client.upstream = undefined;
    upstream.client = undefined;
    upstream.destroy();
    this.#fallBack(client);
    return true;
  }

  /** Hands over a request that is under way. The client has not seen anything of an answer. */
  #fallBack(client: FastClient): void {
    if (client.ended) {
      // Its stream has ended, so nothing can be put back into it.
      this.#answer(client, "TARGET_BROKE");
      return;
    }
    const rest = client.rest?.toString("latin1") ?? "";
    this.#parts.metrics.active--;
    this.#handOver(client, client.text + rest);
  }

  /** The response has begun and cannot be completed: the client must not take it for the whole. */
  break(client: FastClient, code: string | undefined): void {
    if (code !== undefined) {
      this.#parts.metrics.upstreamError(code);
      this.#parts.log.warn({ id: client.id, to: "application", code, method: client.head?.method, url: client.head?.target }, "the application failed");
    }
    client.destroy();
  }

  #cutUpstream(client: FastClient): void {
    const { upstream } = client;
    client.upstream = undefined;
    if (upstream === undefined) return;
    upstream.client = undefined;
    upstream.destroy();
  }
}

function codeOf(error: Error | null): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : "UND_ERR_SOCKET";
}
