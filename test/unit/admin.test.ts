/** The admin server over real sockets; the engine behind it is a stand-in with fixed answers. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { processMetrics, proxyMetrics } from "../../node/admin/metrics-text.ts";
import { startAdminServer } from "../../node/admin/server.ts";
import type { AdminSource, NodeStatus } from "../../node/admin/status.ts";
import { formatStatus } from "../../node/status-table.ts";
import { AppError } from "../../proto/errors.ts";

export const STATUS: NodeStatus = {
  node: { name: "b", id: "00000000000000b0", region: "fra", advertise: "10.0.0.2:7001" }, version: "0.1.0", startedAt: "2026-01-01T00:00:00.000Z",
  role: "follower", roleState: "follower", epoch: 3, primary: { name: "a", advertise: "10.0.0.1:7001" }, ready: true, connected: true,
  mount: { path: "/sluice", driver: "passthrough", reason: "Linux 6.18" },
  databases: [{ name: "app.db", epoch: 3, txid: "00000000000000ff", checksum: "8000000000000001", pageSize: 4096, pageCount: 512, lagTransactions: 4, lagMs: 20, logBytes: 2 ** 20, state: "ok" }],
  followers: [{ name: "c", nodeId: "00000000000000c0", address: "10.0.0.3:7001", region: "", connectedSince: "2026-01-01T00:00:00.000Z", positions: [{ name: "app.db", epoch: 3, txid: "00000000000000fe", checksum: "8000000000000002" }] }],
  local: { count: 12, names: Array.from({ length: 12 }, (_, index) => `f${index}`) }, damage: { found: 2, healed: 1 }, aside: 1,
  diverged: { entries: 3, transactions: 20, unseen: 2 },
};

interface Server { readonly port: number; readonly socket: string; readonly errors: unknown[]; readonly source: Mutable }
type Mutable = { -readonly [key in keyof AdminSource]: AdminSource[key] };

async function start(t: TestContext): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), "admin-"));
  const socket = join(folder, "admin.sock");
  // What a node that was killed leaves behind.
  writeFileSync(socket, "");
  const source: Mutable = {
    health: () => true,
    ready: () => ({ ready: false, reason: "It has not caught up yet" }),
    status: () => STATUS,
    metrics: () => [{ name: "sluice_transactions_total", help: "Transactions", type: "counter", samples: [{ labels: { database: 'a"\n.db' }, value: 7 }] }, ...processMetrics("engine"), ...proxyMetrics({ requests: { local: { 200: 3 } }, active: "x", waits: { reached: 1, totalMs: 1500 }, latency: { local: { counts: [5, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], sumMs: 20_030 }, broken: { counts: [1] } } })],
    import: async (name, path) => {
      if (name === "bad.db") throw new AppError("NOT_A_DATABASE", [path, "it is text"]);
      if (name === "bug.db") throw new TypeError("secret detail");
      return { database: name, txid: "0000000000000001", checksum: "8000000000000000", pages: 2, bytes: 8192 };
    },
    handOff: async (to) => ({ primary: to ?? "c" }),
    promote: async () => {
      throw new AppError("HANDOFF_REFUSED", ["this node is no candidate"]);
    },
    upgrade: () => undefined,
    export: async (name) => ({ database: name, txid: "0000000000000002", checksum: "8000000000000000", pages: 2, bytes: 8192 }),
    verify: async (name) => ({ running: true, asked: name ?? "all" }),
    repair: async (name) => {
      throw new AppError("REPAIR_REFUSED", [name ?? "databases", "this node is the primary"]);
    },
    diverged: async (command) => ({ asked: command }),
  };
  const errors: unknown[] = [];
  const server = await startAdminServer({ address: "127.0.0.1:0", socket, source, onError: (error) => errors.push(error) });
  t.after(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });
  return { port: server.port, socket, errors, source };
}

function ask(where: { port: number } | { socketPath: string }, method: string, path: string): Promise<{ status: number; type: string; text: string }> {
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", ...where, method, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk)).on("end", () => resolve({ status: response.statusCode!, type: String(response.headers["content-type"]), text }));
    }).on("error", reject).end();
  });
}

test("health and readiness are status codes, with a reason", async (t) => {
  const { port, source } = await start(t);
  assert.equal((await ask({ port }, "GET", "/health")).status, 200);
  assert.deepEqual(await ask({ port }, "GET", "/ready"), { status: 503, type: "application/json", text: '{"ready":false,"reason":"It has not caught up yet"}\n' });
  source.health = () => false;
  source.ready = () => ({ ready: true, reason: "" });
  assert.equal((await ask({ port }, "GET", "/health")).status, 503);
  assert.equal((await ask({ port }, "HEAD", "/ready")).status, 200);
});

test("the status is the same by TCP and by socket", async (t) => {
  const { port, socket } = await start(t);
  const [one, two] = [await ask({ port }, "GET", "/status"), await ask({ socketPath: socket }, "GET", "/status")];
  assert.deepEqual(JSON.parse(one.text), STATUS);
  assert.deepEqual(one, two);
});

test("metrics are Prometheus text, twice the same families, with hostile labels escaped", async (t) => {
  const { port } = await start(t);
  for (let scrape = 0; scrape < 2; scrape++) {
    const { text, type } = await ask({ port }, "GET", "/metrics");
    assert.match(type, /^text\/plain/);
    for (const line of ['sluice_transactions_total{database="a\\"\\n.db"} 7', 'sluice_proxy_requests_total{decision="local",status="200"} 3', "sluice_proxy_wait_seconds_total 1.5",
    "# TYPE sluice_proxy_latency_seconds histogram", 'sluice_proxy_latency_seconds_bucket{decision="local",le="0.005"} 5', 'sluice_proxy_latency_seconds_bucket{decision="local",le="0.01"} 7',
    'sluice_proxy_latency_seconds_bucket{decision="local",le="+Inf"} 8', 'sluice_proxy_latency_seconds_sum{decision="local"} 20.03', 'sluice_proxy_latency_seconds_count{decision="local"} 8']) assert.ok(text.includes(`${line}\n`), `${line}\n${text}`);
    assert.match(text, /^sluice_process_resident_bytes\{part="engine"\} \d+$/m);
  }
});

test("import and export are taken from the socket only", async (t) => {
  const { port, socket } = await start(t);
  for (const path of ["/import?name=a.db&source=/x", "/export?name=a.db&target=/x"]) {
    const refused = await ask({ port }, "POST", path);
    assert.equal(refused.status, 403);
    assert.match(refused.text, /SOCKET_ONLY/);
    const taken = await ask({ socketPath: socket }, "POST", path);
    assert.equal(taken.status, 200);
    assert.deepEqual([JSON.parse(taken.text).ok, JSON.parse(taken.text).database], [true, "a.db"]);
  }
});

test("an error of the table reaches the client with code and hint, any other one only the log", async (t) => {
  const { socket, errors } = await start(t);
  const known = await ask({ socketPath: socket }, "POST", "/import?name=bad.db&source=/x");
  assert.deepEqual([known.status, JSON.parse(known.text).error.code, JSON.parse(known.text).error.message], [400, "NOT_A_DATABASE", 'Cannot import "/x": it is text']);
  const unknown = await ask({ socketPath: socket }, "POST", "/import?name=bug.db&source=/x");
  assert.equal(unknown.status, 500);
  assert.doesNotMatch(unknown.text, /secret/);
  assert.match(String(errors[0]), /secret detail/);
});

test("other paths and methods are refused by name", async (t) => {
  const { port } = await start(t);
  assert.equal((await ask({ port }, "GET", "/nothing")).status, 404);
  assert.equal((await ask({ port }, "POST", "/status")).status, 405);
  assert.equal((await ask({ port }, "GET", "//")).status, 404);
});

test("a port that is in use is an error, and the socket is not left behind", async (t) => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  t.after(() => other.close());
  const { source } = await start(t);
  const { port } = other.address() as { port: number };
  await assert.rejects(startAdminServer({ address: `127.0.0.1:${port}`, socket: "/nonexistent/x.sock", source, onError: () => {} }), { code: "EADDRINUSE" });
});

test("the status is shown as aligned text, and whatever is missing as a dash", () => {
  assert.equal(formatStatus(STATUS), `b  follower, epoch 3, ready
  primary  a (10.0.0.1:7001)
  mount    /sluice (passthrough: Linux 6.18)
  node     id 00000000000000b0, advertised as 10.0.0.2:7001, region fra
  version  0.1.0, started 2026-01-01T00:00:00.000Z

DATABASE  TXID              CHECKSUM          SIZE  LAG         LOG   STATE
app.db    00000000000000ff  8000000000000001  2MiB  4 tx, 20ms  1MiB  ok

FOLLOWER  ADDRESS        REGION  SINCE                     POSITIONS
c         10.0.0.3:7001  -       2026-01-01T00:00:00.000Z  app.db=00000000000000fe

Not replicated (12): f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 2 more

Damages found: 2, healed: 1

Lost in a failover and kept (2 of 3 not looked at): see \`sluice diverged list\`

Files kept aside: 1`);
  assert.doesNotMatch(formatStatus({ ...STATUS, diverged: { entries: 3, transactions: 20, unseen: 0 } }), /failover/, "once somebody has looked");
  assert.match(formatStatus({}), /^-  -, epoch -, not ready/);
  assert.match(formatStatus({ ...STATUS, proxy: { local: 812.5, forward: 3 } }), /\n\nRequests a second: local 812\.5, forward 3\n/);
});
