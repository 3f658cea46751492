/**
 * Parts for tests of the proxy: the real proxy process, a real HTTP application, raw sockets, and a stand-in for the engine.
 *
 * The stand-in is a real gRPC server of the Cluster service on a unix socket. What it cannot show: that positions are those of real transactions,
 * how long a flush takes, and how roles change; the tests of the whole node show that. It can be told what to say, and be stopped and
 * started like an engine that dies.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { TestContext } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { ClusterService } from "../../proto/grpc.ts";
import type { ProxyMessage } from "../../proxy/config.ts";
import type { MetricsSnapshot } from "../../proxy/metrics.ts";
import type { PathRule } from "../../proxy/rules.ts";
import { freePorts } from "../support/ports.ts";

export const PATIENCE_MS = 120_000;

/** Waits until `condition` gives a value. */
export async function until<T>(what: string, condition: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(5);
  }
}

/** A directory that goes away with the test. */
export function temporary(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "sluice-proxy-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

// ---- engine

export interface Mark { epoch: number; txid: number }
export interface StandInState {
  name: string;
  proxy?: string;
  role: "primary" | "follower" | "candidate";
  epoch: number;
  primary?: { name: string; proxy: string };
  positions: Record<string, Mark>;
  /** The drain that is asked for; none without. */
  drain?: number;
}

const wirePositions = (positions: Record<string, Mark>): object[] => Object.entries(positions).map(([database, mark]) => ({ database, ...mark, checksum: Buffer.alloc(8) }));

export class StandInEngine {
  readonly socket: string;
  state: StandInState;
  /** Called by a flush before it answers: the moment to capture what the application has written. */
  onFlush: () => void | Promise<void> = () => {};
  flushes = 0;
  waits = 0;
  /** Where the primary is, for who asks; a promise that rejects is a primary that cannot be reached. */
  askPrimary: () => Promise<Record<string, Mark>> = () => Promise.reject(new Error("no primary"));
  asks = 0;
  /** How many followers have what, for who waits; set by `replicate`. */
  replicas = 0;
  replicaWaits = 0;
  #server: grpc.Server | undefined;
  readonly #watchers = new Set<grpc.ServerWritableStream<unknown, unknown>>();
  readonly #listeners = new Set<() => void>();

  constructor(socket: string, state: StandInState) {
    this.socket = socket;
    this.state = state;
  }

  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    const server = (this.#server = new grpc.Server());
    server.addService(ClusterService.service, {
      watch: (call: grpc.ServerWritableStream<unknown, unknown>) => {
        this.#watchers.add(call);
        call.on("cancelled", () => this.#watchers.delete(call));
        call.write(this.#wire());
      },
      getPositions: async (call: { request: { flush: boolean; primary: boolean } }, done: grpc.sendUnaryData<unknown>) => {
        if (call.request.primary) {
          this.asks++;
          this.askPrimary().then((positions) => done(null, { positions: wirePositions(positions) }), (error: Error) => done({ code: grpc.status.UNAVAILABLE, details: error.message }));
          return;
        }
        if (call.request.flush) {
          this.flushes++;
          await this.onFlush();
        }
        done(null, { positions: wirePositions(this.state.positions) });
      },
      waitReplicated: async (call: { request: { replicas: number; timeoutMs: number } }, done: grpc.sendUnaryData<unknown>) => {
        this.replicaWaits++;
        const { replicas, timeoutMs } = call.request;
        await new Promise<void>((resolve) => {
          const finish = (): void => {
            clearTimeout(timer);
            this.#listeners.delete(check);
            resolve();
          };
          const check = (): void => void (this.replicas >= replicas && finish());
          const timer = setTimeout(finish, timeoutMs);
          this.#listeners.add(check);
          check();
        });
        done(null, { replicas: this.replicas });
      },
      wait: async (call: { request: { positions: { database: string; epoch: number; txid: number }[]; timeoutMs: number } }, done: grpc.sendUnaryData<unknown>) => {
        this.waits++;
        const { positions, timeoutMs } = call.request;
        const reached = (): boolean => positions.every((want) => {
          const have = this.state.positions[want.database];
          return have !== undefined && (have.epoch > want.epoch || (have.epoch === want.epoch && have.txid >= want.txid));
        });
        await new Promise<void>((resolve) => {
          const check = (): void => {
            if (!reached()) return;
            finish();
          };
          const finish = (): void => {
            clearTimeout(timer);
            this.#listeners.delete(check);
            resolve();
          };
          const timer = setTimeout(finish, timeoutMs);
          this.#listeners.add(check);
          check();
        });
        done(null, { reached: reached(), positions: wirePositions(this.state.positions) });
      },
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.bindAsync(`unix:${this.socket}`, grpc.ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error)));
    await promise;
  }

  /** As kill -9 would: connections break, calls in flight get no answer. */
  stop(): void {
    this.#watchers.clear();
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  replicate(replicas: number): void {
    this.replicas = replicas;
    for (const listener of [...this.#listeners]) listener();
  }

  set(change: Partial<StandInState>): void {
    this.state = { ...this.state, ...change };
    for (const watcher of this.#watchers) watcher.write(this.#wire());
    for (const listener of [...this.#listeners]) listener();
  }

  #wire(): object {
    const { name, proxy = "", role, epoch, primary, positions, drain = 0 } = this.state;
    return { self: { name, proxy }, role, epoch, primary: primary ?? null, ready: true, connected: true, positions: wirePositions(positions), drain };
  }
}

// ---- application

export interface Seen { method: string; url: string; rawHeaders: string[]; headers: IncomingMessage["headers"]; body: string; trailers: NodeJS.Dict<string> }
export type AppHandler = (request: IncomingMessage, response: ServerResponse, seen: Seen) => void | Promise<void>;

export class Application {
  readonly server: Server;
  readonly port: number;
  /** Every request, in order, with its whole body (unless it streams, see `raw`). */
  readonly seen: Seen[] = [];
  handler: AppHandler = (request, response) => void response.end(`${request.method} ${request.url}`);
  /** Paths whose bodies the handler reads itself. */
  raw: RegExp = /^\/raw/;
  /** Requests whose connection broke. */
  aborted = 0;
  connections = 0;
  /** What the parser refused: what a smuggled request would become. */
  parseErrors = 0;

  constructor(server: Server) {
    this.server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", () => this.connections++);
    server.on("clientError", (_error, socket) => {
      this.parseErrors++;
      socket.destroy();
    });
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      const seen: Seen = { method: request.method!, url: request.url!, rawHeaders: request.rawHeaders, headers: request.headers, body: "", trailers: {} };
      this.seen.push(seen);
      request.on("error", () => this.aborted++);
      if (this.raw.test(request.url!)) {
        void this.handler(request, response, seen);
        return;
      }
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        seen.body = Buffer.concat(chunks).toString("latin1");
        seen.trailers = request.trailers;
        void this.handler(request, response, seen);
      });
    });
  }

  static async start(t: TestContext, port?: number): Promise<Application> {
    const server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 });
    // None that the kernel may give to somebody else while the application is down.
    server.listen(port ?? (await freePorts(1))[0], "127.0.0.1");
    await once(server, "listening");
    const application = new Application(server);
    t.after(() => application.stop());
    return application;
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

// ---- proxy

export class ProxyProcess {
  readonly child: ChildProcess;
  readonly messages: ProxyMessage[] = [];
  readonly output: string[] = [];
  address = "";

  constructor(child: ChildProcess) {
    this.child = child;
    child.on("message", (message) => this.messages.push(message as ProxyMessage));
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => this.output.push(chunk.toString()));
  }

  get port(): number {
    return Number(this.address.split(":").at(-1));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The newest counters that the process has sent. */
  metrics(): MetricsSnapshot | undefined {
    const message = this.messages.findLast((candidate) => candidate.type === "metrics");
    return message?.type === "metrics" ? message.metrics : undefined;
  }

  /** Resolves with the exit code. */
  async exit(): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode;
    const [code] = (await once(this.child, "exit")) as [number | null];
    return code;
  }
}

const MAIN = fileURLToPath(new URL("../../proxy/main.ts", import.meta.url));

/** Starts the process and does not wait for anything. */
export function forkProxy(t: TestContext, config: object): ProxyProcess {
  const child = fork(MAIN, [], { env: { ...process.env, SLUICE_PROXY_CONFIG: JSON.stringify(config) }, stdio: ["ignore", "pipe", "pipe", "ipc"] });
  const proxy = new ProxyProcess(child);
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await proxy.exit();
  });
  return proxy;
}

export interface NodeOptions {
  readonly name?: string;
  readonly role?: "primary" | "follower" | "candidate";
  readonly primary?: { name: string; proxy: string };
  readonly epoch?: number;
  readonly positions?: Record<string, Mark>;
  readonly maxLagMs?: number;
  /** Short unless the test is about it. */
  readonly holdMs?: number;
  readonly rules?: readonly PathRule[];
  /** More of the configuration. */
  readonly config?: object;
  readonly limits?: Record<string, number>;
  /** Port of the application; a new one is started otherwise. */
  readonly target?: number;
  readonly level?: string;
}

export interface TestNode { readonly proxy: ProxyProcess; readonly engine: StandInEngine; readonly app: Application }

/** A node: application, stand-in engine and proxy, ready. */
export async function startNode(t: TestContext, options: NodeOptions = {}): Promise<TestNode> {
  const name = options.name ?? "a";
  const app = await Application.start(t);
  const engine = new StandInEngine(join(temporary(t), "engine.sock"), {
    name, role: options.role ?? "primary", epoch: options.epoch ?? 1, positions: options.positions ?? { "app.db": { epoch: 1, txid: 5 } },
    ...(options.primary === undefined ? {} : { primary: options.primary }),
  });
  await engine.start();
  t.after(() => engine.stop());
  const proxy = forkProxy(t, {
    listen: "127.0.0.1:0", advertise: "http://127.0.0.1:0", target: `127.0.0.1:${options.target ?? app.port}`, maxLagMs: options.maxLagMs ?? 2_000,
    holdMs: options.holdMs ?? 300, rules: options.rules ?? [], ...options.config, engineSocket: engine.socket, node: { name }, log: { level: options.level ?? "warn" }, ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  const listening = await until("the proxy to listen", () => proxy.messages.find((message) => message.type === "listening"));
  if (listening.type === "listening") proxy.address = listening.address;
  // The first state of the engine may arrive after the port is open.
  const seen = app.seen.length;
  if (options.target === undefined) {
    await until("the proxy to know its role", async () => (await fetch(proxy.url, { headers: { connection: "close" } })).headers.get("sluice-txid") !== null || Object.keys(engine.state.positions).length === 0);
    app.seen.splice(seen);
  }
  return { proxy, engine, app };
}

// ---- raw clients

export interface RawClient { readonly socket: Socket; text(): string; readonly closed: Promise<void> }

/** A TCP connection that keeps all that it receives. */
export async function rawClient(t: TestContext, port: number): Promise<RawClient> {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => {
    socket.on("end", resolve);
    socket.on("close", () => resolve());
  });
  t.after(() => socket.destroy());
  await once(socket, "connect");
  return { socket, text: () => Buffer.concat(chunks).toString("latin1"), closed };
}

/** Sends `bytes` on a new connection and collects what comes until the connection ends or `enough` says so. */
export async function rawRequest(t: TestContext, port: number, bytes: string, enough: (text: string) => boolean = () => false): Promise<string> {
  const client = await rawClient(t, port);
  client.socket.write(Buffer.from(bytes, "latin1"));
  const ended = client.closed.then(() => true as const);
  let over = false;
  void ended.then(() => (over = true));
  await until("an answer", () => over || enough(client.text()));
  client.socket.destroy();
  return client.text();
}

/** The status codes of the responses in a text of raw responses. */
export function statuses(text: string): number[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));
}
