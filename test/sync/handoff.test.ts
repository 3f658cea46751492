/** A handoff under durability sync: commits that wait for followers at that moment are decided, none is refused because the node is handing over. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";

/** Commits without a pause; says a dot for each, and the code of the error that ends it. */
const WRITER = `
  const db = require("better-sqlite3")(process.argv[1], { timeout: 1000 });
  const insert = db.prepare("INSERT INTO t VALUES (1)");
  const say = (text) => require("node:fs").writeSync(1, text);
  try { for (;;) { insert.run(); say("."); } } catch (error) { say(error.code); }`;

test("a writer that commits without a pause is fenced by each handoff, and none of its commits is refused", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], 'lease: {type: local, ttl: 60s, local: {path: $FOLDER/lease.db}}\ndatabases: {"app.db": {durability: sync, syncReplicas: 1, syncTimeout: 60s}}');
  try {
    const primary = (): Promise<TestNode> => until("a primary with a follower", async () => {
      for (const node of cluster.nodes) {
        const status = await node.status();
        if (status?.roleState === "primary" && status.followers.length === 1) return node;
      }
      return undefined;
    });
    const db = new Database((await primary()).path("app.db"));
    db.pragma("journal_mode = wal");
    db.exec("CREATE TABLE t(x)");
    db.close();
    let committed = 0;
    for (let round = 0; round < 6; round++) {
      const node = await primary();
      const child = spawn(process.execPath, ["-e", WRITER, node.path("app.db")], { stdio: ["ignore", "pipe", "inherit"], cwd: new URL("../..", import.meta.url).pathname });
      let said = "";
      child.stdout.on("data", (data: Buffer) => (said += data.toString()));
      const gone = new Promise<void>((resolve) => child.on("close", () => resolve()));
      await until("some commits", () => said.length > 20);
      const { code, output } = await sluice("handoff", "-c", node.config);
      assert.equal(code, 0, output);
      await gone;
      const [, dots, error] = /^(\.*)(.*)$/.exec(said)!;
      assert.equal(error, "SQLITE_BUSY", `round ${round}, after ${dots!.length} commits`);
      committed += dots!.length;
    }
    const reader = new Database((await primary()).path("app.db"), { readonly: true });
    assert.equal(reader.prepare("SELECT count(*) FROM t").pluck().get(), committed);
    reader.close();
  } finally {
    await cluster.dispose();
  }
});
