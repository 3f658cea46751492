/** The mount of the second driver: SQLite and other programs on it, what its engine is asked and told, and what survives an engine. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { after, before, describe, test } from "node:test";
import { run, until } from "../support/fuse-mount.ts";
import { NativeMount, skipWithoutNative } from "../support/native-mount.ts";

let mount: NativeMount;
const at = (name: string): string => mount.path(name);
const told = (hook: string, ...args: unknown[]): boolean => mount.hooks.some((call) => call.hook === hook && args.every((arg, index) => call.args[index] === arg));

async function shell(database: string, sql: string): Promise<string> {
  const outcome = await run("sqlite3", ["-bail", database], { input: sql });
  assert.equal(outcome.status, 0, outcome.stderr);
  return outcome.stdout;
}

const WRITER = `
import sqlite3, sys
path, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
c = sqlite3.connect(path, timeout=120, isolation_level=None)
c.execute("pragma journal_mode=" + mode)
for i in range(count):
    c.execute("begin immediate")
    c.execute("insert into t(x) values (randomblob(300))")
    c.execute("update n set value = value + 1")
    c.execute("commit")
c.close()
`;

describe("SQLite on a fuse-native mount", { skip: skipWithoutNative, timeout: 600_000 }, () => {
  before(async () => { mount = await NativeMount.start(); });
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
      const count = mode === "wal" ? 150 : 30;
      const writers = await Promise.all([1, 2, 3].map(() => run("python3", ["-c", WRITER, database, mode, String(count)])));
      for (const writer of writers) assert.equal(writer.status, 0, writer.stderr);
      assert.equal(await shell(database, "select count(*) from t; select value from n; pragma integrity_check;"), `${3 * count}\n${3 * count}\nok\n`);
    });
  }

  test("programs that open and close all the time see every commit of those that stay, also through maps of the file", async () => {
    const database = at("fresh.db");
    await shell(database, "pragma journal_mode=wal; create table t(x); create table n(value); insert into n values(0);");
    const stays = run("python3", ["-c", WRITER, database, "wal", "200"]);
    let last = 0;
    for (let round = 0; round < 15; round++) {
      const [rows = 0, value = 0] = (await shell(database, "pragma busy_timeout=60000; pragma mmap_size=1000000; begin; select count(*) from t; select value from n; commit;")).split("\n").slice(2).map(Number);
      assert.equal(rows, value, "a transaction was seen in part");
      assert.ok(rows >= last, `went back from ${last} to ${rows}`);
      last = rows;
    }
    assert.equal((await stays).status, 0);
    assert.equal(await shell(database, "select count(*) from t; pragma integrity_check;"), "200\nok\n");
  });

  test("the journal mode may change while the database is in use, also to locking_mode=EXCLUSIVE, and page sizes with VACUUM", async () => {
    const database = at("switch.db");
    const modes = ["wal", "delete", "wal", "truncate", "persist", "wal", "memory", "delete"];
    const sql = modes.map((mode, index) => `pragma journal_mode=${mode}; insert into t values(${index});`).join("\n");
    await shell(database, `create table t(a);\n${sql}\npragma locking_mode=exclusive; insert into t values(99); pragma journal_mode=wal; insert into t values(100);`);
    assert.equal(await shell(database, "pragma journal_mode=delete; pragma page_size=512; vacuum; select count(*) from t; pragma integrity_check; pragma page_size;"), `delete\n${modes.length + 2}\nok\n512\n`);
  });

  test("the commit of journal_mode=PERSIST is told with the header that the journal had", async () => {
    await shell(at("told.db"), "pragma journal_mode=persist; pragma synchronous=full; create table t(a); insert into t values(1); insert into t values(2);");
    await until("the hooks have arrived", () => told("afterLastClose", "told.db"));
    const calls = mount.hooks.filter((call) => call.hook === "journalZeroed" && call.args[0] === "told.db-journal");
    assert.equal(calls.length, 3);
    for (const call of calls) assert.match(String(call.args[1]), /^d9d505f920a163d7/);
  });

  test("a program that is killed in a transaction leaves nothing of it", async () => {
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
});

describe("a fuse-native mount", { skip: skipWithoutNative, timeout: 300_000 }, () => {
  test("keeps what is unlinked or replaced for programs that have it open, and leaves no trace of it in the backing folder", async () => {
    mount = await NativeMount.start();
    try {
      const script = `
import os, sys
d = sys.argv[1]
a = open(d + "/a", "w+b", buffering=0); a.write(b"first")
os.unlink(d + "/a")
assert sorted(os.listdir(d)) == [], os.listdir(d)
b = open(d + "/a", "w+b", buffering=0); b.write(b"other file")
a.seek(0); assert a.read() == b"first"
assert os.fstat(a.fileno()).st_ino != os.fstat(b.fileno()).st_ino
a.truncate(2); a.seek(0); assert a.read() == b"fi"
c = open(d + "/c", "w+b", buffering=0); c.write(b"third")
os.rename(d + "/c", d + "/a")
b.seek(0); assert b.read() == b"other file"
assert open(d + "/a", "rb").read() == b"third"
os.mkdir(d + "/sub"); os.rename(d + "/a", d + "/sub/b")
c.write(b" and more"); assert open(d + "/sub/b", "rb").read() == b"third and more"
os.symlink("sub/b", d + "/s"); assert os.readlink(d + "/s") == "sub/b"
try: os.link(d + "/s", d + "/h"); raise SystemExit("linked")
except PermissionError: pass
v = os.statvfs(d); assert v.f_blocks > 0 and v.f_bavail > 0
`;
      assert.deepEqual(await run("python3", ["-c", script, mount.mountPoint]), { status: 0, stdout: "", stderr: "" });
      assert.deepEqual(fs.readdirSync(mount.filesDir, { recursive: true }).map(String).sort(), ["s", "sub", "sub/b"]);
      await until("the hooks have arrived", () => told("afterRename", "a", "sub/b"));
      assert.ok(told("beforeUnlink", "a") && told("afterUnlink", "a") && told("afterRename", "c", "a"));
    } finally {
      await mount.dispose();
    }
  });

  test("parts programs that have an old file open from the new one that the engine puts under its name", async () => {
    mount = await NativeMount.start();
    try {
      fs.writeFileSync(mount.backing("x"), "the old content");
      const old = await fs.promises.open(at("x"), "r+");
      assert.equal((await old.read(Buffer.alloc(15), 0, 15, 0)).buffer.toString(), "the old content");
      fs.writeFileSync(mount.backing("x.new"), "new");
      fs.renameSync(mount.backing("x.new"), mount.backing("x"));
      await mount.call("invalidateEntry", "x");
      await until("the names are two files", async () => (await old.stat()).ino !== (await fs.promises.stat(at("x"))).ino);
      assert.equal(await fs.promises.readFile(at("x"), "utf8"), "new");
      await old.write("THE", 0);
      assert.equal((await old.read(Buffer.alloc(15), 0, 15, 0)).buffer.toString(), "THE old content");
      assert.equal(await fs.promises.readFile(at("x"), "utf8"), "new");
      await old.close();
      assert.deepEqual(fs.readdirSync(mount.filesDir), ["x"]);
    } finally {
      await mount.dispose();
    }
  });

  test("makes a request wait while the hook waits and others go on, and refuses what the hook refuses", async () => {
    mount = await NativeMount.start({ hookDelay: 300, refuse: ["no"] });
    try {
      for (const name of ["slow", "no", "other"]) await fs.promises.writeFile(at(name), "content");
      const order: string[] = [];
      const slow = fs.promises.unlink(at("slow")).then(() => order.push("unlinked"));
      await until("the hook is asked", () => told("beforeUnlink", "slow"));
      await fs.promises.readFile(at("other"), "utf8").then(() => order.push("read"));
      await slow;
      assert.deepEqual(order, ["read", "unlinked"]);
      await assert.rejects(fs.promises.unlink(at("no")), { code: "EROFS" });
      await assert.rejects(fs.promises.truncate(at("no"), 1), { code: "EROFS" });
      assert.equal(await fs.promises.readFile(at("no"), "utf8"), "content");
    } finally {
      await mount.dispose();
    }
  });

  test("answers EAGAIN before the gate is open, lets in what carries the node's sign, and hides what is not ready", async () => {
    mount = await NativeMount.start({ role: "follower", gate: "closed", virtual: { ".lag": "7\n", "app.db-pos": "1/2/3\n" } });
    try {
      fs.writeFileSync(mount.backing("app.db"), "content");
      await assert.rejects(fs.promises.readFile(at("app.db")), { code: "EAGAIN" });
      await assert.rejects(fs.promises.writeFile(at("new"), ""), { code: "EAGAIN" });
      const own = await fs.promises.open(at("app.db"), fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
      await mount.call("openGate");
      await until("the gate is open", () => fs.promises.readFile(at("app.db")).then(() => true, () => false));
      await mount.call("hide", "app.db");
      await assert.rejects(fs.promises.readFile(at("app.db")), { code: "ENOENT" });
      assert.ok(!(await fs.promises.readdir(mount.mountPoint)).includes("app.db"));
      await mount.call("reveal", "app.db");
      await assert.rejects(fs.promises.truncate(at("app.db"), 1), { code: "EROFS" });
      await own.truncate(3);
      assert.equal(await fs.promises.readFile(at("app.db"), "utf8"), "con");
      // A close reaches the server a moment after the program has gone on; the node's own descriptors do not count.
      await until("nobody else has it open", async () => (await mount.call<number>("openCount", "app.db")) === 0);
      await own.close();
      assert.equal(await fs.promises.readFile(at(".lag"), "utf8"), "7\n");
      assert.deepEqual(await fs.promises.readdir(mount.mountPoint), [".lag", "app.db"]);
      await assert.rejects(fs.promises.writeFile(at("app.db-pos"), ""), { code: "EACCES" });
      await assert.rejects(fs.promises.unlink(at("app.db-pos")), { code: "EPERM" });
    } finally {
      await mount.dispose();
    }
  });

  test("goes on while its engine is dead, and asks the next one what the dead one did not answer", async () => {
    mount = await NativeMount.start();
    try {
      await fs.promises.writeFile(at("x"), "content");
      const open = await fs.promises.open(at("x"), "r+");
      await mount.killEngine();
      await open.write("CON", 0);
      assert.equal(await fs.promises.readFile(at("x"), "utf8"), "CONtent");
      let done = false;
      const unlinked = fs.promises.unlink(at("x")).then(() => { done = true; });
      assert.equal((await open.read(Buffer.alloc(7), 0, 7, 0)).buffer.toString(), "CONtent");
      assert.equal(done, false);
      await mount.startEngine();
      await unlinked;
      assert.ok(told("beforeUnlink", "x"));
      assert.equal(fs.existsSync(mount.backing("x")), false);
      await open.close();
    } finally {
      await mount.dispose();
    }
  });

  test("gives a new file the owner of its folder and a companion that of its database, since it is not told who asks", { skip: process.getuid?.() === 0 ? false : "NOT TESTED HERE: only root can give files away" }, async () => {
    mount = await NativeMount.start();
    try {
      fs.chownSync(mount.filesDir, 1234, 1235);
      await fs.promises.writeFile(at("app.db"), "");
      fs.chownSync(mount.backing("app.db"), 77, 78);
      await fs.promises.writeFile(at("app.db-wal"), "");
      await fs.promises.mkdir(at("sub"));
      const owner = (name: string): number[] => [fs.statSync(mount.backing(name)).uid, fs.statSync(mount.backing(name)).gid];
      assert.deepEqual([owner("sub"), owner("app.db-wal")], [[1234, 1235], [77, 78]]);
      await fs.promises.writeFile(at("sub/z"), "");
      assert.deepEqual(owner("sub/z"), [1234, 1235]);
    } finally {
      await mount.dispose();
    }
  });
});
