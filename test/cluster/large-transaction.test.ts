/**
 * One transaction that is far larger than what a node may take in memory, on its way through two nodes.
 *
 * Counted in the peak of each engine's resident memory (VmHWM), which misses no moment, not in time.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { assertSame, positionOf, txidOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Program } from "../support/programs.ts";

const MIB = 1 << 20;
const LARGE_MIB = 128;
/** What an engine may take beside what it had, whatever the size of the transaction. */
const GROWTH_MAX = 64 * MIB;

const residentOf = (pid: number, field: "VmRSS" | "VmHWM"): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(fs.readFileSync(`/proc/${pid}/status`, "latin1"))![1]) * 1024;

/** Begins to watch; the call that it answers ends that and tells by how much the process had grown at its largest. */
function growthOf(pid: number): () => number {
  fs.writeFileSync(`/proc/${pid}/clear_refs`, "5");
  const before = residentOf(pid, "VmRSS");
  return () => residentOf(pid, "VmHWM") - before;
}

/** Commits so many MiB that do not compress in one transaction. */
const large = (program: Program, path: string, mib: number): Promise<void> => program.exec(path, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${mib}) INSERT INTO big(body) SELECT randomblob(1048000) FROM n`);

test(`a transaction of ${LARGE_MIB} MiB reaches the follower whole, from a WAL and from a rollback journal; neither engine takes memory in proportion`, { timeout: 300_000 }, async (t) => {
  const cluster = await TestCluster.start(["a", "b"]);
  const program = new Program();
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    for (const mode of ["wal", "delete"]) {
      const name = `${mode}.db`;
      await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, "CREATE TABLE big(id INTEGER PRIMARY KEY, body BLOB)");
      await assertSame(cluster, name);
      const txid = txidOf(a, name);
      const grown = [growthOf(a.pids().engine!), growthOf(b.pids().engine!)];
      await large(program, a.path(name), LARGE_MIB);
      assert.equal(txidOf(a, name), txid + 1);
      await cluster.inStep(name, 200_000);
      const [primary, follower] = grown.map((growth) => growth()) as [number, number];
      t.diagnostic(`${mode}: the primary's engine grew by ${(primary / MIB).toFixed(0)} MiB, the follower's by ${(follower / MIB).toFixed(0)}`);
      assert.ok(primary < GROWTH_MAX, `${mode}: the primary grew by ${primary} bytes`);
      assert.ok(follower < GROWTH_MAX, `${mode}: the follower grew by ${follower} bytes`);
      await assertSame(cluster, name);
    }
  } finally {
    await program.end();
    await cluster.dispose();
  }
});

test("a follower that stands still (SIGSTOP) under a large transaction and under writers stops no commit and costs the primary a bounded amount of memory", { timeout: 300_000 }, async (t) => {
  const cluster = await TestCluster.start(["a", "b"]);
  const programs = [new Program(), new Program()] as const;
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    for (const name of ["large.db", "small.db"]) await programs[0].exec(a.path(name), "PRAGMA journal_mode = wal", "CREATE TABLE big(id INTEGER PRIMARY KEY, body BLOB)", "INSERT INTO big(body) VALUES ('begin')");
    await assertSame(cluster, "large.db");
    await assertSame(cluster, "small.db");
    const before = { large: positionOf(b, "large.db"), small: positionOf(b, "small.db") };
    const stopped = b.pids().engine!;
    process.kill(stopped, "SIGSTOP");
    try {
      const grown = growthOf(a.pids().engine!);
      // Commits of 10 KiB until the end of the large one and for as many again: without a busy timeout, none is refused.
      const writing = programs[1].run(async ({ Database, say, kept }, path) => {
        const db = (kept["db"] = new Database(path, { timeout: 0 }));
        let left = Infinity;
        process.once("SIGUSR2", () => (left = 2_000));
        for (let done = 0; left > 0; done++, left--) {
          db.exec("INSERT INTO big(body) VALUES (randomblob(10000)); DELETE FROM big WHERE id < (SELECT max(id) FROM big) - 200");
          if (done === 100) say("writing");
          // The signal is seen, and the engine on two busy processors takes part.
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        db.close();
      }, a.path("small.db"));
      await until("the writer to write", () => programs[1].lines.includes("writing"));
      await large(programs[0], a.path("large.db"), LARGE_MIB);
      assert.equal(txidOf(a, "large.db"), before.large.txid + 1);
      process.kill(programs[1].pid, "SIGUSR2");
      await writing;
      assert.ok(txidOf(a, "small.db") >= before.small.txid + 2_000);
      const primary = grown();
      t.diagnostic(`the primary's engine grew by ${(primary / MIB).toFixed(0)} MiB`);
      assert.ok(primary < GROWTH_MAX, `the primary grew by ${primary} bytes`);
    } finally {
      process.kill(stopped, "SIGCONT");
    }
    for (const name of ["large.db", "small.db"]) {
      await cluster.inStep(name, 200_000);
      await assertSame(cluster, name);
    }
    assert.equal(b.pids().engine, stopped, "the same engine went on");
  } finally {
    for (const program of programs) await program.end();
    await cluster.dispose();
  }
});
