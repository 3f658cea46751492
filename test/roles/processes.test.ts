/** The processes of a node with a lease of its own: what stays and what goes when one of them is killed, or replaced by new code. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";
import { isRunning } from "../support/running.ts";

/** It does not end by itself, however slow this machine is. */
const LEASE = "lease: {type: local, ttl: 60s, local: {path: $FOLDER/lease.db}}";

const pidOf = (node: TestNode, text: string): number => Number([...node.output.matchAll(new RegExp(`"pid":(\\d+)[^\\n]*"msg":"${text} started"`, "g"))].at(-1)?.[1]);

test("kill -9 of the guardian ends engine, proxy and application: nobody writes behind a mount that nobody watches", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a"], `${LEASE}\nproxy: {listen: "127.0.0.1:$PROXY", target: "127.0.0.1:$APP"}\nexec: [sh, -c, "sleep 1000 & sleep 1000"]`);
  try {
    const [a] = cluster.nodes as [TestNode];
    await until("the application", () => pidOf(a, "Application") > 0);
    const parts = ["Engine", "Proxy", "Application"].map((part) => pidOf(a, part));
    // Both sleeps are in the group that the application leads.
    const group = fs.readdirSync("/proc").filter((id) => /^\d+$/.test(id)).map(Number).filter((id) => {
      try {
        const stat = fs.readFileSync(`/proc/${id}/stat`, "latin1");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]) === parts[2];
      } catch {
        return false;
      }
    });
    assert.ok(group.length >= 2, "the application has a child");
    process.kill(a.process!.pid!, "SIGKILL");
    await a.exited();
    for (const pid of [...parts, ...group]) await until(`process ${pid} to end`, () => !isRunning(pid));
  } finally {
    await cluster.dispose();
  }
});

test("upgrade replaces engine and proxy under open connections: the same epoch, no error, nothing lost", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], `${LEASE}\nproxy: {listen: "127.0.0.1:$PROXY", target: "127.0.0.1:$APP"}`);
  let db: Database.Database | undefined;
  try {
    const primary = await until("a primary", async () => {
      for (const node of cluster.nodes) if ((await node.status())?.roleState === "primary") return node;
      return undefined;
    });
    db = new Database(primary.path("app.db"), { timeout: 20_000 });
    db.pragma("journal_mode = wal");
    db.exec("create table t (x integer primary key); insert into t values (1)");
    const before = [pidOf(primary, "Engine"), pidOf(primary, "Proxy")];
    const { epoch } = (await primary.status())!;
    let over = false;
    let rows = 1;
    const writing = (async () => {
      while (!over) {
        db.prepare("insert into t values (?)").run(++rows);
        await sleep(1);
      }
    })();
    const { code, output } = await sluice("upgrade", "-c", primary.config);
    assert.equal(code, 0, output);
    over = true;
    await writing;
    await until("the new proxy", () => pidOf(primary, "Proxy") !== before[1]);
    assert.notEqual(pidOf(primary, "Engine"), before[0]);
    const status = (await primary.status())!;
    assert.deepEqual([status.roleState, status.epoch], ["primary", epoch]);
    assert.equal(db.prepare("select count(*) from t").pluck().get(), rows);
    await until("both nodes to hold the same", async () => {
      const position = fs.readFileSync(primary.path("app.db-pos"), "latin1");
      return cluster.nodes.every((node) => fs.existsSync(node.path("app.db-pos")) && fs.readFileSync(node.path("app.db-pos"), "latin1") === position);
    });
  } finally {
    db?.close();
    await cluster.dispose();
  }
});
