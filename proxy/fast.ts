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
import { answerSocket, type AnswerCode } from "./answer.ts";
import type { ProxyConfig } from "./config.ts";
import { peerOf, type Door } from "./door.ts";
import type { EngineView } from "./engine-view.ts";
import { ChunkFollower } from "./fast-chunks.ts";
import { fieldList, readRequestHead, readResponseHead } from "./fast-head.ts";
import { FastPool } from "./fast-pool.ts";
import { clientDrained, FastClient, type ClientPhase, type FastUpstream, type Flow } from "./fast-sockets.ts";
import { FastTerms, lines } from "./fast-terms.ts";
import { Wheel, type Timed } from "./fast-wheel.ts";
import { trailerFields } from "./headers.ts";
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
/** As much of a response is made a text to look for the end of its head; all of it if that is not enough. */
const HEAD_BYTES = 1 << 10;
/** Holds what one read can bring, and a head. */
const OUT_BYTES = 80 << 10;
/** How long an application keeps an idle connection that does not say so: Node's own default is 5 s. */
const IDLE_MS = 4_000;
/** Taken off what it says, so that the connection is not used at the moment at which it closes. */
const IDLE_MARGIN_MS = 1_000;
const FAR_MS = 1 << 30;

/** Puts the fast path in front of `server`, which must not listen yet. Undefined where the configuration leaves no use for one. */
export function attachFastPath(server: Server, parts: FastParts): FastPath | undefined {
  return FastTerms.fit(parts.config) ? new FastPath(server, parts) : undefined;
}

export class FastPath implements Flow {
  readonly #parts: FastParts;
  /** What Node's server does with a new connection. */
  readonly #general: (socket: Socket) => void;
  readonly #terms: FastTerms;
  readonly #wheel = new Wheel();
  readonly #pool: FastPool;
  /** Responses are put together here, and are out before the next one is, unless their client is slow. */
  #out = Buffer.allocUnsafeSlow(OUT_BYTES);
  #stopping = false;
  /** How long a connection is left open without a request once a stop has begun. */
  #quietMs = 0;
  /** Connections handed over so far. */
  handedOver = 0;

  constructor(server: Server, parts: FastParts) {
    this.#parts = parts;
    this.#terms = new FastTerms(parts.config, parts.view);
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
    this.#stopping = true;
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

  /**
   * Takes the connection out of the socket that Node has made for it and puts it into one that reads into the shared buffer: Node's server has no
   * option for that, and its own way costs 64 KiB of memory for each read. The server goes on counting the new one.
   */
  #accept(shell: Socket): void {
    const inner = shell as unknown as { _handle: ShellHandle | null; _server: unknown; server: unknown };
    const handle = inner._handle;
    const peer = peerOf(shell);
    if (!this.#parts.door.enter(shell, peer)) return;
    if (handle === null) {
      shell.once("close", () => this.#parts.door.leave(peer));
      this.#general(shell);
      return;
    }
    handle.readStop();
    handle.reading = false;
    inner._handle = null;
    const client = new FastClient(handle, this);
    const taken = client as unknown as { _server: unknown; server: unknown };
    taken._server = inner._server;
    taken.server = inner.server;
    inner._server = inner.server = null;
    client.peer = peer;
    this.#wheel.set(client, this.#stopping ? this.#quietMs : this.#parts.config.limits.headMs);
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
    const isSampled = config.accessLog > 0 && (config.accessLog >= 1 || Math.random() < config.accessLog);
    if (isSampled || this.#parts.log.isLevelEnabled("debug")) this.#writeAccess(client, isSampled);
  }

  #writeAccess(client: FastClient, isSampled: boolean): void {
    const { log, config } = this.#parts;
    const ms = Math.round((performance.now() - client.startedMs) * 10) / 10;
    const line = {
      id: client.id, method: client.head?.method, url: client.head?.target, status: client.status, decision: "local", reason: "read", node: config.node.name, complete: !client.destroyed,
      client: client.peer, ms, fast: true,
    };
    if (isSampled) log.info(line, "request");
    else log.debug(line, "request");
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
    switch (upstream.phase) {
      case "head": return this.#readHead(upstream, client, bytes, count);
      case "body": return this.#readBody(upstream, client, bytes, 0, count, "");
      case "trailers": return this.#readTrailers(upstream, client, bytes.toString("latin1", 0, count));
      default: return true;
    }
  }

  #readHead(upstream: FastUpstream, client: FastClient, read: Buffer, count: number): boolean {
    let bytes = read;
    let length = count;
    let text = read.toString("latin1", 0, Math.min(count, HEAD_BYTES));
    if (upstream.partial !== "") {
      text = upstream.partial + read.toString("latin1", 0, count);
      upstream.partial = "";
      bytes = Buffer.from(text, "latin1");
      length = bytes.length;
    }
    let end = text.indexOf("\r\n\r\n");
    if (end < 0 && text.length < length) {
      text = bytes.toString("latin1", 0, length);
      end = text.indexOf("\r\n\r\n");
    }
    const { limits } = this.#parts.config;
    if (end < 0 ? text.length > limits.responseHeadBytes : end > limits.responseHeadBytes) return this.#giveUp(upstream, client);
    if (end < 0) {
      upstream.partial = text;
      return true;
    }
    if (text.charCodeAt(9) === 0x31 && INTERIM.test(text.slice(0, end + 2))) return this.#readInterim(upstream, client, text, end, Buffer.from(bytes.subarray(end + 4, length)));
    const head = readResponseHead(text, end, client.head!.method === "HEAD");
    // A replay, or what is not understood: the general path asks again, and knows what to do with it.
    if (head === undefined || head.replay) return this.#giveUp(upstream, client);
    client.status = head.status;
    client.headMs = performance.now();
    upstream.phase = "body";
    upstream.framing = head.framing;
    upstream.left = head.length;
    upstream.keepAlive = head.keepAlive;
    upstream.idleMs = head.idleSeconds === 0 ? IDLE_MS : Math.max(0, head.idleSeconds * 1_000 - IDLE_MARGIN_MS);
    upstream.chunks = head.framing === "chunked" ? new ChunkFollower() : undefined;
    client.closing = client.head!.close || client.ended || this.#stopping;
    const out = this.#terms.responseText(text, head, client.id, client.closing);
    return this.#readBody(upstream, client, bytes, end + 4, length, out);
  }

  /** Of the interim responses, Early Hints are for the client; the others concern one connection. */
  #readInterim(upstream: FastUpstream, client: FastClient, text: string, end: number, rest: Buffer): boolean {
    if (text.startsWith("103", 9)) {
      const links = fieldList(text, text.indexOf("\r\n") + 2, end + 2).flatMap((item, index, all) => (index % 2 === 0 && item.toLowerCase() === "link" ? [item, all[index + 1]!] : []));
      if (links.length > 0) client.write(`HTTP/1.1 103 Early Hints\r\n${lines(links)}\r\n`, "latin1");
    }
    return rest.length === 0 || this.#readHead(upstream, client, rest, rest.length);
  }

  /** Passes on `bytes` between `from` and `length`, after `before`, as far as they belong to the body. Returns whether to go on reading. */
  #readBody(upstream: FastUpstream, client: FastClient, bytes: Buffer, from: number, length: number, before: string): boolean {
    switch (upstream.framing) {
      case "none":
        this.#pass(client, before, bytes, 0, 0);
        return this.#complete(upstream, client, length === from);
      case "length": {
        const to = Math.min(length, from + upstream.left);
        upstream.left -= to - from;
        const isTaken = this.#pass(client, before, bytes, from, to);
        return upstream.left === 0 ? this.#complete(upstream, client, length === to) : this.#goOn(upstream, client, isTaken);
      }
      case "chunked": {
        const chunks = upstream.chunks!;
        const to = chunks.read(bytes, from, length);
        const isTaken = this.#pass(client, before, bytes, from, to);
        if (chunks.over) return this.#complete(upstream, client, length === to);
        if (chunks.trailers) {
          upstream.phase = "trailers";
          return this.#readTrailers(upstream, client, bytes.toString("latin1", to, length));
        }
        if (!chunks.fault) return this.#goOn(upstream, client, isTaken);
        this.#break(client, "chunks");
        return true;
      }
      case "close": {
        const text = length === from ? "" : `${(length - from).toString(16)}\r\n${bytes.toString("latin1", from, length)}\r\n`;
        return this.#goOn(upstream, client, client.write(before + text, "latin1"));
      }
    }
  }

  /** Trailers go on without the fields that frame, route or authenticate. */
  #readTrailers(upstream: FastUpstream, client: FastClient, more: string): boolean {
    const text = (upstream.partial += more);
    const end = text.indexOf("\r\n\r\n");
    if (end < 0 && text.length <= this.#parts.config.limits.responseHeadBytes) return true;
    if (end < 0 || !TRAILERS.test(text.slice(0, end + 2))) {
      this.#break(client, "trailers");
      return true;
    }
    upstream.partial = "";
    client.write(`${lines(trailerFields(fieldList(text, 0, end + 2)).flat())}\r\n`, "latin1");
    return this.#complete(upstream, client, text.length === end + 4);
  }

  /** Writes `before` and a piece of `bytes` as one. Returns whether the client takes more. */
  #pass(client: FastClient, before: string, bytes: Buffer, from: number, to: number): boolean {
    const size = before.length + to - from;
    // What a slow client has not taken yet must not be written over, and the buffer is too large to be left to it.
    const isShared = size <= OUT_BYTES && client.writableLength === 0;
    const out = isShared ? this.#out : Buffer.allocUnsafeSlow(size);
    out.write(before, "latin1");
    bytes.copy(out, before.length, from, to);
    const isTaken = client.write(size === out.length ? out : out.subarray(0, size));
    if (isShared && client.writableLength > 0) this.#out = Buffer.allocUnsafeSlow(OUT_BYTES);
    return isTaken;
  }

  #goOn(upstream: FastUpstream, client: FastClient, isTaken: boolean): boolean {
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
  #complete(upstream: FastUpstream, client: FastClient, isExact: boolean): boolean {
    upstream.client = undefined;
    client.upstream = undefined;
    const isKept = isExact && upstream.keepAlive && upstream.idleMs > 0 && !this.#stopping && !upstream.destroyed;
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
    if (client.closing || client.ended || this.#stopping) {
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
    this.#wheel.set(client, this.#stopping ? this.#quietMs : limits.keepAliveMs);
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
    this.#complete(upstream, client, true);
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
      if (phase !== "head") this.#break(client, codeOf(error));
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
    else this.#break(client, undefined);
  }

  /** What comes is not for the fast path: the connection to the application is given up, and the request handed over. */
  #giveUp(upstream: FastUpstream, client: FastClient): boolean {
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
  #break(client: FastClient, code: string | undefined): void {
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

/** What a plain read begins with, as far as it has come. */
const BEGINNING = /^(?:G(?:E(?:T(?: (?:\/.*)?)?)?)?|H(?:E(?:A(?:D(?: (?:\/.*)?)?)?)?)?)$/s;
/** Interim responses but 101, which cannot come: nobody has asked for it. */
const INTERIM = /^HTTP\/1\.1 1(?!01)\d\d(?: [\t\x20-\x7e\x80-\xff]*)?\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/;
const TRAILERS = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)+$/;

interface ShellHandle {
  reading: boolean;
  readStop(): void;
}

function codeOf(error: Error | null): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : "UND_ERR_SOCKET";
}
