/** Unmodified SQLite on the mount: shells, languages, journal modes, several processes; and what it costs in requests. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { after, before, describe, test } from "node:test";
import { createRequire } from "node:module";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { run, skipWithoutMount, TestMount, until } from "../support/fuse-mount.ts";

let mount: TestMount;
const at = (name: string): string => mount.path(name);

async function shell(database: string, sql: string): Promise<string> {
  const outcome = await run("sqlite3", ["-bail", database], { input: sql });
  assert.equal(outcome.status, 0, outcome.stderr);
  return outcome.stdout;
}

/** Each of `writers` processes adds `count` rows, one transaction each. */
const WRITER = `
import sqlite3, sys
path, mode, count, sync = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
c = sqlite3.connect(path, timeout=120, isolation_level=None)
c.execute("pragma journal_mode=" + mode)
c.execute("pragma synchronous=" + sync)
for i in range(count):
    c.execute("begin immediate")
    c.execute("insert into t(x) values (randomblob(300))")
    c.execute("update n set value = value + 1")
    c.execute("commit")
c.close()
`;

describe("SQLite on the mount", { skip: skipWithoutMount }, () => {
  before(async () => { mount = await TestMount.start(); });
  after(async () => {
    const complaints = mount.hooks.filter((call) => call.hook === "report");
    await mount.dispose();
    assert.deepEqual(complaints, []);
  });

  for (const mode of ["wal", "delete", "truncate", "persist", "memory", "off"]) {
    test(`the shell writes and reads in journal_mode=${mode}`, async () => {
      const database = at(`shell-${mode}.db`);
      assert.equal(await shell(database, `pragma journal_mode=${mode}; create table t(a); insert into t values(1),(2),(3); delete from t where a=2; select sum(a) from t;`), `${mode}\n4\n`);
      assert.equal(await shell(database, "vacuum; pragma integrity_check; select count(*) from t;"), "ok\n2\n");
    });
  }

  for (const mode of ["wal", "delete", "persist"]) {
    test(`three processes write at once in journal_mode=${mode}, and no transaction is lost`, async () => {
      const database = at(`many-${mode}.db`);
      await shell(database, `pragma journal_mode=${mode}; create table t(x); create table n(value); insert into n values(0);`);
      const count = mode === "wal" ? 200 : 40;
      const writers = await Promise.all([1, 2, 3].map(() => run("python3", ["-c", WRITER, database, mode, String(count), "NORMAL"])));
      for (const writer of writers) assert.equal(writer.status, 0, writer.stderr);
      assert.equal(await shell(database, "select count(*) from t; select value from n; pragma integrity_check;"), `${3 * count}\n${3 * count}\nok\n`);
    });
  }

  test("better-sqlite3 and Python see each other's commits", async () => {
    const database = at("mixed.db");
    const script = `
      const Database = require(${JSON.stringify(createRequire(import.meta.url).resolve("better-sqlite3"))});
      const db = new Database(${JSON.stringify(database)});
      db.pragma("journal_mode = WAL"); db.pragma("mmap_size = 1000000");
      db.exec("create table if not exists t(who)");
      const insert = db.prepare("insert into t values (?)");
      for (let i = 0; i < 50; i++) insert.run("node");
      process.stdout.write(String(db.prepare("select count(*) from t where who='python'").pluck().get()));`;
    assert.deepEqual(await run(process.execPath, ["-e", script]), { status: 0, stdout: "0", stderr: "" });
    const python = await run("python3", ["-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=60)
for i in range(50):
    with c: c.execute("insert into t values ('python')")
print(c.execute("select count(*) from t where who='node'").fetchone()[0])`, database]);
    assert.deepEqual(python, { status: 0, stdout: "50\n", stderr: "" });
    assert.deepEqual(await run(process.execPath, ["-e", script]), { status: 0, stdout: "50", stderr: "" });
  });

  test("the journal mode may change while the database is in use, also to locking_mode=EXCLUSIVE", async () => {
    const database = at("switch.db");
    const modes = ["wal", "delete", "wal", "truncate", "persist", "wal", "memory", "delete"];
    const sql = modes.map((mode, index) => `pragma journal_mode=${mode}; insert into t values(${index});`).join("\n");
    await shell(database, `create table t(a);\n${sql}\npragma locking_mode=exclusive; insert into t values(99); pragma journal_mode=wal; insert into t values(100);`);
    assert.equal(await shell(database, "select count(*) from t; pragma integrity_check;"), `${modes.length + 2}\nok\n`);
  });

  test("page sizes, VACUUM into another size, auto_vacuum and ATTACH", async () => {
    for (const size of [512, 4096, 65536]) {
      const database = at(`page-${size}.db`);
      const out = await shell(database, `pragma page_size=${size}; pragma auto_vacuum=incremental; create table t(a); begin; insert into t select randomblob(2000) from generate_series(1,200); commit;
        delete from t; pragma incremental_vacuum; pragma page_size=4096; vacuum; pragma page_size; attach '${at("attached.db")}' as o; create table if not exists o.x(a); begin; insert into o.x values(1); insert into t values(1); commit; pragma integrity_check;`);
      assert.match(out, /4096\nok\n$/);
    }
    assert.equal(await shell(at("attached.db"), "select count(*) from x;"), "3\n");
  });

  test("a steady writer and reader in WAL mode send no request at all", async () => {
    const script = `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma journal_mode=wal"); c.execute("pragma synchronous=normal"); c.execute("pragma wal_autocheckpoint=0")
c.execute("create table t(a)")
def work(n):
    for i in range(n):
        c.execute("insert into t values (1)")
        c.execute("select count(*) from t where rowid = 5").fetchone()
work(20)
print("warm", flush=True); sys.stdin.readline()
work(1000)
print("done", flush=True); sys.stdin.readline()
`;
    const child = spawn("python3", ["-c", script, at("steady.db")], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, "warm");
    const beforehand = await mount.call<Record<string, number>>("requestCounts");
    child.stdin.write("\n");
    assert.equal((await lines.next()).value, "done");
    const afterwards = await mount.call<Record<string, number>>("requestCounts");
    child.stdin.end("\n");
    await once(child, "exit");
    assert.deepEqual(afterwards, beforehand);
  });

  test("the commit of journal_mode=PERSIST is told with the header that the journal had, once for each transaction", async () => {
    const database = at("told.db");
    await shell(database, "pragma journal_mode=persist; pragma synchronous=full; create table t(a); insert into t values(1); insert into t values(2); insert into t values(3);");
    await until("the hooks have arrived", () => mount.hooks.some((call) => call.hook === "afterLastClose" && call.args[0] === "told.db"));
    const told = mount.hooks.filter((call) => call.hook === "journalZeroed" && call.args[0] === "told.db-journal");
    assert.equal(told.length, 4);
    for (const call of told) assert.match(String(call.args[1]), /^d9d505f920a163d7/);
  });

  test("a rolled back transaction leaves nothing, also after kill -9 of the program", async () => {
    for (const mode of ["delete", "wal"]) {
      const database = at(`crash-${mode}.db`);
      await shell(database, `pragma journal_mode=${mode}; create table t(a); insert into t values('kept');`);
      const script = `
import sqlite3, sys, os, signal
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma cache_size=5"); c.execute("begin")
for i in range(500): c.execute("insert into t values (randomblob(2000))")
os.kill(os.getpid(), signal.SIGKILL)`;
      assert.equal((await run("python3", ["-c", script, database])).status, null);
      assert.equal(await shell(database, "select count(*) from t; pragma integrity_check;"), "1\nok\n");
    }
  });

  test("a database that is deleted and made anew under its name is a new one", async () => {
    const database = at("anew.db");
    for (let round = 0; round < 20; round++) {
      assert.equal(await shell(database, `pragma journal_mode=wal; create table t(a); insert into t values(${round}); select a from t;`), `wal\n${round}\n`);
      for (const name of fs.readdirSync(mount.mountPoint)) if (name.startsWith("anew.db")) fs.unlinkSync(at(name));
    }
  });
});
