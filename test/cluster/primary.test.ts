/**
 * What applications do on the primary works as on ext4, and the follower gets it byte for byte, one TXID for each commit.
 *
 * One cluster of two nodes for the whole file; every fact has a database of its own. Content is compared as SQLite reads it on both nodes.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import Database from "better-sqlite3";
import { assertSame, positionOf, txidOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { addNode, removeNode } from "../support/membership.ts";
import { Program, python, shell, skipWithout } from "../support/programs.ts";

const MODES = ["wal", "delete", "truncate", "persist", "memory", "off"] as const;
const ROWS = (count: number, size = 100): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t(body) SELECT randomblob(${size}) FROM n`;
const TABLE = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)";

/** The second driver is slower by far, and runs the same code above: a third of the repetitions has to do there. */
const often = (count: number): number => (process.env["SLUICE_TEST_DRIVER"] === "fuse-native" ? Math.ceil(count / 3) : count);

describe("on the primary", { timeout: 400_000 }, () => {
  let cluster: TestCluster;
  let a: TestNode;
  let b: TestNode;
  let program: Program;

  before(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    [a, b] = cluster.nodes as [TestNode, TestNode];
    program = new Program();
  });

  after(async () => {
    await program.end();
    await cluster.dispose();
  });

  for (const mode of MODES) {
    test(`every commit is exactly one TXID with journal_mode=${mode}`, async () => {
      const name = `count-${mode}.db`;
      await program.run(({ Database, kept }, path, mode) => {
        const db = (kept["db"] = new Database(path)).unsafeMode();
        if (db.pragma(`journal_mode = ${mode}`, { simple: true }) !== mode) throw new Error("the journal mode is another one");
        db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
      }, a.path(name), mode);
      // Without a journal nothing announces a new database: it is found by its header, a moment later.
      await until(`${name} to be known as a database`, () => fs.existsSync(a.path(`${name}-pos`)));
      await cluster.inStep(name);
      const before = txidOf(a, name);
      const commits = 40;
      await program.run(({ kept }, commits) => {
        const insert = kept["db"]!.prepare("INSERT INTO t(body) VALUES (randomblob(50))");
        for (let i = 0; i < commits; i++) insert.run();
      }, commits);
      // Modes without a journal give no signal: their commits are counted from the header's change counter, a moment later.
      await until(`${commits} transactions of ${mode}, ${txidOf(a, name) - before} so far`, () => txidOf(a, name) - before >= commits);
      assert.equal(txidOf(a, name) - before, commits);
      // A transaction that reads only, or changes nothing, has no TXID.
      await program.run(({ kept }) => {
        const db = kept["db"]!;
        db.exec("BEGIN; SELECT count(*) FROM t; COMMIT; BEGIN IMMEDIATE; COMMIT; BEGIN; INSERT INTO t(body) VALUES (1); ROLLBACK");
        db.close();
      });
      await assertSame(cluster, name);
      assert.equal(txidOf(a, name) - before, commits, "reading, an empty transaction, a rollback");
    });
  }

  test("locking_mode=EXCLUSIVE in WAL, which has no -shm, and in rollback modes is captured commit by commit while it stays open", async () => {
    for (const mode of ["wal", "delete", "truncate", "persist"]) {
      const name = `exclusive-${mode}.db`;
      await program.run(({ Database, kept }, path, mode) => {
        const db = (kept["db"] = new Database(path));
        db.pragma("locking_mode = exclusive");
        db.pragma(`journal_mode = ${mode}`);
        db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
      }, a.path(name), mode);
      assert.equal(fs.existsSync(a.path(`${name}-shm`)), false);
      await cluster.inStep(name);
      const before = txidOf(a, name);
      await program.run(({ kept }) => {
        for (let i = 0; i < 20; i++) kept["db"]!.exec("INSERT INTO t(body) VALUES (randomblob(3000))");
      });
      await cluster.inStep(name);
      assert.equal(txidOf(a, name) - before, 20, mode);
      const onFollower = new Database(b.path(name), { readonly: true });
      assert.deepEqual(onFollower.prepare("SELECT count(*) AS n FROM t").get(), { n: 20 }, `${mode}: the follower has them before the program closes`);
      onFollower.close();
      await program.run(({ kept }) => {
        const db = kept["db"]!;
        db.pragma("wal_checkpoint(TRUNCATE)");
        db.exec("DELETE FROM t WHERE id % 2; INSERT INTO t(body) VALUES (randomblob(9000))");
        db.close();
      });
      await assertSame(cluster, name, mode);
    }
  });

  test("a program may go from every journal mode to every other, with rows written in each", async () => {
    const name = "switch.db";
    await program.run(({ Database }, path, modes) => {
      let db = new Database(path).unsafeMode();
      db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
      for (const from of modes) {
        for (const to of modes) {
          for (const mode of [from, to]) {
            const got = db.pragma(`journal_mode = ${mode}`, { simple: true });
            if (got !== mode) throw new Error(`${from} to ${to}: is ${String(got)}`);
            db.exec("INSERT INTO t(body) VALUES (randomblob(500)); UPDATE t SET body = randomblob(600) WHERE id % 5 = 1");
          }
        }
        db.close();
        db = new Database(path).unsafeMode();
      }
      db.close();
    }, a.path(name), MODES);
    await assertSame(cluster, name);
  });

  test("all page sizes, VACUUM, and VACUUM to every other page size arrive", async () => {
    const name = "pages.db";
    const sizes = [512, 65536, 1024, 32768, 2048, 16384, 4096, 8192];
    await program.exec(a.path(name), "PRAGMA page_size = 512", TABLE, ROWS(500), "CREATE INDEX i ON t(body)");
    for (const size of sizes) {
      await program.exec(a.path(name), "PRAGMA journal_mode = delete", "DELETE FROM t WHERE id % 3 = 0", `PRAGMA page_size = ${size}`, "VACUUM", "PRAGMA journal_mode = wal", ROWS(50), "VACUUM", ROWS(20));
      const bytes = await assertSame(cluster, name, `page size ${size}`);
      assert.equal(bytes.readUInt16BE(16), size === 65536 ? 1 : size);
    }
  });

  test("a database is created with every page size in WAL and in DELETE mode", async () => {
    for (const size of [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]) {
      for (const mode of ["wal", "delete"]) {
        const name = `size-${mode}-${size}.db`;
        await program.exec(a.path(name), `PRAGMA page_size = ${size}`, `PRAGMA journal_mode = ${mode}`, TABLE, ROWS(100, 700), "UPDATE t SET body = randomblob(900) WHERE id % 7 = 0");
        const bytes = await assertSame(cluster, name);
        assert.equal(bytes.readUInt16BE(16), size === 65536 ? 1 : size);
      }
    }
  });

  test("auto_vacuum, full and incremental, shrinks the database on both nodes", async () => {
    for (const mode of ["wal", "delete"]) {
      for (const vacuum of ["full", "incremental"]) {
        const name = `vacuum-${vacuum}-${mode}.db`;
        await program.exec(a.path(name), `PRAGMA auto_vacuum = ${vacuum}`, `PRAGMA journal_mode = ${mode}`, TABLE, ROWS(300, 3000));
        const full = await assertSame(cluster, name);
        await program.exec(a.path(name), "DELETE FROM t WHERE id > 100", ...(vacuum === "incremental" ? ["PRAGMA incremental_vacuum(50)", "PRAGMA incremental_vacuum"] : []));
        const shrunk = await assertSame(cluster, name);
        assert.ok(shrunk.length < full.length / 2, `${name}: ${full.length} to ${shrunk.length} bytes`);
        await program.exec(a.path(name), ROWS(200, 2000));
        await assertSame(cluster, name);
      }
    }
  });

  test("wal_checkpoint in all modes, wal_autocheckpoint 0 and 1, and the last close lose no commit and add no TXID", async () => {
    const name = "checkpoint.db";
    await program.run(({ Database, kept }, path) => {
      const db = (kept["db"] = new Database(path));
      kept["other"] = new Database(path);
      db.pragma("journal_mode = wal");
      db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
    }, a.path(name));
    const before = txidOf(a, name);
    const commits = await program.run(({ kept, Database }, path) => {
      let db = kept["db"]!;
      let commits = 0;
      for (const auto of [0, 1, 1000]) {
        db.pragma(`wal_autocheckpoint = ${auto}`);
        for (const mode of ["PASSIVE", "FULL", "RESTART", "TRUNCATE"]) {
          for (const reading of [false, true]) {
            const reader = kept["other"]!.prepare("SELECT count(*) FROM t");
            if (reading) {
              kept["other"]!.exec("BEGIN");
              reader.get();
            }
            for (let i = 0; i < 10; i++, commits++) db.exec("INSERT INTO t(body) VALUES (randomblob(2000))");
            db.pragma("busy_timeout = 0");
            db.pragma(`wal_checkpoint(${mode})`);
            if (reading) kept["other"]!.exec("COMMIT");
            db.pragma(`wal_checkpoint(${mode})`);
            for (let i = 0; i < 3; i++, commits++) db.exec("UPDATE t SET body = randomblob(100) WHERE id = 1");
          }
        }
      }
      db.close();
      kept["other"]!.close();
      for (let i = 0; i < 5; i++, commits++) {
        db = new Database(path);
        db.exec("INSERT INTO t(body) VALUES (randomblob(2000))");
        db.close();
      }
      return commits;
    }, a.path(name));
    assert.equal(fs.existsSync(a.path(`${name}-wal`)), false, "SQLite's last close removes the -wal, as on ext4");
    assert.equal(txidOf(a, name) - before, commits);
    await assertSame(cluster, name);
  });

  test("mmap reads what was committed, on both nodes, while the database grows and shrinks", async () => {
    const name = "mmap.db";
    const read = async (path: string): Promise<unknown> => program.run(({ Database }, path) => {
      const db = new Database(path, { readonly: true });
      db.pragma("mmap_size = 268435456");
      const row = db.prepare("SELECT count(*) AS n, sum(length(body)) AS bytes FROM t").get();
      db.close();
      return row;
    }, path);
    for (const mode of ["wal", "delete"]) {
      await program.exec(a.path(name), "PRAGMA mmap_size = 268435456", `PRAGMA journal_mode = ${mode}`, TABLE, "DELETE FROM t", ROWS(500, 4000), "VACUUM");
      await assertSame(cluster, name, mode);
      assert.deepEqual(await read(b.path(name)), { n: 500, bytes: 2_000_000 });
      await program.exec(a.path(name), "PRAGMA mmap_size = 268435456", "DELETE FROM t WHERE id > 50", "VACUUM", "UPDATE t SET body = zeroblob(10)");
      await assertSame(cluster, name, mode);
      assert.deepEqual(await read(b.path(name)), await read(a.path(name)));
    }
  });

  test("a transaction over two attached databases reaches both", async () => {
    for (const mode of ["delete", "wal", "truncate", "persist"]) {
      const [one, two] = [`attach-1-${mode}.db`, `attach-2-${mode}.db`];
      await program.exec(a.path(one), `PRAGMA journal_mode = ${mode}`, TABLE);
      await program.exec(a.path(two), `PRAGMA journal_mode = ${mode}`, TABLE);
      const from = [txidOf(a, one), txidOf(a, two)];
      await program.run(({ Database }, one, two) => {
        const db = new Database(one);
        db.exec(`ATTACH '${two}' AS two`);
        for (let i = 0; i < 10; i++) db.exec("BEGIN; INSERT INTO main.t(body) VALUES (randomblob(100)); INSERT INTO two.t(body) SELECT body FROM main.t; COMMIT");
        db.exec("BEGIN; INSERT INTO main.t(body) VALUES (1); INSERT INTO two.t(body) VALUES (1); ROLLBACK");
        db.close();
      }, a.path(one), a.path(two));
      await assertSame(cluster, one, mode);
      await assertSame(cluster, two, mode);
      assert.deepEqual([txidOf(a, one), txidOf(a, two)], from.map((txid) => txid + 10), mode);
    }
  });

  test("transactions that spill, savepoints and rollbacks of them arrive as what was committed", async () => {
    for (const mode of MODES.filter((mode) => mode !== "off")) {
      const name = `spill-${mode}.db`;
      await program.run(({ Database }, path, mode, rounds) => {
        const db = new Database(path);
        db.pragma(`journal_mode = ${mode}`);
        db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); CREATE INDEX i ON t(body)");
        db.pragma("cache_size = 5");
        const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(1500))");
        for (let round = 0; round < rounds; round++) {
          db.exec("BEGIN");
          for (let i = 0; i < 60; i++) insert.run();
          db.exec("SAVEPOINT one; UPDATE t SET body = randomblob(1800); SAVEPOINT two; DELETE FROM t WHERE id % 2; ROLLBACK TO two; RELEASE two; ROLLBACK TO one; RELEASE one");
          db.exec("COMMIT");
          db.exec("BEGIN; DELETE FROM t; ROLLBACK");
          db.exec("BEGIN; SAVEPOINT x; UPDATE t SET body = randomblob(200) WHERE id % 3 = 0; RELEASE x; COMMIT");
        }
        db.close();
      }, a.path(name), mode, often(3));
      await assertSame(cluster, name, mode);
    }
  });

  test("pages that are taken from the freelist, which SQLite does not journal, arrive with their new content", async () => {
    for (const mode of MODES) {
      const name = `freelist-${mode}.db`;
      await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, TABLE, ROWS(800, 2000));
      await assertSame(cluster, name, mode);
      for (let round = 0; round < often(3); round++) {
        await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, "DELETE FROM t WHERE id % 4 <> 0", ROWS(300, 1500), "DELETE FROM t WHERE id % 5 = 0", ROWS(300, 5000));
        await assertSame(cluster, name, `${mode}, round ${round}`);
      }
    }
  });

  test("with a busy timeout of 0 a program sees no SQLITE_BUSY, thousands of commits long, while positions are read and snapshots taken", async () => {
    for (const mode of ["wal", "delete"]) {
      const name = `busy-${mode}.db`;
      const commits = often(mode === "wal" ? 3000 : 600);
      await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, TABLE, ROWS(2000, 1000));
      const extra = await addNode(cluster, `c-${mode}`);
      try {
        let running = true;
        const writing = program.run(async ({ Database }, path, commits) => {
          const db = new Database(path, { timeout: 0 });
          const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(500))");
          const read = db.prepare("SELECT count(*) FROM t WHERE id < 100");
          for (let i = 0; i < commits; i++) {
            insert.run();
            if (i % 10 === 0) read.get();
            if (i % 500 === 0) db.pragma("wal_checkpoint(TRUNCATE)");
          }
          db.close();
          return commits;
        }, a.path(name), commits).finally(() => (running = false));
        extra.start();
        let looks = 0;
        while (running) {
          positionOf(a, name);
          looks++;
          await new Promise((resolve) => setTimeout(resolve, 3));
        }
        assert.equal(await writing, commits);
        assert.ok(looks > 5);
        await extra.ready();
        await assertSame(cluster, name, mode);
      } finally {
        await removeNode(cluster, extra);
      }
    }
  });

  test("a program that opens a database, writes at once with a busy timeout of 0, and closes it, meets no SQLITE_BUSY, hundreds of times", async () => {
    const name = "busy-open.db";
    await program.exec(a.path(name), "PRAGMA journal_mode = wal", TABLE);
    const refused = await program.run(async ({ Database }, path, times) => {
      let refused = 0;
      for (let i = 0; i < times; i++) {
        const db = new Database(path, { timeout: 0 });
        db.prepare("SELECT count(*) FROM t").get();
        // Spread over the first milliseconds, in which the node takes note of the open file.
        for (const end = performance.now() + (i % 8) * 0.4; performance.now() < end; );
        try {
          for (let k = 0; k < 5; k++) db.exec("INSERT INTO t(body) VALUES (randomblob(100))");
        } catch (error) {
          if ((error as { code?: string }).code !== "SQLITE_BUSY") throw error;
          refused++;
        }
        db.close();
        if (i % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return refused;
    }, a.path(name), often(400));
    assert.equal(refused, 0, `${refused} of ${often(400)} were refused`);
    await assertSame(cluster, name);
  });

  test("readers and a writer with a busy timeout of 0 never meet SQLITE_BUSY in WAL", async () => {
    const name = "busy-readers.db";
    await program.exec(a.path(name), "PRAGMA journal_mode = wal", TABLE, ROWS(100));
    const readers = [new Program(), new Program()];
    try {
      // Opened before the writer: SQLite's own recovery by the first one would otherwise be seen as busy by the next.
      for (const reader of readers) {
        await reader.run(({ Database, kept }, path) => void (kept["db"] = new Database(path, { timeout: 0 })).prepare("SELECT count(*) FROM t").get(), a.path(name));
      }
      const reading = readers.map((reader) => reader.run(({ kept }) => {
        let last = 0;
        for (let i = 0; i < 3000; i++) {
          const { n } = kept["db"]!.prepare("SELECT count(*) AS n FROM t").get() as { n: number };
          if (n < last) throw new Error(`went back from ${last} to ${n}`);
          last = n;
        }
        kept["db"]!.close();
      }));
      await program.run(({ Database }, path) => {
        const db = new Database(path, { timeout: 0 });
        for (let i = 0; i < 3000; i++) db.exec("INSERT INTO t(body) VALUES (randomblob(100))");
        db.close();
      }, a.path(name));
      await Promise.all(reading);
      await assertSame(cluster, name);
    } finally {
      for (const reader of readers) await reader.end();
    }
  });

  test("a database that is deleted and created anew under its name continues the TXIDs, and the follower gets the new one", async () => {
    const name = "again.db";
    for (let round = 0; round < 3; round++) {
      await program.exec(a.path(name), `PRAGMA page_size = ${[4096, 1024, 8192][round]!}`, `PRAGMA journal_mode = ${["wal", "delete", "wal"][round]!}`, TABLE, ROWS(20 + round));
      await assertSame(cluster, name, `round ${round}`);
      const before = txidOf(a, name);
      for (const suffix of ["", "-wal", "-shm", "-journal"]) fs.rmSync(a.path(`${name}${suffix}`), { force: true });
      await until("the follower to delete it too", () => !fs.existsSync(b.path(name)));
      if (round < 2) {
        await program.exec(a.path(name), TABLE);
        assert.ok(txidOf(a, name) > before);
      }
    }
  });

  test("a database that is deleted and made anew at once, without a pause, is the new one on the follower", async () => {
    const name = "at-once.db";
    for (let round = 0; round < 5; round++) {
      await program.run(({ Database }, path, round) => {
        const db = new Database(path);
        db.pragma(`journal_mode = ${round % 2 === 0 ? "wal" : "delete"}`);
        db.exec(`CREATE TABLE IF NOT EXISTS r${round}(x)`);
        db.exec(`INSERT INTO r${round} VALUES (randomblob(9000))`);
        db.close();
      }, a.path(name), round);
      if (round < 4) fs.rmSync(a.path(name));
    }
    await assertSame(cluster, name);
    assert.equal(shell(b.path(name), "SELECT group_concat(name) FROM sqlite_schema"), "r4");
  });

  test("a database that is renamed is the new name on the follower, and the old name is gone", async () => {
    await program.exec(a.path("old.db"), "PRAGMA journal_mode = delete", TABLE, ROWS(50));
    await assertSame(cluster, "old.db");
    fs.renameSync(a.path("old.db"), a.path("new.db"));
    await assertSame(cluster, "new.db");
    await until("the old name to be gone on the follower", () => !fs.existsSync(b.path("old.db")));
    await program.exec(a.path("new.db"), ROWS(50));
    await assertSame(cluster, "new.db");
    // The usual way to replace a file at once: written beside it, renamed over it.
    await program.exec(a.path("beside.db"), "PRAGMA journal_mode = delete", TABLE, ROWS(5));
    await assertSame(cluster, "beside.db");
    fs.renameSync(a.path("beside.db"), a.path("new.db"));
    const bytes = await assertSame(cluster, "new.db");
    assert.equal(shell(b.path("new.db"), "SELECT count(*) FROM t"), "5", `${bytes.length} bytes`);
  });

  test("a database that a program writes little by little, past SQLite, is one transaction", async () => {
    const source = join(cluster.folder, "little.db");
    await program.exec(source, "PRAGMA journal_mode = delete", TABLE, ROWS(300, 1000));
    const bytes = fs.readFileSync(source);
    // By a descriptor that can read too, as SQLite's are.
    const fd = fs.openSync(a.path("little.db"), "w+");
    for (const [n, at] of [0, bytes.length >> 1].entries()) {
      fs.writeSync(fd, bytes, at, bytes.length - at - (n === 0 ? bytes.length - (bytes.length >> 1) : 0), at);
      // The node looks, and captures what is to be captured.
      await program.exec(a.path("meanwhile.db"), `CREATE TABLE t${n}(x)`);
      await assertSame(cluster, "meanwhile.db");
    }
    fs.closeSync(fd);
    await until("it to be a database", () => fs.existsSync(a.path("little.db-pos")));
    await assertSame(cluster, "little.db");
    assert.ok(fs.readFileSync(a.path("little.db")).equals(bytes));
    assert.equal(txidOf(a, "little.db"), 1);
  });

  test("cp of a database into the mount is one transaction, and so is cp over a database that is there", async () => {
    const source = join(cluster.folder, "source.db");
    await program.exec(source, "PRAGMA journal_mode = delete", TABLE, ROWS(3000, 1000));
    python("import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])", source, a.path("copied.db"));
    await until("the copy to be a database", () => fs.existsSync(a.path("copied.db-pos")));
    await assertSame(cluster, "copied.db");
    assert.ok(fs.readFileSync(a.path("copied.db")).equals(fs.readFileSync(source)), "the file is what was copied");
    assert.equal(txidOf(a, "copied.db"), 1);
    await program.exec(source, "DELETE FROM t WHERE id % 2", "VACUUM", "CREATE TABLE more(x)");
    execFileSync("cp", [source, a.path("copied.db")]);
    await until("the second copy", () => txidOf(a, "copied.db") > 1);
    await assertSame(cluster, "copied.db");
    assert.ok(fs.readFileSync(a.path("copied.db")).equals(fs.readFileSync(source)));
    assert.equal(txidOf(a, "copied.db"), 2);
    await program.exec(a.path("copied.db"), ROWS(1));
    await assertSame(cluster, "copied.db");
    assert.equal(txidOf(a, "copied.db"), 3);
  });

  test("databases in sub-folders are replicated, moved with their folder, and files that are no databases stay on this node, as /status says", async () => {
    fs.mkdirSync(a.path("deep/er"), { recursive: true });
    await program.exec(a.path("deep/er/x y%2F.db"), "PRAGMA journal_mode = wal", TABLE, ROWS(10));
    await assertSame(cluster, "deep/er/x y%2F.db");
    fs.renameSync(a.path("deep/er"), a.path("deep/moved"));
    await assertSame(cluster, "deep/moved/x y%2F.db");
    await until("the old place to be empty on the follower", () => !fs.existsSync(b.path("deep/er/x y%2F.db")));
    fs.writeFileSync(a.path("deep/notes.txt"), "only here");
    fs.writeFileSync(a.path("fake.db"), "not a database, in spite of its name");
    await until("/status to name them", async () => {
      const names = (await a.status())!.local.names;
      return names.includes("deep/notes.txt") && names.includes("fake.db");
    });
    assert.ok(!(await a.status())!.databases.some(({ name }) => name === "fake.db"));
    assert.equal(fs.existsSync(b.path("deep/notes.txt")), false);
    assert.equal(fs.existsSync(b.path("fake.db")), false);
  });

  test("owner and mode of a database are those that the application gave it, also for its -wal and -shm, and a new follower takes the mode over", async () => {
    const name = "mode.db";
    await program.run(({ Database, kept }, path) => {
      process.umask(0o027);
      const db = (kept["db"] = new Database(path));
      process.umask(0o022);
      db.pragma("journal_mode = wal");
      db.exec("CREATE TABLE t(x)");
    }, a.path(name));
    await assertSame(cluster, name);
    const mode = (node: TestNode, suffix = ""): string => (fs.statSync(node.path(`${name}${suffix}`)).mode & 0o777).toString(8);
    for (const suffix of ["", "-wal", "-shm"]) assert.equal(mode(a, suffix), "640", `mode of ${name}${suffix}`);
    fs.chmodSync(a.path(name), 0o600);
    fs.chownSync(a.path(name), 12_345, 54_321);
    const { uid, gid } = fs.statSync(a.path(name));
    assert.deepEqual([mode(a), uid, gid], ["600", 12_345, 54_321]);
    await program.run(({ kept }) => void kept["db"]!.close());
  });

  test("thousands of files, and a hundred databases at once, are served", async () => {
    fs.mkdirSync(a.path("many"));
    for (let i = 0; i < 3000; i++) fs.writeFileSync(a.path(`many/file-${i}`), String(i));
    assert.equal(fs.readdirSync(a.path("many")).length, 3000);
    for (const i of [0, 1234, 2999]) assert.equal(fs.readFileSync(a.path(`many/file-${i}`), "utf8"), String(i));
    await program.run(({ Database }, folder) => {
      for (let i = 0; i < 100; i++) {
        const db = new Database(`${folder}/many-${i}.db`);
        db.pragma(`journal_mode = ${i % 2 === 0 ? "wal" : "delete"}`);
        db.exec(`CREATE TABLE t(x); INSERT INTO t VALUES (${i})`);
        db.close();
      }
    }, a.path("many"));
    for (let i = 0; i < 100; i++) positionOf(a, `many/many-${i}.db`);
    for (const i of [0, 1, 57, 98, 99]) {
      await assertSame(cluster, `many/many-${i}.db`);
      assert.equal(shell(b.path(`many/many-${i}.db`), "SELECT x FROM t"), String(i));
    }
    await until("all on the follower", async () => (await b.status())!.databases.filter(({ name }) => name.startsWith("many/")).length === 100);
    fs.rmSync(a.path("many"), { recursive: true });
    await until("all gone on the follower", () => !fs.existsSync(b.path("many")) || fs.readdirSync(b.path("many")).every((name) => !name.endsWith(".db")));
  });

  test("a writer that is killed in mid-transaction leaves a hot journal, which the next open rolls back; the follower never has half of it", async () => {
    for (const mode of ["delete", "truncate", "persist", "wal"]) {
      const name = `killed-${mode}.db`;
      await program.exec(a.path(name), `PRAGMA journal_mode = ${mode}`, TABLE, ROWS(500, 1000));
      const before = await assertSame(cluster, name, mode);
      const { txid } = positionOf(a, name);
      const victim = new Program();
      await victim.run(({ Database, kept }, path, mode) => {
        const db = (kept["db"] = new Database(path));
        db.pragma(`journal_mode = ${mode}`);
        db.pragma("cache_size = 5");
        db.exec("BEGIN; UPDATE t SET body = randomblob(900); DELETE FROM t WHERE id % 3 = 0");
      }, a.path(name), mode);
      await victim.kill();
      await victim.end();
      if (mode !== "wal") assert.ok(fs.statSync(a.path(`${name}-journal`)).size > 512, `${mode}: the journal is hot`);
      assert.equal(shell(a.path(name), "SELECT count(*) FROM t"), "500", mode);
      const bytes = await assertSame(cluster, name, mode);
      assert.ok(bytes.equals(before), `${mode}: the content is that before the transaction`);
      assert.equal(txidOf(a, name), txid, mode);
      await program.exec(a.path(name), ROWS(3));
      await assertSame(cluster, name, mode);
      assert.ok(txidOf(a, name) > txid);
    }
  });

  test("the sqlite3 shell, Python and better-sqlite3 write to one database in turn and at once", { skip: skipWithout("sqlite3", "python3") }, async () => {
    const name = "several.db";
    shell(a.path(name), "PRAGMA journal_mode = wal", TABLE);
    const from = txidOf(a, name);
    const done = (command: string, args: string[]): Promise<number | null> => new Promise((resolve) => spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] }).on("exit", resolve));
    const script = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\nfor i in range(200): db.execute('INSERT INTO t(body) VALUES (randomblob(200))')\ndb.close()";
    const statements = Array.from({ length: 200 }, () => "INSERT INTO t(body) VALUES (randomblob(200));").join("");
    const codes = await Promise.all([
      done("python3", ["-c", script, a.path(name)]),
      done("sqlite3", ["-bail", "-cmd", ".timeout 30000", a.path(name), statements]),
      program.run(({ Database }, path) => {
        const db = new Database(path, { timeout: 30_000 });
        for (let i = 0; i < 200; i++) db.exec("INSERT INTO t(body) VALUES (randomblob(200))");
        db.close();
        return 0;
      }, a.path(name)),
    ]);
    assert.deepEqual(codes, [0, 0, 0]);
    await assertSame(cluster, name);
    assert.equal(txidOf(a, name) - from, 600);
    assert.equal(python("import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM t').fetchone()[0])", b.path(name)), "600");
  });
});
