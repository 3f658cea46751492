/**
 * Reads under durability sync on real nodes: the kernel keeps the pages of the WAL, and what it keeps is never old.
 *
 * All connections have no cache of their own, so each row is read from the WAL.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";

const SETTINGS = 'databases: {"app.db": {durability: sync, syncReplicas: 1, syncTimeout: 60s}}';
const ROWS = 40;

function open(node: TestNode, options: Database.Options = {}): Database.Database {
  const db = new Database(node.path("app.db"), { timeout: 60_000, ...options });
  db.pragma("cache_size = 1");
  return db;
}

/** Requests of the mount so far. */
async function requests(node: TestNode, operation: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${node.ports.admin}/metrics`)).text();
  return Number(new RegExp(`sluice_fuse_requests_total\\{[^}]*operation="${operation}"[^}]*\\} (\\d+)`).exec(text)?.[1] ?? 0);
}

function make(node: TestNode): Database.Database {
  const db = open(node);
  db.pragma("journal_mode = wal");
  db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER, body BLOB)");
  db.prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO t(v, body) SELECT 0, randomblob(3000) FROM n").run(ROWS);
  return db;
}

test("pages in the WAL are read without a request, on the primary and on a follower", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], SETTINGS);
  const dbs: Database.Database[] = [];
  try {
    const [a] = cluster.nodes as [TestNode];
    const writer = make(a);
    dbs.push(writer);
    await cluster.inStep("app.db");
    for (const node of cluster.nodes) {
      const reader = open(node, { readonly: true });
      dbs.push(reader);
      const sum = reader.prepare("SELECT sum(length(body)) FROM t").pluck();
      assert.equal(sum.get(), ROWS * 3000);
      const before = [await requests(node, "READ"), await requests(node, "GETATTR")];
      for (let i = 0; i < 50; i++) assert.equal(sum.get(), ROWS * 3000);
      const after = [await requests(node, "READ"), await requests(node, "GETATTR")];
      // More than 2,000 pages were read; some requests may be of the node itself.
      for (const [i, count] of after.entries()) assert.ok(count - before[i]! < 20, `${node.name}: ${before.join()} and then ${after.join()}`);
    }
  } finally {
    for (const db of dbs) db.close();
    await cluster.dispose();
  }
});

test("what one program commits, all who have the WAL open read at once, over checkpoints, a WAL begun anew, and the death of engines", { timeout: 420_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], SETTINGS);
  const dbs: Database.Database[] = [];
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    const writers = [make(a), open(a), open(a)];
    await cluster.inStep("app.db");
    const readers = [a, a, b, b].map((node) => ({ node, db: open(node, { readonly: true }) }));
    dbs.push(...writers, ...readers.map(({ db }) => db));
    const looks = readers.map(({ node, db }) => ({ node, look: db.prepare("SELECT min(v), max(v), count(*), sum(length(body)) FROM t").raw() }));
    const updates = writers.map((db) => db.prepare("UPDATE t SET v = ?, body = randomblob(?)"));
    for (let round = 1; round <= 160; round++) {
      const length = 2_000 + ((round * 37) % 1_500);
      updates[round % 3]!.run(round, length);
      for (const { look } of looks.filter(({ node }) => node === a)) assert.deepEqual(look.get(), [round, round, ROWS, ROWS * length], `on a, round ${round}`);
      await until(`b to show round ${round}`, () => {
        const seen = looks.filter(({ node }) => node === b).map(({ look }) => look.get() as number[]);
        for (const [min, max] of seen) assert.equal(min, max, "one transaction");
        return seen.every(([min, , , bytes]) => min === round && bytes === ROWS * length);
      });
      if (round % 23 === 0) writers[1]!.pragma(`wal_checkpoint(${round % 2 === 0 ? "RESTART" : "TRUNCATE"})`);
      if (round % 40 === 0) process.kill(a.pids().engine!, "SIGKILL");
      if (round % 55 === 0) {
        process.kill(b.pids().engine!, "SIGKILL");
        await b.ready();
      }
      if (round % 10 === 0) {
        // One that comes later, and one that goes.
        writers[0]!.close();
        writers[0] = open(a);
        dbs.push(writers[0]);
        updates[0] = writers[0].prepare("UPDATE t SET v = ?, body = randomblob(?)");
      }
    }
    for (const { db } of readers) assert.deepEqual(db.pragma("integrity_check"), [{ integrity_check: "ok" }]);
  } finally {
    for (const db of dbs) db.close();
    await cluster.dispose();
  }
});
