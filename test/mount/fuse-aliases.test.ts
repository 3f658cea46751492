/**
 * A `-wal` that several programs have open: each has an inode of its own in the kernel, and all see one file.
 *
 * The server is stopped by SIGSTOP where a test asks who waits for whom: then a program that goes on cannot have waited for an answer.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { run, skipWithoutMount, TestMount, until } from "../support/fuse-mount.ts";

/** Takes a line `fsync` or `write TEXT` at a time, says "begins" before it and "done" after it. */
const STEPS = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
print("open", flush=True)
for line in sys.stdin:
    print("begins", flush=True)
    if line.startswith("fsync"): os.fsync(fd)
    else: os.pwrite(fd, line[6:].strip().encode(), 100)
    print("done", flush=True)
`;

function program(path: string): { readonly said: () => string[]; order(line: string): void; end(): Promise<void> } {
  const child = spawn("python3", ["-c", STEPS, path], { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (data: Buffer) => (text += data.toString()));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return {
    said: () => text.split("\n").filter(Boolean),
    order: (line) => void child.stdin.write(`${line}\n`),
    end: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

test("while one program brings a -wal to the disk, another one writes to it", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  const path = mount.path("app.db-wal");
  const one = program(path);
  try {
    await until("the first has it open", () => one.said().length === 1);
    const two = program(path);
    try {
      // The first write to a mount asks whether there are extended attributes, and is told once and for all.
      two.order("write first");
      await until("the second has written", () => two.said().length === 3);
      process.kill(mount.serverPid, "SIGSTOP");
      one.order("fsync");
      await until("the first waits for its fsync", () => one.said().length === 2);
      two.order("write hello");
      await until("the second has written again", () => two.said().length === 5);
      assert.deepEqual(one.said(), ["open", "begins"], "which the server cannot have answered");
      process.kill(mount.serverPid, "SIGCONT");
      await until("the first has its answer", () => one.said().length === 3);
    } finally {
      process.kill(mount.serverPid, "SIGCONT");
      await two.end();
    }
  } finally {
    await one.end();
    await mount.dispose();
  }
});

test("all who have a -wal open see one file: its bytes, its size, its number, its end", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    const path = mount.path("app.db-wal");
    const fds = Array.from({ length: 5 }, () => fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o640));
    assert.equal(await mount.call<number>("openCount", "app.db-wal"), fds.length);
    for (const [i, fd] of fds.entries()) {
      fs.writeSync(fd, `${i}`.repeat(10), i * 10);
      for (const each of fds) {
        const read = Buffer.alloc(10);
        fs.readSync(each, read, 0, 10, i * 10);
        assert.equal(read.toString(), `${i}`.repeat(10));
        assert.equal(fs.fstatSync(each).size, (i + 1) * 10);
      }
    }
    assert.equal(new Set([path, ...fds].map((each) => (typeof each === "number" ? fs.fstatSync(each) : fs.statSync(each)).ino)).size, 1);
    fs.ftruncateSync(fds[3]!, 12);
    for (const fd of fds) assert.deepEqual([fs.fstatSync(fd).size, fs.fstatSync(fd).mode & 0o777], [12, 0o640]);
    fs.fsyncSync(fds[4]!);
    fs.renameSync(path, mount.path("moved-wal"));
    fs.writeSync(fds[1]!, "moved", 0);
    assert.equal(fs.readFileSync(mount.path("moved-wal"), "latin1").slice(0, 5), "moved");
    fs.unlinkSync(mount.path("moved-wal"));
    fs.writeFileSync(path, "a new one");
    for (const fd of fds) {
      fs.writeSync(fd, "old", 0);
      assert.deepEqual([fs.fstatSync(fd).nlink, fs.fstatSync(fd).size], [0, 12]);
    }
    assert.equal(fs.readFileSync(path, "utf8"), "a new one");
    for (const fd of fds) fs.closeSync(fd);
    await until("what had no name is gone", async () => {
      await mount.call("openCount", "");
      return fs.readdirSync(`${mount.runDir}/unlinked`).length === 0;
    });
    assert.deepEqual(mount.hooks.filter((call) => call.hook === "report"), []);
  } finally {
    await mount.dispose();
  }
});

test("an engine that starts anew serves all ids of a -wal that the one before it gave out", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    const path = mount.path("app.db-wal");
    const fds: number[] = [];
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 3; i++) fds.push(fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT));
      await mount.kill();
      await mount.serve(true);
      for (const [i, fd] of fds.entries()) {
        fs.writeSync(fd, `${round}${i}`, i * 2);
        assert.equal(fs.fstatSync(fd).size, Math.max((i + 1) * 2, round === 0 ? 0 : round * 6));
        fs.fsyncSync(fd);
      }
      assert.equal(await mount.call<number>("openCount", "app.db-wal"), fds.length);
    }
    fs.unlinkSync(path);
    await mount.kill();
    await mount.serve(true);
    for (const [i, fd] of fds.entries()) {
      const read = Buffer.alloc(2);
      fs.readSync(fd, read, 0, 2, i * 2);
      assert.deepEqual([read.toString(), fs.fstatSync(fd).nlink], [`2${i}`, 0]);
    }
    for (const fd of fds) fs.closeSync(fd);
    await until("it is gone", async () => {
      await mount.call("openCount", "");
      return fs.readdirSync(`${mount.runDir}/unlinked`).length === 0;
    });
    // The same name again, perhaps the same number: nothing of the old ids counts for it.
    for (let i = 0; i < 20; i++) {
      const again = Array.from({ length: 3 }, () => fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT));
      for (const fd of again) {
        fs.writeSync(fd, "new", 0);
        assert.equal(fs.fstatSync(fd).nlink, 1);
        fs.closeSync(fd);
      }
      fs.unlinkSync(path);
    }
    assert.deepEqual(mount.hooks.filter((call) => call.hook === "report"), []);
  } finally {
    await mount.dispose();
  }
});

test("programs with connections to one WAL database, opened and closed in turn, lose nothing and leave nothing behind", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    const script = `
import sqlite3, sys
for i in range(40):
    db = sqlite3.connect(sys.argv[1], timeout=100)
    for j in range(5): db.execute("insert into t values(?, ?)", (sys.argv[2], i * 5 + j)); db.commit()
    if i % 7 == 0: db.execute("pragma wal_checkpoint(truncate)")
    db.close()
`;
    const path = mount.path("many.db");
    assert.equal((await run("sqlite3", [path], { input: "pragma journal_mode=wal; create table t(who, i);" })).stdout, "wal\n");
    const outcomes = await Promise.all(["a", "b", "c", "d"].map((who) => run("python3", ["-c", script, path, who])));
    assert.deepEqual(outcomes.map(({ status, stderr }) => [status, stderr]), outcomes.map(() => [0, ""]));
    const counted = await run("sqlite3", [path], { input: "select who, count(*), count(distinct i) from t group by who; pragma integrity_check;" });
    assert.equal(counted.stdout, "a|200|200\nb|200|200\nc|200|200\nd|200|200\nok\n");
    await until("all are released", async () => (await mount.call<number>("openCount", "many.db-wal")) === 0);
    assert.equal(fs.existsSync(path.concat("-wal")), false);
    assert.deepEqual(mount.hooks.filter((call) => call.hook === "report"), []);
  } finally {
    await mount.dispose();
  }
});
