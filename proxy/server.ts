/**
 * The listening side: Node's HTTP server with its strict parser, limits, and a graceful end.
 *
 * Always holds: nothing reaches the handler that the parser did not accept; an answer to what it refused never gets in between another answer on
 * the same connection; a stop finishes what runs, within a bound.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Server as NetServer, type AddressInfo, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { answerSocket, linger, type AnswerCode } from "./answer.ts";
import { hostAndPort } from "./config.ts";
import { Door, peerOf } from "./door.ts";
import type { Exchange, Expectation } from "./exchange.ts";
import { attachFastPath, type FastPath } from "./fast.ts";
import { Handler, type HandlerParts } from "./handler.ts";
import type { Limits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";

export interface ProxyServer {
  /** `host:port` as it listens. */
  readonly address: string;
  /** Stops accepting, finishes running requests, and resolves when all is closed, at the latest after `limits.stopMs`. */
  stop(how: StopOptions): Promise<void>;
}

export interface StopOptions {
  /** Somebody else accepts already: kept connections are left to end with their next request for a while, which cuts nobody short. */
  readonly followed: boolean;
  /** Called once, when no request is running. */
  readonly onDrained: () => void;
}

/** A connection that was quiet for so long after a stop began has nobody waiting on it. */
const QUIET_MS = 250;
/** Connections that wait in the kernel's queue; as many as Linux allows by itself. */
const BACKLOG = 4_096;
const SWEEP_MS = 50;

/** A request that Node has parsed. */
interface Entry {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly expects: Expectation;
}

/**
 * The requests of one connection. They run one after another: Node would hand out pipelined ones all at once, and a read could overtake
 * the write that its client sent before it.
 */
interface Line {
  running: Entry | undefined;
  exchange: Exchange | undefined;
  readonly queue: Entry[];
  /** The client has ended its side. */
  ended: boolean;
  /** The connection ends with an answer that has been given. */
  over: boolean;
}

/** Listens; rejects with Node's system error, EADDRINUSE for instance. */
export async function startServer(parts: HandlerParts): Promise<ProxyServer> {
  const { limits, listen } = parts.config;
  const handler = new Handler(parts);
  const lines = new WeakMap<Duplex, Line>();
  const take = (expects: Expectation) => (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    let line = lines.get(socket);
    if (line === undefined) {
      const begun: Line = { running: undefined, exchange: undefined, queue: [], over: false, ended: false };
      lines.set(socket, (line = begun));
      socket.once("end", () => {
        begun.ended = true;
        if (begun.running !== undefined && begun.exchange !== undefined) handler.clientEnded(begun.exchange);
      });
    }
    // Behind an answer that ends the connection nothing counts any more, even though the parser still sees it.
    if (line.over) return;
    // Behind an upgrade that is not taken Node's parser loses bytes: the body of a request that came there would be read as a request.
    if (request.headers.upgrade !== undefined) response.shouldKeepAlive = false;
    line.queue.push({ request, response, expects });
    if (line.running === undefined) next(line);
    // What comes behind a running request is read no further than the parser already has, so that nobody can pile up requests.
    else socket.pause();
  };
  const next = (line: Line): void => {
    const entry = line.queue.shift();
    line.running = entry;
    line.exchange = undefined;
    if (entry === undefined) return;
    entry.response.once("close", () => {
      if (line.exchange !== undefined) handler.closed(line.exchange);
      if (!entry.response.shouldKeepAlive || !entry.response.writableFinished) {
        line.over = true;
        line.queue.length = 0;
      }
      if (line.queue.length <= 1) entry.request.socket.resume();
      next(line);
    });
    line.exchange = handler.handle(entry.request, entry.response, entry.expects);
    if (line.ended) handler.clientEnded(line.exchange);
  };

  const server = createServer({
    insecureHTTPParser: false, maxHeaderSize: limits.headBytes, headersTimeout: limits.headMs, requestTimeout: 0, keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.min(1_000, limits.headMs), noDelay: true,
    // A missing Host is refused in check.ts, with a sentence.
    requireHostHeader: false,
    // Other upgrades, such as HTTP/2 without TLS, are offers that a server may leave alone (RFC 9110, section 7.8). So is one with a body, which
    // would have to be read first.
    shouldUpgradeCallback: ({ headers, method, httpVersion }) => headers.upgrade?.toLowerCase() === "websocket" && method === "GET" && httpVersion === "1.1"
      && headers["content-length"] === undefined && headers["transfer-encoding"] === undefined,
  });
  // A client that has said all it has to say still gets its response (RFC 9112, section 9.6); handler.ts bounds it.
  (server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
  // Node would silently drop the fields beyond its count; they are counted, and refused, in check.ts.
  server.maxHeadersCount = 0;
  server.maxConnections = limits.connections;
  server.on("request", take("nothing"));
  server.on("checkContinue", take("continue"));
  server.on("checkExpectation", take("unknown"));
  const refuseTunnel = (_request: IncomingMessage, socket: Duplex): void => {
    parts.metrics.invalid("tunnel");
    const end = (): void => endSocket(socket as Socket, "NO_TUNNELS", handler.nextId(), limits.lingerMs);
    const running = lastOf(lines.get(socket));
    if (running === undefined) end();
    else running.response.once("close", end);
  };
  server.on("upgrade", (request: IncomingMessage, duplex: Duplex, early: Buffer) => {
    const socket = duplex as Socket;
    const running = lastOf(lines.get(socket));
    socket.pause();
    if (running === undefined) handler.upgrade(request, socket, early);
    else running.response.once("close", () => running.response.shouldKeepAlive && !socket.destroyed ? handler.upgrade(request, socket, early) : socket.destroy());
  });
  server.on("connect", refuseTunnel);
  server.on("clientError", (error: NodeJS.ErrnoException, duplex) => {
    const socket = duplex as Socket;
    const code = answerForParser(error.code ?? "");
    if (code === undefined || !socket.writable) {
      socket.destroy();
      return;
    }
    parts.metrics.invalid("parser");
    parts.log.debug({ code: error.code, reason: error.message }, "refused what a client sent");
    const line = lines.get(socket);
    const running = lastOf(line);
    if (running === undefined) {
      endSocket(socket, code, handler.nextId(), limits.lingerMs);
      return;
    }
    if (running === line?.running && !running.request.complete) {
      // The fault is in the body of the request that is being answered: nobody may take what came of it for the whole.
      if (running.response.headersSent) socket.destroy();
      else endSocket(socket, code, handler.nextId(), limits.lingerMs);
      running.request.destroy(error);
      return;
    }
    // The fault is in what follows good requests: these still get their responses, and the connection ends after the last.
    running.response.shouldKeepAlive = false;
    running.response.once("close", () => endSocket(socket, code, handler.nextId(), limits.lingerMs));
  });

  const door = new Door({
    connectionsPerClient: parts.config.trustedHops > 0 ? undefined : limits.connectionsPerClient, lingerMs: limits.lingerMs, nextId: () => handler.nextId(),
    onRefused: () => parts.metrics.invalid("connections"),
  });
  server.on("drop", () => parts.metrics.invalid("connections"));
  const fast = attachFastPath(server, { config: parts.config, view: parts.view, metrics: parts.metrics, log: parts.log, nextId: () => handler.nextId(), door });
  const unused = fast === undefined ? watchDoor(server, door) : new Set<Socket>();
  const general = parts.metrics.gauges;
  if (fast !== undefined) parts.metrics.gauges = () => ({ ...general(), pool: { ...general().pool, ...prefixed("fast", fast.counts) } });
  const { host, port } = hostAndPort(listen);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    const { listenFd } = parts.config;
    server.listen({ ...(listenFd === undefined ? { host: host === "" ? undefined : host, port } : { fd: listenFd }), backlog: BACKLOG }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return { address: addressText(server), stop: (how) => stopServer({ server, handler, metrics: parts.metrics, fast, unused, limits }, how) };
}

/** Without a fast path, which does the same: nothing sees a connection that may not come in. Answers those on which nothing was ever asked. */
function watchDoor(server: Server, door: Door): Set<Socket> {
  const unused = new Set<Socket>();
  const listeners = server.listeners("connection");
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    const peer = peerOf(socket);
    if (!door.enter(socket, peer)) return;
    unused.add(socket);
    socket.once("close", () => {
      unused.delete(socket);
      door.leave(peer);
    });
    for (const listener of listeners) listener.call(server, socket);
  });
  server.prependListener("request", ({ socket }: IncomingMessage) => unused.delete(socket));
  return unused;
}

function prefixed(prefix: string, counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [`${prefix}${name[0]!.toUpperCase()}${name.slice(1)}`, count]));
}

/** The newest request of a connection that has no complete answer yet. */
function lastOf(line: Line | undefined): Entry | undefined {
  return line?.queue.at(-1) ?? line?.running;
}

/** Answers on a socket that has no response object, and gives the client time to read it before the connection goes. */
function endSocket(socket: Socket, code: AnswerCode, id: string, lingerMs: number): void {
  if (socket.destroyed) return;
  answerSocket(socket, code, { id });
  linger(socket, lingerMs);
}

function answerForParser(code: string): AnswerCode | undefined {
  if (code === "HPE_HEADER_OVERFLOW") return "HEAD_LARGE";
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return "HEAD_SLOW";
  // What begins with HPE_ is the parser's; all else is the connection's, and there is nobody to answer.
  return code.startsWith("HPE_") ? "INVALID" : undefined;
}

interface Running { readonly server: Server; readonly handler: Handler; readonly metrics: Metrics; readonly fast: FastPath | undefined; readonly unused: ReadonlySet<Socket>; readonly limits: Limits }

async function stopServer({ server, handler, metrics, fast, unused, limits }: Running, { followed, onDrained }: StopOptions): Promise<void> {
  const quietMs = followed ? limits.followedQuietMs : QUIET_MS;
  const quietAt = performance.now() + quietMs;
  handler.stop();
  fast?.stop(quietMs);
  // What waits in the kernel's queue comes in: closing the last copy of the socket would cut it.
  await turn();
  await turn();
  // Node's HTTP server would close idle connections on the spot.
  const closed = new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve()));
  let drained = false;
  // Connections become idle when their response is out; the server does not look for them by itself.
  const sweep = setInterval(() => {
    if (performance.now() >= quietAt) {
      server.closeIdleConnections();
      for (const socket of unused) socket.destroy();
    }
    if (metrics.active > 0) return;
    // Upgraded connections have no end of their own: they go when nothing else runs.
    handler.endTunnels(false);
    if (!drained) onDrained();
    drained = true;
  }, SWEEP_MS);
  const bound = setTimeout(() => {
    server.closeAllConnections();
    handler.endTunnels(true);
    fast?.destroy();
  }, limits.stopMs);
  await closed;
  fast?.destroy();
  clearInterval(sweep);
  clearTimeout(bound);
}

function addressText(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo;
  return family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`;
}
