/**
 * Whole nodes with the driver fuse-native: what this driver does differently, above all when processes die.
 *
 * That the store's tests hold on it is in native-store.test.ts and native-primary.test.ts.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { describe, test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { skipWithoutNative } from "../support/native-mount.ts";

function native(names: readonly string[]): Promise<TestCluster> {
  process.env["SLUICE_TEST_DRIVER"] = "fuse-native";
  return TestCluster.start(names);
}

/** The process that serves a node's mount. */
function serverPid(node: TestNode): number {
  const found = fs.readdirSync("/proc").filter((id) => /^\d+$/.test(id)).find((id) => {
    try {
      const stat = fs.readFileSync(`/proc/${id}/stat`, "latin1");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      return parent === node.process?.pid && fs.readFileSync(`/proc/${id}/cmdline`, "latin1").includes("fuse-native/server");
    } catch {
      return false; // It has ended meanwhile.
    }
  });
  assert.ok(found !== undefined, "the node has a process that serves its mount");
  return Number(found);
}

describe("nodes with fuse-native", { skip: skipWithoutNative, timeout: 600_000 }, () => {
  test("a follower shows what the primary commits, refuses writes by SQLITE_BUSY and everything else by EROFS, and says which driver it uses", async () => {
    const cluster = await native(["a", "b"]);
    try {
      const [a, b] = cluster.nodes as [TestNode, TestNode];
      assert.equal((await b.status())?.mount?.driver, "fuse-native");
      assert.match(b.output, /Mounted with driver fuse-native: the configuration asks for it/);
      const writer = new Database(a.path("app.db"));
      writer.pragma("journal_mode = WAL");
      writer.exec("CREATE TABLE t(x)");
      await cluster.inStep("app.db");
      const reader = new Database(b.path("app.db"), { timeout: 0 });
      const count = reader.prepare("SELECT count(*) FROM t").pluck();
      const insert = writer.prepare("INSERT INTO t VALUES (randomblob(500))");
      for (let n = 1; n <= 300; n++) {
        insert.run();
        if (n % 50 === 0) await until(`${n} rows on the follower`, () => count.get() === n);
      }
      assert.throws(() => reader.exec("INSERT INTO t VALUES (1)"), { code: "SQLITE_BUSY" });
      assert.equal(reader.pragma("integrity_check", { simple: true }), "ok");
      for (const refused of [() => fs.unlinkSync(b.path("app.db")), () => fs.truncateSync(b.path("app.db-wal"), 0), () => fs.renameSync(b.path("app.db"), b.path("x.db")), () => fs.writeFileSync(b.path("app.db"), "")]) {
        assert.throws(refused, { code: "EROFS" });
      }
      assert.equal(fs.readFileSync(b.path(".primary"), "utf8"), "a\n");
      assert.equal(fs.readFileSync(b.path("app.db-pos"), "utf8"), fs.readFileSync(a.path("app.db-pos"), "utf8"));
      reader.close();
      writer.close();
    } finally {
      await cluster.dispose();
    }
  });

  test("engines that are killed under running programs are started again: nothing is lost, positions go on, programs keep their files", async () => {
    const cluster = await native(["a", "b"]);
    try {
      const [a, b] = cluster.nodes as [TestNode, TestNode];
      const writer = new Database(a.path("app.db"));
      writer.pragma("journal_mode = WAL");
      writer.exec("CREATE TABLE t(x)");
      await cluster.inStep("app.db");
      const reader = new Database(b.path("app.db"));
      const count = reader.prepare("SELECT count(*) FROM t").pluck();
      let rows = 0;
      for (let round = 0; round < 3; round++) {
        for (const node of [a, b]) process.kill(node.pids().engine!, "SIGKILL");
        // Both go on at once: the primary's programs write, the follower's read.
        for (let n = 0; n < 20; n++, rows++) writer.exec("INSERT INTO t VALUES (randomblob(2000))");
        assert.ok(Number(count.get()) <= rows);
        await until("the rows have arrived", () => count.get() === rows);
      }
      const before = await cluster.inStep("app.db");
      writer.pragma("wal_checkpoint(TRUNCATE)");
      writer.exec("DELETE FROM t WHERE rowid % 2 = 0");
      assert.notEqual(await cluster.inStep("app.db"), before);
      assert.equal(reader.pragma("integrity_check", { simple: true }), "ok");
      reader.close();
      writer.close();
    } finally {
      await cluster.dispose();
    }
  });

  test("when the process that serves the mount is killed the node ends with 1, and its next start takes everything up", async () => {
    const cluster = await native(["a", "b"]);
    try {
      const [a, b] = cluster.nodes as [TestNode, TestNode];
      const writer = new Database(a.path("app.db"));
      writer.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
      writer.close();
      await cluster.inStep("app.db");
      for (const node of [a, b]) {
        process.kill(serverPid(node), "SIGKILL");
        assert.equal((await node.exited()).code, 1, node.output);
        assert.match(node.output, /the mount with it/);
        node.start();
        await node.ready();
      }
      const again = new Database(a.path("app.db"));
      again.exec("INSERT INTO t VALUES (2)");
      again.close();
      await cluster.inStep("app.db");
      await a.killAll();
      await until("the server has ended with its guardian", () => {
        try {
          fs.readdirSync(a.mount);
          return false;
        } catch (error) {
          return (error as NodeJS.ErrnoException).code === "ENOTCONN";
        }
      });
      a.start();
      await a.ready();
      const reader = new Database(b.path("app.db"), { readonly: true });
      assert.deepEqual(reader.prepare("SELECT x FROM t ORDER BY x").pluck().all(), [1, 2]);
      reader.close();
      assert.equal(await a.stop(), 0);
    } finally {
      await cluster.dispose();
    }
  });
});
