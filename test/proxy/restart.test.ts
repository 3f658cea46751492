/**
 * What clients see of the proxy's own restarts (README, "What clients see when something restarts"): a real node, its proxy stopped, killed and replaced
 * while clients open a new connection for each request, as those do that keep none.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { Agent, createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { ProxyProcesses } from "../../node/guardian/proxy-processes.ts";
import { bindProxySocket } from "../../node/guardian/proxy-socket.ts";
import { bindTcp } from "../../node/native/tcp-socket.ts";
import { sluice, TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Application, StandInEngine, temporary } from "./support.ts";

interface Asked { readonly id: string; readonly method: string; readonly startedMs: number; status?: number; code?: string }

/** Asks again and again, each time on a new connection. */
class NewConnections {
  readonly asked: Asked[] = [];
  readonly #port: number;
  readonly #name: string;
  readonly #method: string;
  #stopping = false;

  constructor(port: number, name: string, method: string) {
    this.#port = port;
    this.#name = name;
    this.#method = method;
  }

  async run(): Promise<void> {
    while (!this.#stopping) {
      const one: Asked = { id: `${this.#name}-${this.asked.length}`, method: this.#method, startedMs: performance.now() };
      this.asked.push(one);
      await new Promise<void>((resolve) => {
        const request = httpRequest({ port: this.#port, host: "127.0.0.1", method: one.method, path: `/${one.id}`, agent: false }, (response) => {
          response.on("error", (error: NodeJS.ErrnoException) => (one.code = error.code ?? error.message));
          response.on("end", () => (one.status = response.statusCode!));
          response.on("close", resolve);
          response.resume();
        });
        request.on("error", (error: NodeJS.ErrnoException) => {
          one.code = error.code ?? error.message;
          resolve();
        });
        request.end(one.method === "POST" ? "x" : undefined);
      });
    }
  }

  stop(): void {
    this.#stopping = true;
  }

  get faults(): Asked[] {
    return this.asked.filter(({ status, code }) => code !== undefined || (status !== undefined && status !== 200));
  }
}

const isGone = (pid: number): boolean => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");

/** A node before an application that notes what it was asked; clients that ask; a way to wait until all of them have gone on. */
async function openStage(t: TestContext) {
  const cluster = await TestCluster.make(["a"], "proxy: {listen: 127.0.0.1:$PROXY, target: 127.0.0.1:$APP}");
  t.after(() => cluster.dispose());
  const node = cluster.nodes[0]!;
  const executed = new Map<string, number>();
  const app = createServer((request, response) => {
    const id = request.url!.slice(1);
    executed.set(id, (executed.get(id) ?? 0) + 1);
    request.resume().on("end", () => response.end("done"));
  });
  app.listen(node.ports.app, "127.0.0.1");
  await once(app, "listening");
  t.after(() => void app.close().closeAllConnections());
  node.start();
  await node.ready();
  await until("the proxy to serve", async () => (await fetch(`http://127.0.0.1:${node.ports.proxy}/first`, { method: "POST" }).catch(() => undefined))?.status === 200);
  const clients = ["GET", "GET", "POST", "POST"].map((method, index) => new NewConnections(node.ports.proxy, `c${index}`, method));
  const works = clients.map((client) => client.run());
  t.after(() => clients.forEach((client) => client.stop()));
  const goOn = async (): Promise<void> => {
    const before = clients.map(({ asked }) => asked.length);
    await until("all clients to go on", () => clients.every(({ asked }, index) => asked.length > before[index]! + 5));
  };
  const stop = async (): Promise<void> => {
    for (const client of clients) client.stop();
    await Promise.all(works);
  };
  await goOn();
  return { node, clients, executed, goOn, stop };
}

const proxyOf = (node: TestNode, not: number): Promise<number> => until("another proxy", () => {
  const { proxy } = node.pids();
  return proxy === not ? undefined : proxy;
});

test("clients with a connection for each request see nothing of a SIGTERM of the proxy and of an upgrade", async (t) => {
  const { node, clients, executed, goOn, stop } = await openStage(t);
  for (let round = 0; round < 2; round++) {
    const before = node.pids().proxy!;
    process.kill(before, "SIGTERM");
    await until("it to end", () => isGone(before));
    await goOn();
  }
  const before = node.pids().proxy!;
  const { code, output } = await sluice("upgrade", "-c", node.config);
  assert.equal(code, 0, output);
  await until("the proxy from before to end", () => isGone(before));
  await goOn();
  await stop();
  for (const client of clients) assert.deepEqual(client.faults, []);
  for (const { asked } of clients) for (const { id, method } of asked) if (method === "POST") assert.equal(executed.get(id), 1, id);
  assert.equal(await node.stop(), 0);
});

test("a kill -9 of the proxy breaks at most what was under way; whoever connects afterwards is answered, and nobody is refused", async (t) => {
  const { node, clients, executed, goOn, stop } = await openStage(t);
  const killedMs: number[] = [];
  for (let round = 0; round < 3; round++) {
    const before = node.pids().proxy!;
    process.kill(before, "SIGKILL");
    killedMs.push(performance.now());
    await proxyOf(node, before);
    await goOn();
  }
  await stop();
  for (const { asked, faults } of clients) {
    assert.deepEqual(faults.filter(({ code }) => code === "ECONNREFUSED"), []);
    // Each client has one request under way at a time, so each kill can break one.
    for (const fault of faults) {
      const next = asked[asked.indexOf(fault) + 1]!;
      assert.ok(killedMs.some((atMs) => fault.startedMs <= atMs && next.startedMs >= atMs - 1), JSON.stringify({ fault, killedMs }));
    }
    assert.ok(faults.length <= killedMs.length);
    for (const { id, method, status } of asked) {
      if (method !== "POST") continue;
      const times = executed.get(id) ?? 0;
      assert.ok(status === 200 ? times === 1 : times <= 1, `${id} was executed ${times} times`);
    }
  }
  // The node itself stops: the port closes, so that a balancer goes elsewhere.
  assert.equal(await node.stop(), 0);
  await assert.rejects(fetch(`http://127.0.0.1:${node.ports.proxy}/`), (error: Error) => (error.cause as NodeJS.ErrnoException).code === "ECONNREFUSED");
});

// ---- the guardian's part, with real proxies

const MAIN = fileURLToPath(new URL("../../proxy/main.ts", import.meta.url));
const LOG = { info: () => undefined, warn: () => undefined };

/** The proxy's processes as a guardian has them; `main` can be made another program. */
async function openProcesses(t: TestContext, limits: Record<string, number> = {}, clients = "cookie") {
  const app = await Application.start(t);
  const engine = new StandInEngine(join(temporary(t), "engine.sock"), { name: "a", role: "primary", epoch: 1, positions: { "app.db": { epoch: 1, txid: 5 } } });
  await engine.start();
  t.after(() => engine.stop());
  const socketFd = await bindProxySocket("127.0.0.1:0");
  const said: string[] = [];
  const stage = { main: MAIN, pids: [] as number[], said, app, port: 0 };
  const processes = new ProxyProcesses({
    socketFd, stopMs: 20_000, onMetrics: () => undefined, log: { ...LOG, error: (_fields, text) => void said.push(text) },
    spawn() {
      const config = { listen: "127.0.0.1:0", listenFd: 5, target: `127.0.0.1:${app.port}`, maxLagMs: 2_000, clients, engineSocket: engine.socket, node: { name: "a" }, log: { level: "silent" }, limits };
      const child = spawn(process.execPath, [stage.main], { stdio: ["ignore", "inherit", stage.main === MAIN ? "inherit" : "ignore", "ipc", "ignore", socketFd], env: { ...process.env, SLUICE_PROXY_CONFIG: JSON.stringify(config) } });
      stage.pids.push(child.pid!);
      child.on("message", (message: { type: string; address?: string }) => message.type === "listening" && (stage.port = Number(message.address!.split(":").at(-1))));
      return child;
    },
  });
  t.after(() => processes.end(AbortSignal.abort()));
  processes.start();
  await until("the first proxy to listen", () => stage.port > 0);
  return { stage, processes, app };
}

test("a kept connection ends with its next response when another proxy has taken over, and what is under way is finished", async (t) => {
  // So long that nothing here ends by silence, however slow the machine is.
  const { stage, processes, app } = await openProcesses(t, { followedQuietMs: 900_000, stopMs: 900_000 });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ask = (): Promise<{ connection: string | undefined; reused: boolean }> => new Promise((resolve, reject) => {
    const request = httpRequest({ port: stage.port, host: "127.0.0.1", path: "/", agent }, (response) => {
      response.resume().on("end", () => resolve({ connection: response.headers.connection, reused: request.reusedSocket }));
    });
    request.on("error", reject).end();
  });
  const release = Promise.withResolvers<void>();
  app.handler = async (request, response) => {
    if (request.url === "/slow") await release.promise;
    response.end("done");
  };
  await ask();
  const slow = fetch(`http://127.0.0.1:${stage.port}/slow`);
  await until("a request to be under way", () => app.seen.some(({ url }) => url === "/slow"));
  const replaced = processes.replace();
  await until("two processes", () => stage.pids.length === 2);
  // Nobody can tell from outside whether the old one was told yet: so until it says so.
  const last = await until("a response that ends its connection", async () => {
    const answer = await ask();
    return answer.connection === "close" ? answer : undefined;
  });
  assert.equal(last.reused, true);
  assert.deepEqual(await ask().then(({ reused }) => reused), false);
  assert.ok(!isGone(stage.pids[0]!), "it finishes what is under way");
  release.resolve();
  assert.equal((await slow).status, 200);
  await replaced;
  assert.ok(isGone(stage.pids[0]!) && !isGone(stage.pids[1]!));
});

test("a connection on which nothing is asked does not keep a proxy that was followed", async (t) => {
  for (const clients of ["cookie", "address"]) {
    // With the fast path and without.
    const { stage, processes } = await openProcesses(t, { followedQuietMs: 100, stopMs: 900_000 }, clients);
    const silent = connect(stage.port, "127.0.0.1");
    const ended = once(silent.resume(), "end");
    await once(silent, "connect");
    // The proxy has accepted it: a later one was answered.
    assert.equal((await fetch(`http://127.0.0.1:${stage.port}/`, { headers: { connection: "close" } })).status, 200);
    await processes.replace();
    await ended;
    await until("the first process to end", () => isGone(stage.pids[0]!));
  }
});

test("a new proxy that cannot start takes nobody's place", async (t) => {
  const { stage, processes } = await openProcesses(t);
  stage.main = "/nonexistent/main.js";
  await processes.replace();
  await until("the guardian to say so", () => stage.said.some((text) => text.includes("goes on")));
  assert.equal((await fetch(`http://127.0.0.1:${stage.port}/`)).status, 200);
  assert.ok(!isGone(stage.pids[0]!));
  stage.main = MAIN;
  await processes.replace();
  assert.equal((await fetch(`http://127.0.0.1:${stage.port}/`)).status, 200);
  assert.ok(isGone(stage.pids[0]!));
});

test("a proxy that hangs is killed and followed; connections wait for that", async (t) => {
  const { stage } = await openProcesses(t);
  process.kill(stage.pids[0]!, "SIGSTOP");
  const answer = fetch(`http://127.0.0.1:${stage.port}/`);
  await until("the guardian to notice", () => stage.said.some((text) => text.includes("says nothing any more")), 120_000);
  await until("another one", () => stage.pids.length === 2);
  assert.equal((await answer).status, 200);
});

test("a port in use is said by the name of its key, IPv6 addresses and host names are understood", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  await assert.rejects(bindProxySocket(`127.0.0.1:${port}`), { code: "CONFIG_INVALID", message: new RegExp(`proxy\\.listen.*127\\.0\\.0\\.1:${port}: the port is in use`) });
  await assert.rejects(bindProxySocket("192.0.2.1:8080"), { code: "CONFIG_INVALID", message: /EADDRNOTAVAIL/ });
  for (const [listen, host] of [["[::1]:0", "[::1]"], ["localhost:0", "localhost"], ["[::]:0", "127.0.0.1"]] as const) {
    const listening = createServer((_request, response) => response.end("here")).listen({ fd: await bindProxySocket(listen) });
    await once(listening, "listening");
    t.after(() => void listening.close().closeAllConnections());
    assert.equal(await (await fetch(`http://${host}:${(listening.address() as { port: number }).port}/`)).text(), "here", listen);
  }
  assert.throws(() => bindTcp("not an address", 0), { code: "EINVAL" });
});
