/**
 * kill -9 under load with durability sync: whatever dies, what was acknowledged is stored elsewhere, and nothing is shown that was not committed.
 *
 * `SEED=n` replays a run. One connection writes rows with rising numbers; what each commit answered is the history that is checked.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { settledContent } from "./support.ts";

const WRITER = `
  const Database = require("better-sqlite3");
  const { writeSync } = require("node:fs");
  const [path, from] = process.argv.slice(1);
  let db;
  for (let n = Number(from); ; n++) {
    try {
      if (db === undefined) { db = new Database(path, { timeout: 60000 }); db.pragma("journal_mode = wal"); if (n % 3 === 0) db.pragma("cache_size = 5"); }
      db.transaction(() => { for (let i = 0; i < 1 + (n % 5) * 20; i++) db.prepare("INSERT INTO t(n, body) VALUES (?, randomblob(?))").run(n, 10 + (n * 37) % 900); })();
      writeSync(1, "ok " + n + "\\n");
    } catch (error) {
      writeSync(1, "no " + n + " " + error.code + "\\n");
      try { db.close(); } catch {}
      db = undefined;
    }
  }`;

interface History { readonly acknowledged: Set<number>; readonly failed: Set<number>; last: number; kill(): Promise<void> }

function write(path: string, from: number): History {
  const child = spawn(process.execPath, ["-e", WRITER, path, String(from)], { stdio: ["ignore", "pipe", "inherit"], cwd: new URL("../..", import.meta.url).pathname });
  let rest = "";
  const gone = new Promise((resolve) => child.on("exit", resolve));
  const history: History = {
    acknowledged: new Set(), failed: new Set(), last: from - 1,
    kill: async () => {
      child.kill("SIGKILL");
      await gone;
    },
  };
  child.stdout.on("data", (data: Buffer) => {
    const lines = (rest + data.toString()).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      const [how, n] = line.split(" ");
      history.last = Number(n);
      (how === "ok" ? history.acknowledged : history.failed).add(Number(n));
    }
  });
  return history;
}

/** Numbers of whole transactions that a node shows; a transaction that is there in part fails the test. */
function numbersOf(path: string): Set<number> {
  const db = new Database(path, { readonly: true });
  try {
    const rows = db.prepare("SELECT n, count(*) AS c FROM t GROUP BY n").all() as { n: number; c: number }[];
    for (const { n, c } of rows) assert.equal(c, 1 + (n % 5) * 20, `transaction ${n} is there in part`);
    return new Set(rows.map(({ n }) => n));
  } finally {
    db.close();
  }
}

const missing = (wanted: ReadonlySet<number>, there: ReadonlySet<number>): number[] => [...wanted].filter((n) => !there.has(n));

async function begin(): Promise<{ cluster: TestCluster; a: TestNode; b: TestNode; c: TestNode }> {
  const cluster = await TestCluster.start(["a", "b", "c"], 'databases: {"app.db": {durability: sync, syncReplicas: 1, syncTimeout: 60s}}');
  const [a, b, c] = cluster.nodes as [TestNode, TestNode, TestNode];
  const db = new Database(a.path("app.db"));
  db.pragma("journal_mode = wal");
  db.exec("CREATE TABLE t(n INTEGER, body BLOB)");
  db.close();
  await cluster.inStep("app.db");
  return { cluster, a, b, c };
}

test("kill -9 of engines and followers under load: every acknowledged commit is on every node, in whole transactions", { timeout: 300_000 }, async (t) => {
  const seed = seedOfRun();
  t.diagnostic(`replay with: make test ONLY=sync/crash SEED=${seed}`);
  const random = new Random(seed);
  const { cluster, a, b, c } = await begin();
  try {
    const history = write(a.path("app.db"), 1);
    await until("the first commits", () => history.acknowledged.size > 20);
    for (let round = 0; round < 9; round++) {
      await sleep(random.below(400));
      const what = round % 3;
      const victim = what === 0 ? a : random.pick([b, c]);
      const had = history.acknowledged.size;
      if (what === 2) {
        await victim.killAll();
        victim.start();
        await victim.ready();
      } else {
        const { engine } = victim.pids();
        process.kill(engine!, "SIGKILL");
        await until("another engine", () => victim.pids().engine !== undefined && victim.pids().engine !== engine);
      }
      await until(`commits after round ${round}`, () => history.acknowledged.size > had + 10);
    }
    await history.kill();
    await cluster.inStep("app.db");
    t.diagnostic(`${history.acknowledged.size} acknowledged, ${history.failed.size} failed`);
    const there = cluster.nodes.map((node) => numbersOf(node.path("app.db")));
    for (const numbers of there) {
      assert.deepEqual(missing(history.acknowledged, numbers), []);
      assert.deepEqual(missing(numbers, new Set([...history.acknowledged, history.last + 1])).filter((n) => !history.failed.has(n)), []);
      assert.deepEqual([...numbers], [...there[0]!]);
    }
    // Nothing but the engines' deaths could have refused a commit, and those only wait.
    assert.deepEqual([...history.failed], []);
  } finally {
    await cluster.dispose();
  }
});

test("kill -9 of the whole primary at random moments: what its applications were told is stored by a follower, and it goes on from there", { timeout: 420_000 }, async (t) => {
  const seed = seedOfRun();
  t.diagnostic(`replay with: make test ONLY=sync/crash SEED=${seed}`);
  const random = new Random(seed);
  const { cluster, a, b, c } = await begin();
  try {
    const acknowledged = new Set<number>();
    let next = 1;
    for (let round = 0; round < 5; round++) {
      const history = write(a.path("app.db"), next);
      await until("commits", () => history.acknowledged.size > 15);
      await sleep(random.below(300));
      // Together: the writer must not be told anything by a mount without an engine.
      await Promise.all([history.kill(), a.killAll()]);
      for (const n of history.acknowledged) acknowledged.add(n);
      // The followers die as well: what they answered for must be in files.
      await Promise.all([b.killAll(), c.killAll()]);
      const stored = await Promise.all([b, c].map((node) => settledContent(node)));
      const somewhere = new Set(stored.flatMap((numbers) => [...numbers]));
      assert.deepEqual(missing(acknowledged, somewhere), [], `round ${round}`);
      // One of them alone has all of it: the most advanced.
      assert.ok(stored.some((numbers) => missing(acknowledged, numbers).length === 0), `round ${round}`);
      for (const node of cluster.nodes) node.start();
      for (const node of cluster.nodes) await node.ready();
      await cluster.inStep("app.db");
      const there = cluster.nodes.map((node) => numbersOf(node.path("app.db")));
      for (const numbers of there) {
        assert.deepEqual(missing(acknowledged, numbers), [], `round ${round}`);
        assert.deepEqual([...numbers], [...there[0]!]);
      }
      next = Math.max(history.last, ...there[0]!) + 1;
    }
    t.diagnostic(`${acknowledged.size} acknowledged`);
  } finally {
    await cluster.dispose();
  }
});
