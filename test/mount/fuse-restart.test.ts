/** The server is killed with -9 and replaced while programs use the mount: they wait, and nothing else. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { run, skipWithoutMount, TestMount, until } from "../support/fuse-mount.ts";
import { isRunning } from "../support/running.ts";

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Small deterministic generator (mulberry32), so that a failing run can be repeated. */
function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Works until its standard input ends; fails at the first error. Prints how many transactions it committed. */
const DATABASE_WORK = `
import sqlite3, sys, select, random
path, mode, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(seed)
def connect():
    c = sqlite3.connect(path, timeout=60, isolation_level=None)
    c.execute("pragma journal_mode=" + mode); c.execute("pragma synchronous=normal"); c.execute("pragma wal_autocheckpoint=50")
    return c
c = connect()
c.execute("create table t(i integer primary key, x)")
n = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    c.execute("begin immediate"); c.execute("insert into t(x) values (randomblob(?))", (random.randrange(5000),)); c.execute("commit")
    n += 1
    if random.random() < 0.05:
        c.close(); c = connect()
    if random.random() < 0.02 and mode == "wal": c.execute("pragma wal_checkpoint(truncate)").fetchall()
    assert c.execute("select count(*) from t").fetchone()[0] == n
assert c.execute("pragma integrity_check").fetchone()[0] == "ok"
print(n)
`;

/** Makes, moves, lists and removes names; every call must have exactly its effect. */
const NAME_WORK = `
import os, sys, select, random
root, seed = sys.argv[1], int(sys.argv[2])
random.seed(seed)
os.mkdir(root); os.chdir(root)
n = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    n += 1
    a, b = "a%d" % n, "b%d" % n
    fd = os.open(a, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"x" * n)
    os.rename(a, b)
    assert not os.path.exists(a)
    os.mkdir("d"); os.rename(b, "d/" + b); os.rename("d", "e")
    assert os.listdir("e") == [b]
    os.symlink("e/" + b, "l"); assert os.stat("l").st_size == n; os.unlink("l")
    os.ftruncate(fd, 1); assert os.fstat(fd).st_size == 1
    os.unlink("e/" + b); os.rmdir("e")
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 10, 0) == b"x"
    os.fsync(fd); os.ftruncate(fd, 3); assert os.fstat(fd).st_size == 3
    os.close(fd)
    assert os.listdir(".") == []
print(n)
`;

test("programs in the middle of their work see no error when the server is killed and replaced, again and again", { skip: skipWithoutMount }, async () => {
  console.log(`replay with SEED=${seed}`);
  const random = randomFrom(seed);
  const mount = await TestMount.start();
  try {
    const work = [
      ["-c", DATABASE_WORK, mount.path("wal.db"), "wal", String(seed)],
      ["-c", DATABASE_WORK, mount.path("delete.db"), "delete", String(seed)],
      ["-c", NAME_WORK, mount.path("names"), String(seed)],
    ].map((args) => {
      const child = spawn("python3", args, { stdio: ["pipe", "pipe", "pipe"] });
      const out = { text: "", errors: "", status: undefined as number | null | undefined, end: () => { child.stdin.end(); } };
      child.stdout.on("data", (data: Buffer) => { out.text += data.toString(); });
      child.stderr.on("data", (data: Buffer) => { out.errors += data.toString(); });
      child.stdin.on("error", () => {});
      child.on("close", (status) => { out.status = status; });
      return out;
    });
    const failed = (): string => work.map((one) => one.errors).join("");
    for (let round = 0; round < 12 && failed() === ""; round++) {
      await delay(random() * 250);
      await mount.kill();
      await delay(random() * 50);
      await mount.serve(true);
    }
    for (const one of work) one.end();
    await until("all programs have ended", () => work.every((one) => one.status !== undefined), 240_000);
    for (const one of work) assert.deepEqual([one.status, one.errors], [0, ""]);
    assert.ok(work.every((one) => Number(one.text) > 0), "each did some work");
    await until("nothing is left aside", async () => {
      await mount.call("openCount", "");
      return fs.readdirSync(`${mount.runDir}/unlinked`).length === 0;
    });
    assert.equal((await run("sqlite3", [mount.path("wal.db")], { input: "pragma integrity_check;" })).stdout, "ok\n");
    const complaints = mount.hooks.filter((call) => call.hook === "report");
    assert.deepEqual(complaints, []);
  } finally {
    await mount.dispose();
  }
});

test("a new server uses the backing ids of the old one: files that are open can be opened again", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    fs.writeFileSync(mount.path("open.db"), "1");
    const fds = [fs.openSync(mount.path("open.db"), "r+")];
    for (let round = 0; round < 3; round++) {
      await mount.kill();
      await mount.serve(true);
      const fd = fs.openSync(mount.path("open.db"), "r+");
      fds.push(fd);
      fs.writeSync(fd, `${round}`, 0);
      for (const each of fds) {
        const byte = Buffer.alloc(1);
        fs.readSync(each, byte, 0, 1, 0);
        assert.equal(byte.toString(), `${round}`);
      }
      assert.equal(await mount.call<number>("openCount", "open.db"), fds.length);
    }
    for (const fd of fds) fs.closeSync(fd);
    await until("all are released", async () => (await mount.call<number>("openCount", "open.db")) === 0);
    // And the kernel accepts the old registration for a file that is opened from scratch.
    assert.equal(fs.readFileSync(mount.path("open.db"), "utf8"), "2");
  } finally {
    await mount.dispose();
  }
});

test("a server that is stopped leaves the mount to the next one", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    fs.writeFileSync(mount.path("a"), "a");
    void mount.call("stop");
    const pid = mount.serverPid;
    await until("the server has ended by itself", () => !isRunning(pid));
    const reading = run("cat", [mount.path("a")]);
    await mount.serve(true);
    assert.equal((await reading).stdout, "a");
  } finally {
    await mount.dispose();
  }
});

/** The nice value of each thread of a process that runs (field 19 of its stat). */
function nicesOf(pid: number): number[] {
  return fs.readdirSync(`/proc/${pid}/task`).map((thread) => {
    const stat = fs.readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]);
  });
}

test("of all threads of a server, the one that answers the kernel comes before what keeps the processors busy, and no other does", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    const own = os.getPriority();
    const nices = nicesOf(mount.serverPid);
    assert.equal(nices.filter((nice) => nice < own).length, 1, nices.join());
    assert.ok(nices.length > 2);
  } finally {
    await mount.dispose();
  }
});
