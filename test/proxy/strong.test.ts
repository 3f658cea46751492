/** Strong reads on real nodes: what was committed on the primary before the read began is in what the follower's application answers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, until } from "../support/cluster.ts";

test("a strong read through the follower shows every commit that was over when it began", async (t) => {
  const cluster = await TestCluster.start(["a", "b"], "proxy: {listen: 127.0.0.1:$PROXY, target: 127.0.0.1:$APP, maxLag: 30s}");
  t.after(() => cluster.dispose());
  const [a, b] = cluster.nodes as [TestCluster["nodes"][0], TestCluster["nodes"][0]];
  const writer = new Database(a.path("app.db"));
  t.after(() => writer.close());
  writer.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (0)");
  await cluster.inStep("app.db");
  const reader = new Database(b.path("app.db"), { readonly: true });
  t.after(() => reader.close());
  const newest = reader.prepare("SELECT max(n) FROM t").pluck();
  const app = createServer((_request, response) => void response.end(String(newest.get()))).listen(b.ports.app, "127.0.0.1");
  await once(app, "listening");
  t.after(() => {
    app.close();
    app.closeAllConnections();
  });
  const url = `http://127.0.0.1:${b.ports.proxy}/`;
  await until("the proxy to answer", async () => (await fetch(url).catch(() => undefined))?.status === 200);
  const insert = writer.prepare("INSERT INTO t VALUES (?)");
  for (let n = 1; n <= 50; n++) {
    insert.run(n);
    const response = await fetch(url, { headers: { "sluice-consistency": "strong" } });
    assert.deepEqual([response.headers.get("sluice-node"), await response.text()], ["b", String(n)]);
  }
});
