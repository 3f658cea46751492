/** `Sluice-Ack`: the response to a write waits for followers, within bounds, and says how many really had it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, until as untilNodes } from "../support/cluster.ts";
import { startNode, until } from "./support.ts";

const LONG_MS = 60_000;
const write = (url: string, headers: Record<string, string> = {}): Promise<Response> => fetch(url, { method: "POST", body: "x", headers });

test("the response to a write is held until so many followers have it, and says how many", async (t) => {
  const { proxy, engine, app } = await startNode(t, { config: { ackTimeoutMs: LONG_MS } });
  let answered = false;
  const response = write(proxy.url, { "sluice-ack": "2" }).then((value) => ((answered = true), value));
  await until("the engine to be asked", () => engine.replicaWaits === 1);
  engine.replicate(1);
  // The second question comes while the first one still waits.
  await write(proxy.url, { "sluice-ack": "1" });
  assert.deepEqual([app.seen.length, answered], [2, false]);
  engine.replicate(3);
  assert.deepEqual([(await response).status, (await response).headers.get("sluice-acked"), (await response).headers.getSetCookie().length], [200, "3", 1]);
});

test("the wait is bounded: the response goes out with the number that had it", async (t) => {
  const { proxy, engine } = await startNode(t, { config: { ackTimeoutMs: 50, ack: 2 } });
  engine.replicate(1);
  assert.equal((await write(proxy.url)).headers.get("sluice-acked"), "1");
  assert.equal((await write(proxy.url, { "sluice-ack": "0" })).headers.get("sluice-acked"), null);
  await until("the counters", () => proxy.metrics()?.waitReasons["ack"] === 1);
  engine.onFlush = () => engine.stop();
  const response = await write(proxy.url);
  assert.deepEqual([response.status, response.headers.get("sluice-acked")], [200, "0"]);
});

test("reads wait for nobody, and a number that is none is refused", async (t) => {
  const { proxy, engine, app } = await startNode(t, { config: { ack: 1, ackTimeoutMs: LONG_MS } });
  assert.equal((await fetch(proxy.url, { headers: { "sluice-ack": "1" } })).headers.get("sluice-acked"), null);
  const seen = app.seen.length;
  for (const text of ["-1", "x", "17", "1, 2", ""]) assert.equal((await write(proxy.url, { "sluice-ack": text })).status, 400, text);
  assert.deepEqual([engine.replicaWaits, app.seen.length], [0, seen]);
});

test("a forwarded write takes the number along, asked or configured where the client is, and the answer comes back", async (t) => {
  const a = await startNode(t, { name: "a", role: "primary", config: { ackTimeoutMs: LONG_MS } });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, config: { ack: 1 } });
  a.engine.replicate(1);
  for (const headers of [{}, { "sluice-ack": "1" }]) assert.equal((await write(b.proxy.url, headers)).headers.get("sluice-acked"), "1");
  assert.deepEqual([a.engine.replicaWaits, b.engine.replicaWaits], [2, 0]);
});

test("on real nodes a write that says it is on two followers is on both; with one of them stopped it says one", async (t) => {
  const cluster = await TestCluster.start(["a", "b", "c"], "proxy: {listen: 127.0.0.1:$PROXY, target: 127.0.0.1:$APP, ackTimeout: 60s}");
  t.after(() => cluster.dispose());
  const [a, b, c] = cluster.nodes as [TestCluster["nodes"][0], TestCluster["nodes"][0], TestCluster["nodes"][0]];
  const writer = new Database(a.path("app.db"));
  t.after(() => writer.close());
  writer.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER)");
  await cluster.inStep("app.db");
  const insert = writer.prepare("INSERT INTO t VALUES (?)");
  const app = createServer((request, response) => {
    request.resume();
    insert.run(Number(request.headers["x-number"]));
    response.end();
  }).listen(a.ports.app, "127.0.0.1");
  await once(app, "listening");
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  const readers = [b, c].map((node) => new Database(node.path("app.db"), { readonly: true }));
  t.after(() => readers.forEach((reader) => reader.close()));
  // Through a follower: the write is forwarded, and the number with it.
  await untilNodes("the proxy to answer", async () => (await write(`http://127.0.0.1:${b.ports.proxy}/`, { "x-number": "0" }).catch(() => undefined))?.status === 200);
  for (let n = 1; n <= 20; n++) {
    const response = await write(`http://127.0.0.1:${b.ports.proxy}/`, { "x-number": String(n), "sluice-ack": "2" });
    assert.deepEqual([response.status, response.headers.get("sluice-acked")], [200, "2"]);
    for (const reader of readers) assert.equal(reader.prepare("SELECT max(n) FROM t").pluck().get(), n);
  }
  readers[1]!.close();
  assert.equal(await c.stop(), 0);
  const response = await write(`http://127.0.0.1:${a.ports.proxy}/`, { "x-number": "21", "sluice-ack": "1" });
  assert.equal(response.headers.get("sluice-acked"), "1");
});
