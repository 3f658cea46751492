/**
 * A start costs what there is to do, not what there is: a node with a large database serves without reading it.
 *
 * Counted in bytes that the node's processes read (/proc/PID/io), not in time. The database is mostly a hole in the file, which SQLite takes
 * as pages of zeroes: what a node reads of it is counted all the same.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertSame, positionOf, txidOf } from "../support/compare.ts";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";
import { Program } from "../support/programs.ts";

const MIB = 1 << 20;

/** Bytes that a process has asked for by read calls so far. */
const readBy = (pid: number): number => Number(/^rchar: (\d+)/m.exec(fs.readFileSync(`/proc/${pid}/io`, "latin1"))![1]);

/** A sound database of `mib` MiB: one large table of rows, and a freelist of untouched pages that makes up the rest. */
function makeSparse(path: string, mib: number): void {
  const pageSize = 65_536;
  const pages = mib * (MIB / pageSize);
  const fd = fs.openSync(path, "r+");
  const head = Buffer.alloc(100);
  fs.readSync(fd, head, 0, 100, 0);
  const used = head.readUInt32BE(28);
  // Trunk pages of the freelist name the leaves, which are never read; so only the trunks are written.
  const perTrunk = pageSize / 4 - 8;
  let first = 0;
  let free = 0;
  for (let end = pages; end > used; ) {
    const begin = Math.max(used + 1, end - perTrunk);
    const trunk = Buffer.alloc(pageSize);
    trunk.writeUInt32BE(first, 0);
    trunk.writeUInt32BE(end - begin, 4);
    for (let i = 0; begin + 1 + i <= end; i++) trunk.writeUInt32BE(begin + 1 + i, 8 + i * 4);
    fs.writeSync(fd, trunk, 0, pageSize, (begin - 1) * pageSize);
    first = begin;
    free += end - begin + 1;
    end = begin - 1;
  }
  head.writeUInt32BE(pages, 28);
  head.writeUInt32BE(first, 32);
  head.writeUInt32BE(free, 36);
  fs.writeSync(fd, head, 0, 100, 0);
  fs.ftruncateSync(fd, pages * pageSize);
  fs.closeSync(fd);
}

test("a node with a database of almost 1 GiB starts without reading it, after a clean stop and after kill -9, and goes on capturing", { timeout: 200_000 }, async (t) => {
  // Below 1 GiB: the lock page, which SQLite never puts into a freelist, lies there.
  const mib = 1000;
  const cluster = await TestCluster.start(["a"]);
  const program = new Program();
  try {
    const [a] = cluster.nodes as [TestNode];
    const source = join(cluster.folder, "source.db");
    await program.exec(source, "PRAGMA page_size = 65536", "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)", "INSERT INTO t(body) VALUES (randomblob(1000000))");
    makeSparse(source, mib);
    const imported = await sluice("import", "-c", a.config, "--name", "large.db", source);
    assert.equal(imported.code, 0, imported.output);
    await program.exec(a.path("large.db"), "PRAGMA journal_mode = wal", "INSERT INTO t(body) VALUES (1)");
    assert.equal(fs.statSync(a.path("large.db")).size, mib * MIB);
    for (const how of ["clean stop", "kill -9"] as const) {
      const before = positionOf(a, "large.db");
      if (how === "kill -9") await a.killAll();
      else assert.equal(await a.stop(), 0);
      a.start();
      await a.ready();
      assert.deepEqual(positionOf(a, "large.db"), before);
      const status = (await a.status())!.databases.find(({ name }) => name === "large.db")!;
      assert.equal(status.state, "ok");
      const { guardian, engine } = a.pids();
      const bytes = readBy(guardian) + readBy(engine!);
      t.diagnostic(`${how}: ${(bytes / MIB).toFixed(1)} MiB read by guardian and engine to start with ${mib} MiB`);
      assert.ok(bytes < 100 * MIB, `${how}: ${bytes} bytes were read`);
      const txid = txidOf(a, "large.db");
      await program.exec(a.path("large.db"), "INSERT INTO t(body) VALUES (2)");
      assert.equal(txidOf(a, "large.db"), txid + 1);
      assert.ok(readBy(a.pids().engine!) < 150 * MIB, "nor does the first commit read it");
    }
  } finally {
    await program.end();
    await cluster.dispose();
  }
});

test("a restarted follower of a large database starts without reading it, too", { timeout: 200_000 }, async (t) => {
  const cluster = await TestCluster.start(["a", "b"]);
  const program = new Program();
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    await program.exec(a.path("f.db"), "PRAGMA journal_mode = wal", "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO t(body) SELECT zeroblob(1000000) FROM n", "PRAGMA wal_checkpoint(TRUNCATE)");
    await assertSame(cluster, "f.db");
    const size = fs.statSync(a.path("f.db")).size;
    // What is not checkpointed yet is read at the start: that is work to do. A follower checkpoints as transactions come.
    await until("the follower's checkpoint", async () => {
      await program.exec(a.path("f.db"), "INSERT INTO t(body) VALUES (1)");
      await cluster.inStep("f.db");
      return fs.statSync(b.path("f.db-wal")).size < MIB;
    });
    for (const how of ["clean stop", "kill -9"] as const) {
      if (how === "kill -9") await b.killAll();
      else assert.equal(await b.stop(), 0);
      await program.exec(a.path("f.db"), "INSERT INTO t(body) VALUES (2)");
      b.start();
      await b.ready();
      await cluster.inStep("f.db");
      const { guardian, engine } = b.pids();
      const bytes = readBy(guardian) + readBy(engine!);
      t.diagnostic(`${how}: ${(bytes / MIB).toFixed(1)} MiB read by guardian and engine to start with ${(size / MIB).toFixed(0)} MiB`);
      assert.ok(bytes < 100 * MIB, `${how}: ${bytes} bytes were read`);
    }
    await assertSame(cluster, "f.db");
  } finally {
    await program.end();
    await cluster.dispose();
  }
});
