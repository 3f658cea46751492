/**
 * What applications meet on a follower: reads at any time, writes refused in SQLite's own way, nothing that changes a replicated database;
 * and what was changed past SQLite is found, reported and healed.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import Database from "better-sqlite3";
import { assertSame, positionOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Program, bytesOf, python, skipWithout } from "../support/programs.ts";

const TABLE = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)";
const ROWS = (count: number, size = 100): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t(body) SELECT randomblob(${size}) FROM n`;

describe("on a follower", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let a: TestNode;
  let b: TestNode;
  let program: Program;

  before(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    [a, b] = cluster.nodes as [TestNode, TestNode];
    program = new Program();
    await program.exec(a.path("app.db"), "PRAGMA journal_mode = wal", TABLE, ROWS(500, 1000));
    await assertSame(cluster, "app.db");
  });

  after(async () => {
    await program.end();
    await cluster.dispose();
  });

  test("a database has the owner and mode that it has on the primary, so its application can open it there as well", { skip: skipWithout("sqlite3") }, async () => {
    const uid = 4_242;
    fs.chmodSync(cluster.folder, 0o755);
    fs.mkdirSync(a.path("owned"));
    fs.chownSync(a.path("owned"), uid, uid);
    const made = spawnSync("sh", ["-c", "umask 077; exec sqlite3 app.db 'PRAGMA journal_mode = wal; CREATE TABLE t(x); INSERT INTO t VALUES (7)'"], { cwd: a.path("owned"), uid, gid: uid, encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    await assertSame(cluster, "owned/app.db");
    for (const suffix of ["", "-wal", "-shm"]) {
      const stat = fs.statSync(b.path(`owned/app.db${suffix}`));
      assert.deepEqual([stat.uid, stat.gid, stat.mode & 0o777], [uid, uid, 0o600], `app.db${suffix}`);
    }
    const read = spawnSync("sqlite3", [b.path("owned/app.db"), "SELECT x FROM t"], { uid, gid: uid, encoding: "utf8" });
    assert.deepEqual([read.stdout, read.stderr], ["7\n", ""]);
  });

  for (const mode of ["wal", "delete"]) {
    test(`readers with a busy timeout of 0 are never refused and never see half a transaction while the primary writes with journal_mode=${mode}`, async () => {
      const name = `reads-${mode}.db`;
      await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, TABLE, "CREATE TABLE sum(n)", "INSERT INTO sum VALUES (0)");
      await assertSame(cluster, name);
      const reader = new Program();
      try {
        const reading = reader.run(async ({ Database, say }, path) => {
          let states = 0;
          let last = -1;
          for (const end = Date.now() + 60_000; last < 200 && Date.now() < end; ) {
            // A long-lived connection and a fresh one, in turn.
            const db = new Database(path, { timeout: 0 });
            for (let i = 0; i < 50 && last < 200; i++) {
              db.exec("BEGIN");
              const { n } = db.prepare("SELECT n FROM sum").get() as { n: number };
              const { c, m } = db.prepare("SELECT count(*) AS c, count(DISTINCT body) AS m FROM t").get() as { c: number; m: number };
              db.exec("COMMIT");
              if (c !== n * 20 || m > 1) throw new Error(`torn: ${n} transactions, ${c} rows, ${m} values`);
              if (n < last) throw new Error(`went back from ${last} to ${n}`);
              if (last < 0) say("reading");
              if (n !== last) states++;
              last = n;
            }
            db.close();
          }
          return { states, last };
        }, b.path(name));
        await until("the reader to have begun", () => reader.lines.includes("reading"));
        await program.run(async ({ Database }, path) => {
          const db = new Database(path);
          for (let i = 1; i <= 200; i++) {
            await new Promise((resolve) => setTimeout(resolve, 2));
            db.exec(`BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) INSERT INTO t(body) SELECT 'x' FROM n; UPDATE t SET body = 'value ${i}'; UPDATE sum SET n = n + 1; COMMIT`);
            if (i % 70 === 0) db.pragma("wal_checkpoint(TRUNCATE)");
          }
          db.close();
        }, a.path(name));
        const { states, last } = await reading;
        assert.equal(last, 200);
        assert.ok(states > 5, `saw only ${states} states`);
      } finally {
        await reader.end();
      }
    });
  }

  test("a write is refused with SQLITE_BUSY, after the application's own busy timeout, and changes nothing", async () => {
    const before = positionOf(b, "app.db");
    for (const sql of ["INSERT INTO t(body) VALUES (1)", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "CREATE TABLE more(x)", "VACUUM", "PRAGMA user_version = 7"]) {
      const { code, waitedMs } = await program.run(({ Database }, path, sql) => {
        const db = new Database(path, { timeout: 300 });
        const from = performance.now();
        try {
          db.exec(sql);
          return { code: "none", waitedMs: 0 };
        } catch (error) {
          return { code: (error as { code: string }).code, waitedMs: performance.now() - from };
        } finally {
          db.close();
        }
      }, b.path("app.db"), sql);
      assert.equal(code, "SQLITE_BUSY", sql);
      assert.ok(waitedMs >= 250, `${sql}: after ${waitedMs} ms`);
    }
    assert.deepEqual(positionOf(b, "app.db"), before);
    await assertSame(cluster, "app.db");
  });

  test(".primary names the primary, .lag is a number, -pos the position, and none of them can be written", async () => {
    assert.equal(fs.readFileSync(b.path(".primary"), "utf8"), "a\n");
    assert.equal(fs.existsSync(a.path(".primary")), false);
    assert.match(fs.readFileSync(b.path(".lag"), "utf8"), /^\d+\n$/);
    assert.equal(fs.readFileSync(a.path(".lag"), "utf8"), "0\n");
    assert.equal(fs.readFileSync(b.path("app.db-pos"), "utf8"), fs.readFileSync(a.path("app.db-pos"), "utf8"));
    for (const name of [".primary", ".lag", "app.db-pos"]) assert.throws(() => fs.writeFileSync(b.path(name), "x"), { code: /^E(ACCES|PERM|ROFS|EXIST)$/ as unknown as string }, name);
  });

  test("truncating, deleting, renaming, and copying over a replicated database or its companions is refused with EROFS", async () => {
    const before = bytesOf(b.path("app.db"));
    const other = join(cluster.folder, "other.db");
    await program.exec(other, TABLE);
    fs.copyFileSync(other, b.path("local.file"));
    const reader = new Database(b.path("app.db"), { readonly: true });
    reader.prepare("SELECT count(*) FROM t").get();
    for (const name of ["app.db", "app.db-wal", "app.db-shm"]) {
      const path = b.path(name);
      const attempts: Record<string, () => unknown> = {
        truncate: () => fs.truncateSync(path, 0),
        "truncate to a size": () => fs.truncateSync(path, 100),
        "open for writing anew": () => fs.closeSync(fs.openSync(path, "w")),
        unlink: () => fs.unlinkSync(path),
        "rename away": () => fs.renameSync(path, b.path("away")),
        "rename over": () => fs.renameSync(b.path("local.file"), path),
        "copy over": () => fs.copyFileSync(other, path),
      };
      for (const [what, attempt] of Object.entries(attempts)) assert.throws(attempt, { code: "EROFS" }, `${what} ${name}`);
    }
    reader.close();
    assert.throws(() => fs.writeFileSync(b.path("app.db-journal"), "x"), { code: "EROFS" }, "a journal would be rolled back into it");
    assert.ok(bytesOf(b.path("app.db")).equals(before));
  });

  test("nothing that SQLite can be told changes it: journal modes, checkpoints, VACUUM, locking_mode=EXCLUSIVE", async () => {
    const before = positionOf(b, "app.db");
    const size = fs.statSync(b.path("app.db")).size;
    for (const pragma of ["journal_mode = DELETE", "journal_mode = OFF", "journal_mode = TRUNCATE", "wal_checkpoint(PASSIVE)", "wal_checkpoint(FULL)", "wal_checkpoint(RESTART)", "wal_checkpoint(TRUNCATE)", "locking_mode = EXCLUSIVE", "auto_vacuum = FULL", "page_size = 512", "application_id = 5"]) {
      await program.run(({ Database }, path, pragma) => {
        const db = new Database(path, { timeout: 0 });
        try {
          db.unsafeMode();
          db.pragma(pragma);
          db.prepare("SELECT count(*) FROM t").get();
          db.exec("VACUUM");
        } catch (error) {
          if (!/^SQLITE_(BUSY|READONLY|LOCKED|IOERR|CANTOPEN)/.test((error as { code?: string }).code ?? "")) throw error;
        } finally {
          db.close();
        }
      }, b.path("app.db"), pragma);
    }
    assert.deepEqual(positionOf(b, "app.db"), before);
    assert.equal(fs.statSync(b.path("app.db")).size, size);
    await assertSame(cluster, "app.db");
    await program.exec(a.path("app.db"), "INSERT INTO t(body) VALUES ('after')");
    await assertSame(cluster, "app.db");
  });

  test("the last close of an application removes neither -wal nor -shm, and what comes later is read all the same", async () => {
    for (let round = 0; round < 3; round++) {
      await program.run(({ Database }, path) => {
        const db = new Database(path);
        db.prepare("SELECT count(*) FROM t").get();
        db.close();
      }, b.path("app.db"));
      for (const suffix of ["-wal", "-shm"]) assert.ok(fs.existsSync(b.path(`app.db${suffix}`)), suffix);
      assert.ok(fs.statSync(b.path("app.db-wal")).size > 0);
      await program.exec(a.path("app.db"), `INSERT INTO t(body) VALUES ('round ${round}')`);
      await assertSame(cluster, "app.db");
    }
  });

  test("a database that is there only as a local file of the follower is set aside when the primary creates one of its name", async () => {
    fs.writeFileSync(b.path("taken.db"), "notes of mine");
    await program.exec(a.path("taken.db"), TABLE, ROWS(5));
    await assertSame(cluster, "taken.db");
    const kept = [...fs.readdirSync(b.mount), ...(fs.existsSync(join(b.data, "aside")) ? fs.readdirSync(join(b.data, "aside")) : [])].filter((name) => name.includes("taken.db") && !/^taken\.db(-wal|-shm|-pos)?$/.test(name));
    assert.ok(kept.length > 0, "the local file is kept somewhere");
  });

  test("a program in a long read transaction keeps its state, delays nobody, and is current again afterwards", async () => {
    const reader = new Program();
    try {
      const count = await reader.run(({ Database, kept }, path) => {
        const db = (kept["db"] = new Database(path, { readonly: true }));
        db.exec("BEGIN");
        return db.prepare("SELECT count(*) AS n FROM t").get();
      }, b.path("app.db"));
      for (let round = 0; round < 3; round++) {
        await program.exec(a.path("app.db"), ROWS(1500, 1000), "DELETE FROM t WHERE id % 2", "PRAGMA wal_checkpoint(TRUNCATE)");
        await cluster.inStep("app.db");
        assert.deepEqual(await reader.run(({ kept }) => kept["db"]!.prepare("SELECT count(*) AS n FROM t").get()), count);
      }
      await reader.run(({ kept }) => void kept["db"]!.exec("COMMIT"));
      await assertSame(cluster, "app.db");
    } finally {
      await reader.end();
    }
  });

  const WRITE = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDWR)\nsize = os.fstat(fd).st_size\nfor part in sys.argv[2:]:\n  at = int(float(part) * size)\n  os.pwrite(fd, b'DAMAGED!' * 64, at)\nos.close(fd)";
  for (const [suffix, places] of [["", ["0.3", "0.7"]], ["-wal", ["0", "0.01", "0.03"]], ["-shm", ["0", "0.01", "0.5"]]] as const) {
    test(`raw writes into the ${suffix === "" ? "database file" : suffix} on the follower are found, reported in /status, and healed`, { skip: skipWithout("python3") }, async () => {
      const name = `damage${suffix}.db`;
      // More than the follower keeps in its WAL: damage to a page whose newest version lies there is no damage, since the checkpoint writes over it.
      await program.exec(a.path(name), "PRAGMA journal_mode = wal", TABLE, ROWS(5000, 3000));
      await assertSame(cluster, name);
      await program.exec(a.path(name), "UPDATE t SET body = randomblob(2500) WHERE id % 7 = 0");
      const bytes = await assertSame(cluster, name);
      const before = (await b.status())!.damage;
      python(WRITE, b.path(`${name}${suffix}`), ...places);
      await until("the damage to be reported and healed", async () => {
        const { found, healed } = (await b.status())!.damage;
        return found > before.found && healed - before.healed === found - before.found;
      });
      assert.ok((await assertSame(cluster, name)).equals(bytes), "the content is again that of the primary");
      await program.exec(a.path(name), ROWS(10));
      await assertSame(cluster, name);
      // And what a later start would read is sound as well.
      await b.stop();
      b.start();
      await b.ready();
      await assertSame(cluster, name);
    });
  }
});
