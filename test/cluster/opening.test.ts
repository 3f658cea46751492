/** A database that was just opened: reads ask the node nothing, and what makes it so is no transaction and does no harm. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { after, before, describe, test } from "node:test";
import { assertSame, positionOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Program, bytesOf } from "../support/programs.ts";

const READS = 2_000;

/** Needs passthrough: with the other driver reads are requests in any case. */
const skip = process.env["SLUICE_TEST_DRIVER"] === "fuse-native" ? "SKIPPED with fuse-native: every read is a request there" : false;

describe("a database in WAL mode that was just opened on the primary", { timeout: 200_000, skip }, () => {
  let cluster: TestCluster;
  let a: TestNode;
  let program: Program;

  before(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    a = cluster.nodes[0]!;
    program = new Program();
  });

  after(async () => {
    await program.end();
    await cluster.dispose();
  });

  const make = (name: string): Promise<void> => program.exec(a.path(name), "PRAGMA journal_mode = wal", "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t(body) SELECT randomblob(1000) FROM n");

  const attributeRequests = async (): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${a.ports.admin}/metrics`, { headers: { connection: "close" } })).text();
    return Number(/sluice_fuse_requests_total\{[^}]*operation="GETATTR"[^}]*\} (\d+)/.exec(text)?.[1] ?? 0);
  };

  test("is read without a request for each transaction, and that is no transaction of its own", async () => {
    await make("read.db");
    await assertSame(cluster, "read.db");
    const position = positionOf(a, "read.db");
    const before = await attributeRequests();
    await program.run(({ Database }, path, reads) => {
      const db = new Database(path);
      const row = db.prepare("SELECT body FROM t WHERE id = ?");
      for (let i = 0; i < reads; i++) if (row.get(1 + ((i * 7) % 2_000)) === undefined) throw new Error("a row is missing");
      db.close();
    }, a.path("read.db"), READS);
    const asked = (await attributeRequests()) - before;
    assert.ok(asked < READS / 10, `${asked} requests for attributes in ${READS} reads`);
    assert.deepEqual(positionOf(a, "read.db"), position);
    await assertSame(cluster, "read.db");
  });

  test("keeps its content and its position when its programs are killed, and when the node is", async () => {
    await make("killed.db");
    await assertSame(cluster, "killed.db");
    const position = positionOf(a, "killed.db");
    const content = bytesOf(a.path("killed.db"));
    const reader = new Program();
    try {
      await reader.run(({ Database, kept }, path) => {
        const db = (kept["db"] = new Database(path));
        db.prepare("SELECT count(*) FROM t").get();
      }, a.path("killed.db"));
      assert.ok(fs.statSync(a.path("killed.db-wal")).size > 0, "the WAL holds a frame");
      await reader.kill();
    } finally {
      await reader.end();
    }
    assert.deepEqual(bytesOf(a.path("killed.db")), content);
    assert.deepEqual(positionOf(a, "killed.db"), position);
    // Opened in a program of its own: while there is no engine, the call that needs one waits.
    process.kill(a.pids().engine!, "SIGKILL");
    await program.exec(a.path("killed.db"), "SELECT count(*) FROM t", "INSERT INTO t(body) VALUES (1)");
    await until("the engine to serve again", async () => (await a.status())?.ready);
    assert.equal(positionOf(a, "killed.db").txid, position.txid + 1);
    await assertSame(cluster, "killed.db");
  });

  for (const mode of ["delete", "truncate"]) {
    test(`can be switched to journal_mode=${mode} and back, with each commit one TXID`, async () => {
      const name = `switched-${mode}.db`;
      await make(name);
      await assertSame(cluster, name);
      const before = positionOf(a, name).txid;
      await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, "INSERT INTO t(body) VALUES (1)", "PRAGMA journal_mode = wal", "INSERT INTO t(body) VALUES (2)");
      await assertSame(cluster, name);
      // Two switches and two rows.
      assert.equal(positionOf(a, name).txid, before + 4);
    });
  }

  test("that is opened again and again for a moment does not pay a checkpoint each time", async () => {
    await make("short.db");
    await assertSame(cluster, "short.db");
    const frames = await program.run(({ Database }, path) => {
      let count = 0;
      for (let i = 0; i < 10; i++) {
        const db = new Database(path);
        db.prepare("SELECT count(*) FROM t").get();
        if ((process.getBuiltinModule("node:fs") as { statSync(path: string): { size: number } }).statSync(`${path}-wal`).size > 0) count++;
        db.close();
      }
      return count;
    }, a.path("short.db"));
    assert.ok(frames < 10, `${frames} of 10 openings put a frame into the WAL`);
  });
});
