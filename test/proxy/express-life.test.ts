/**
 * A real Express 5 application with sessions, uploads, a live page and a chat, on three nodes, while parts of the nodes are stopped and started:
 * no client sees an error but those that README promises (the chapter "What clients see when something restarts").
 *
 * The disturbance is a parameter: a new one is one more row below. Each client stays with one node, as behind a load balancer, and does what browsers
 * do: it keeps its connections and its cookies, opens a stream or a chat again that has ended, and tries again where a kept connection
 * was closed under an idempotent request, or a new one was refused.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import Database from "better-sqlite3";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";
import { expressMissing } from "../support/express.ts";
import { isRunning } from "../support/running.ts";

const APP = fileURLToPath(new URL("../fixtures/express-life/app.ts", import.meta.url));
if (expressMissing !== false) console.error(expressMissing);

/** Where no machine dies the lease never changes hands by itself, however slow this machine is. */
const TTL_LONG = "60s";
/** As short as it can be where a node that waits for its processor is not to be taken for dead. */
const TTL_SHORT = "4s";
const settings = (ttl: string): string => `lease: {type: local, ttl: ${ttl}, local: {path: $FOLDER/lease.db}}
proxy: {ack: 1, ackTimeout: 30s, listen: 127.0.0.1:$PROXY, target: 127.0.0.1:$APP, maxLag: 30s, hold: 60s, limits: {restart: 60s, stop: 5s}, rules: [{path: /chat, to: primary}]}`;
const SCHEMA = "CREATE TABLE sessions (id TEXT PRIMARY KEY, user TEXT); CREATE TABLE posts (id INTEGER PRIMARY KEY, name TEXT, user TEXT); CREATE TABLE files (name TEXT PRIMARY KEY, bytes BLOB)";
const FILE_BYTES = 200 << 10;

const primaryOf = (cluster: TestCluster): Promise<TestNode> => until("a primary", async () => {
  for (const node of cluster.nodes) if ((await node.status())?.roleState === "primary") return node;
  return undefined;
});

interface Stage {
  readonly cluster: TestCluster;
  readonly apps: Map<TestNode, ChildProcess>;
  startApp(node: TestNode): void;
}

async function openStage(t: TestContext, ttl: string): Promise<Stage> {
  const cluster = await TestCluster.start(["a", "b", "c"], settings(ttl));
  const apps = new Map<TestNode, ChildProcess>();
  t.after(async () => {
    for (const app of apps.values()) {
      if (app.exitCode !== null || app.signalCode !== null) continue;
      app.kill("SIGKILL");
      await once(app, "exit");
    }
    await cluster.dispose();
  });
  const db = new Database((await primaryOf(cluster)).path("app.db"));
  db.pragma("journal_mode = WAL");
  db.exec(SCHEMA);
  db.close();
  await cluster.inStep("app.db");
  const startApp = (node: TestNode): void => {
    apps.set(node, spawn(process.execPath, ["--no-warnings", APP, node.path("app.db"), String(node.ports.app)], { stdio: ["ignore", "ignore", "inherit"] }));
  };
  for (const node of cluster.nodes) startApp(node);
  for (const node of cluster.nodes) await until(`the application of ${node.name}`, async () => (await fetch(`http://127.0.0.1:${node.ports.proxy}/me`).catch(() => undefined))?.status === 200);
  return { cluster, apps, startApp };
}

// ---- a client

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly setCookies: readonly string[];
  /** A follower has what was written, so it survives the primary. */
  readonly acked: boolean;
}

class Client {
  readonly #port: number;
  readonly user: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #cookies = new Map<string, string>();
  /** Errors that README does not promise. */
  readonly errors: string[] = [];
  /** Names of posts, by what the client was told of them. */
  readonly done: string[] = [];
  readonly unknown: string[] = [];
  rounds = 0;
  events = 0;
  chats = 0;
  stopping = false;
  /** The nodes are gone: nothing is tried again. */
  abandoned = false;
  /** The machine that this client talks to may die: any connection may break. */
  mayBreak = false;
  /** Ends what waits for the other side: a stream without news, a chat without an answer. */
  readonly #open = new Set<() => void>();

  stop(): void {
    this.stopping = true;
    for (const end of this.#open) end();
  }

  constructor(port: number, user: string) {
    this.#port = port;
    this.user = user;
  }

  /** One request. A refused connection means that nothing was sent; a kept one that closes means that nobody can tell. */
  async send(method: string, path: string, body?: Buffer | object): Promise<Answer | "unknown"> {
    const isIdempotent = method !== "POST";
    for (;;) {
      try {
        const answer = await this.#once(method, path, body);
        for (const cookie of answer.setCookies) {
          const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie)!;
          this.#cookies.set(name!, value!);
        }
        if (answer.status !== 503) return answer;
        // A 503 of the proxy means that nothing was executed.
        await sleep(50);
      } catch (error) {
        if (this.abandoned) throw error;
        const { code, isReused } = error as { code?: string; isReused?: boolean };
        if (code === "ECONNREFUSED" || (isReused === true && isIdempotent)) await sleep(10);
        else if (this.mayBreak && isIdempotent) await sleep(10);
        else if (isReused === true || this.mayBreak) return "unknown";
        else throw new Error(`${method} ${path}: ${code} on a new connection`, { cause: error });
      }
    }
  }

  #once(method: string, path: string, body?: Buffer | object): Promise<Answer> {
    const bytes = body === undefined ? undefined : Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
      const headers = { ...(cookie === "" ? {} : { cookie }), ...(bytes === undefined ? {} : { "content-length": bytes.length, "content-type": Buffer.isBuffer(body) ? "image/png" : "application/json" }) };
      const request = httpRequest({ port: this.#port, host: "127.0.0.1", method, path, agent: this.#agent, headers }, (response: IncomingMessage) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        // A response that has begun is never cut short, so this is an error whoever asked.
        response.on("error", (error) => reject(new Error(`${method} ${path} was cut short`, { cause: error })));
        response.on("end", () => resolve({ status: response.statusCode!, body: Buffer.concat(chunks), setCookies: response.headers["set-cookie"] ?? [], acked: Number(response.headers["sluice-acked"] ?? 0) >= 1 }));
      });
      request.on("error", (error) => reject(Object.assign(error, { isReused: request.reusedSocket })));
      request.end(bytes);
    });
  }

  /** Told by README: what no follower has may be lost with the primary. */
  #isKept({ acked }: Answer): boolean {
    return acked || !this.mayBreak;
  }

  #expect(what: string, isGood: boolean): void {
    if (!isGood) this.errors.push(`round ${this.rounds}: ${what}`);
  }

  /** Posts, reads its own posts, uploads, and reads that back, until it is told to stop. */
  async run(): Promise<void> {
    try {
      for (let isKept = false; !isKept;) {
        const login = await this.send("POST", "/login", { user: this.user });
        assert.ok(login !== "unknown" && login.status === 201, `the login failed before anything was disturbed: ${JSON.stringify(login)}`);
        isKept = this.#isKept(login);
      }
      const file = randomBytes(FILE_BYTES);
      for (; !this.stopping; this.rounds++) {
        const name = `${this.user}-${this.rounds}`;
        const post = await this.send("POST", "/posts", { name });
        // Told by README: a write whose connection broke off says that it is not known.
        if (post === "unknown" || post.status === 502) this.unknown.push(name);
        else if (post.status === 201) (this.#isKept(post) ? this.done : this.unknown).push(name);
        else this.#expect(`POST ${post.status} ${post.body.toString()}`, false);
        const me = await this.send("GET", "/me");
        if (me === "unknown" || me.status !== 200) this.#expect(`GET /me ${me === "unknown" ? me : `${me.status} ${me.body.toString()}`}`, false);
        else {
          const { user, posts } = JSON.parse(me.body.toString()) as { user: string | null; posts: number };
          this.#expect(`the session is gone: ${user}`, user === this.user);
          this.#expect(`${posts} of ${this.done.length} posts are seen`, posts >= this.done.length && posts <= this.done.length + this.unknown.length);
        }
        file.writeUInt32BE(this.rounds);
        const put = await this.send("PUT", `/files/${this.user}`, file);
        this.#expect(`PUT ${put === "unknown" ? put : `${put.status} ${put.body.toString()}`}`, put !== "unknown" && put.status === 200);
        const got = await this.send("GET", `/files/${this.user}`);
        const isSame = got !== "unknown" && got.status === 200 && got.body.equals(file);
        this.#expect(`the file that was read is another: ${got === "unknown" ? got : `${got.status}, ${got.body.length} bytes, of round ${got.body.subarray(0, 4).toString("hex")}`}`, isSame || (put !== "unknown" && !this.#isKept(put)));
      }
    } catch (error) {
      const cause = (error as Error).cause;
      this.errors.push(`round ${this.rounds}: ${String(error)}${cause === undefined ? "" : `, caused by ${String(cause)}`}`);
    } finally {
      this.#agent.destroy();
    }
  }

  /** As an EventSource does: opened again whenever it ends. */
  async watch(): Promise<void> {
    while (!this.stopping) {
      const ending = new AbortController();
      const end = (): void => ending.abort();
      this.#open.add(end);
      try {
        const response = await fetch(`http://127.0.0.1:${this.#port}/events`, { signal: ending.signal, headers: { connection: "close" } });
        if (response.status === 200) {
          for await (const chunk of response.body!) {
            this.events += String(Buffer.from(chunk as Uint8Array)).split("data:").length - 1;
            if (this.stopping) break;
          }
        } else if (response.status !== 503) this.errors.push(`GET /events ${response.status}`);
      } catch {
        // The stream ended with its application or its proxy.
      }
      end();
      this.#open.delete(end);
      await sleep(20);
    }
  }

  /** Says something, waits for the echo, and opens the chat again when it has closed. */
  async chat(): Promise<void> {
    while (!this.stopping) {
      const socket = new WebSocket(`ws://127.0.0.1:${this.#port}/chat`);
      const end = (): void => socket.close();
      this.#open.add(end);
      await new Promise<void>((resolve) => {
        let said = 0;
        socket.onopen = () => socket.send(String(said));
        socket.onmessage = ({ data }) => {
          if (String(data) !== String(said)) this.errors.push(`the chat answered ${String(data)} to ${said}`);
          this.chats++;
          if (this.stopping) socket.close();
          else setTimeout(() => socket.readyState === WebSocket.OPEN && socket.send(String(++said)), 10);
        };
        socket.onerror = () => undefined;
        socket.onclose = () => resolve();
      });
      this.#open.delete(end);
      await sleep(20);
    }
  }
}

// ---- what is done to the nodes meanwhile

interface Disturbance { readonly name: string; /** Machines die: their clients' connections break. */ readonly breaks?: boolean; run(stage: Stage, node: TestNode): Promise<void> }

const DISTURBANCES: readonly Disturbance[] = [
  {
    name: "the engine is killed",
    run: async (_stage, node) => {
      const { engine } = node.pids();
      process.kill(engine!, "SIGKILL");
      await until("another engine", () => !isRunning(engine!) && node.pids().engine !== undefined);
      await node.ready();
    },
  },
  {
    name: "the proxy is stopped, and started again by its guardian",
    run: async (_stage, node) => {
      const { proxy } = node.pids();
      process.kill(proxy!, "SIGTERM");
      await until("another proxy", () => node.pids().proxies.some((pid) => pid !== proxy));
      await until("it to listen", async () => (await fetch(`http://127.0.0.1:${node.ports.proxy}/me`).catch(() => undefined))?.status === 200);
    },
  },
  {
    name: "the application is stopped and started again",
    run: async ({ apps, startApp }, node) => {
      const app = apps.get(node)!;
      app.kill("SIGTERM");
      await once(app, "exit");
      startApp(node);
      await until("it to answer", async () => (await fetch(`http://127.0.0.1:${node.ports.app}/me`).catch(() => undefined))?.status === 200);
    },
  },
  {
    name: "the lease is handed over",
    run: async (_stage, node) => {
      const { code, output } = await sluice("promote", "-c", node.config);
      assert.equal(code, 0, output);
    },
  },
  {
    name: "a node dies with its application (kill -9 of everything) and comes back, the primary among them", breaks: true,
    run: async ({ cluster, apps, startApp }, node) => {
      const app = apps.get(node)!;
      const appGone = once(app, "exit");
      app.kill("SIGKILL");
      await node.killAll();
      await appGone;
      await primaryOf(cluster);
      node.start();
      await node.ready();
      startApp(node);
      await until("it to answer", async () => (await fetch(`http://127.0.0.1:${node.ports.proxy}/me`).catch(() => undefined))?.status === 200);
    },
  },
];

for (const { name, breaks = false, run } of DISTURBANCES) {
  test(`${name}, on each node in turn: no client sees what README does not promise`, { skip: expressMissing }, async (t) => {
    const stage = await openStage(t, breaks ? TTL_SHORT : TTL_LONG);
    const { nodes } = stage.cluster;
    const clients = nodes.map((node) => new Client(node.ports.proxy, `of-${node.name}`));
    for (const client of clients) client.mayBreak = breaks;
    const works = clients.flatMap((client) => [client.run(), client.watch(), client.chat()]);
    t.after(() => {
      for (const client of clients) {
        client.abandoned = true;
        client.stop();
      }
    });
    const goOn = async (): Promise<void> => {
      const before = clients.map(({ rounds, events, chats }) => [rounds, events, chats]);
      await until(() => `all clients to go on; they had done ${JSON.stringify(before)}, now ${JSON.stringify(clients.map(({ rounds, events, chats }) => [rounds, events, chats]))}`, () => clients.every(({ rounds, events, chats, errors }, index) => {
        const [r, e, c] = before[index]!;
        return errors.length > 0 || (rounds > r! + 1 && events > e! && chats > c!);
      }));
    };
    await goOn();
    for (const node of nodes) {
      await run(stage, node);
      await goOn();
    }
    for (const client of clients) client.stop();
    await Promise.all(works);
    assert.deepEqual(clients.flatMap(({ user, errors }) => errors.map((error) => `${user}: ${error}`)), []);
    await stage.cluster.inStep("app.db");
    // Every post that was acknowledged is there once, every other one at most once.
    const db = new Database(nodes[0]!.path("app.db"), { readonly: true });
    t.after(() => db.close());
    const counts = new Map(db.prepare("SELECT name, count(*) FROM posts GROUP BY name").raw().all() as [string, number][]);
    for (const { done, unknown } of clients) {
      for (const post of done) assert.equal(counts.get(post), 1, post);
      for (const post of unknown) assert.ok((counts.get(post) ?? 0) <= 1, post);
    }
    const sum = (pick: (client: Client) => number): number => clients.reduce((total, client) => total + pick(client), 0);
    t.diagnostic(`${sum(({ rounds }) => rounds)} rounds, ${sum(({ done }) => done.length)} posts, ${sum(({ unknown }) => unknown.length)} not known, ${sum(({ events }) => events)} events, ${sum(({ chats }) => chats)} chats`);
  });
}
