/**
 * kill -9 of any process of a node, or of all of them, at any moment: nothing committed is lost, positions go on, the follower is equal.
 *
 * `SEED=n` replays the random part: `make test ONLY=cluster/restart SEED=n`.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assertSame, positionOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Program, shell } from "../support/programs.ts";
import { Random, seedOfRun } from "../support/random.ts";

const ids = (path: string): string[] => shell(path, "SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY id)").split(",");

/** Commits numbered rows until it is told to stop or killed, and says each one that SQLite has confirmed. */
function writeUntilKilled(program: Program, path: string, mode: string, from: number): Promise<void> {
  return program.run(async ({ Database, say }, path, mode, from) => {
    const db = new Database(path, { timeout: 20_000 });
    db.pragma(`journal_mode = ${mode}`);
    db.pragma("synchronous = normal");
    db.exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)");
    const insert = db.prepare("INSERT INTO t(id, body) VALUES (?, randomblob(700))");
    for (let id = from; ; id++) {
      try {
        insert.run(id);
      } catch (error) {
        say(`error ${(error as Error).message}`);
        throw error;
      }
      say(`c ${id}`);
      if (id % 100 === 0) db.pragma("wal_checkpoint(RESTART)");
      if (id % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }, path, mode, from);
}

/** The number in the last line of success. */
const committed = (program: Program): number => Number(program.lines.findLast((line) => !line.startsWith("error"))?.split(" ")[1] ?? 0);

/** The pid of a node's engine; there is one now or soon. */
function engineOf(node: TestNode): Promise<number> {
  return until(`node ${node.name} to have an engine`, () => node.pids().engine);
}

function kill(pid: number): void {
  process.kill(pid, "SIGKILL");
}

/** How many engines of a node have ended while it ran. */
const deaths = (node: TestNode): number => Math.max(0, (node.output.match(/"Engine started"/g)?.length ?? 0) - 1);

/** What went wrong in a node, for a failure that only its log explains. */
const complaints = (node: TestNode): string => node.output.split("\n").filter((line) => !line.includes('"level":30')).slice(-20).join("\n");

const alive = (pid: number | undefined): boolean => {
  try {
    return pid !== undefined && !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
};

describe("kill -9", { timeout: 300_000 }, () => {
  let cluster: TestCluster;
  let a: TestNode;
  let b: TestNode;
  const programs: Program[] = [];
  const program = (): Program => {
    const made = new Program();
    programs.push(made);
    return made;
  };

  before(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    [a, b] = cluster.nodes as [TestNode, TestNode];
  });

  // A program that a fact has left behind must not be in the way of the next.
  afterEach(async () => {
    for (const made of programs.splice(0)) {
      await made.kill();
      await made.end();
    }
  });

  after(() => cluster.dispose());

  for (const mode of ["wal", "delete"]) {
    test(`of the primary's engine is not seen by a writer with journal_mode=${mode}, and no position is left out`, async () => {
      const name = `engine-${mode}.db`;
      const writer = program();
      const writing = writeUntilKilled(writer, a.path(name), mode, 1).catch(() => undefined);
      await until("commits", () => committed(writer) > 50);
      for (let round = 0; round < 3; round++) {
        const engine = await engineOf(a);
        const before = committed(writer);
        kill(engine);
        await until("another engine", () => a.pids().engine !== undefined && a.pids().engine !== engine);
        await until("the node to answer", async () => (await a.status())?.ready);
        await until("more commits", () => committed(writer) > before + 50);
      }
      assert.deepEqual(writer.lines.filter((line) => line.startsWith("error")), []);
      await writer.kill();
      await writing;
      const last = committed(writer);
      const found = ids(a.path(name)).length;
      assert.ok(found === last || found === last + 1, `${found} rows, ${last} were confirmed`);
      await assertSame(cluster, name);
      // One for each row, one for the table, and in WAL one for the mode, which is written into a new database.
      assert.equal(positionOf(a, name).txid, found + (mode === "wal" ? 2 : 1), "each commit has exactly one TXID, also those made while there was no engine");
    });
  }

  test("of the follower's engine is not seen by its readers, which go on to current states", async () => {
    const name = "reader.db";
    const writer = program();
    const writing = writeUntilKilled(writer, a.path(name), "wal", 1).catch(() => undefined);
    await until("the follower to have the table", () => {
      try {
        return fs.existsSync(b.path(name)) && ids(b.path(name)).length > 0;
      } catch {
        return false; // So far it has the file.
      }
    });
    const reader = program();
    const reading = reader.run(async ({ Database, say }, path) => {
      const db = new Database(path, { timeout: 0, readonly: true });
      for (let last = 0; ; ) {
        const { n, m } = db.prepare("SELECT count(*) AS n, max(id) AS m FROM t").get() as { n: number; m: number };
        if (n !== m && n > 0) throw new Error(`torn: ${n} rows up to ${m}`);
        if (n < last) throw new Error(`went back from ${last} to ${n}`);
        if (n > last) say(`r ${n}`);
        last = n;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }, b.path(name)).catch((error: Error) => error);
    for (let round = 0; round < 3; round++) {
      const engine = await engineOf(b);
      const seen = committed(reader);
      await until("the reader to move", () => committed(reader) > seen);
      kill(engine);
      await until("another engine", () => deaths(b) === round + 1 && b.pids().engine !== undefined && b.pids().engine !== engine);
      const before = committed(reader);
      await until("the reader to move on", () => committed(reader) > before + 20);
    }
    assert.equal(deaths(b), 3, `it died as often as it was killed:\n${complaints(b)}`);
    await writer.kill();
    await writing;
    await cluster.inStep(name);
    await reader.kill();
    assert.match(String(await reading), /the program ended/, "it was reading until it was killed");
    await assertSame(cluster, name);
  });

  test("of all processes of the primary in the middle of writing loses no confirmed commit, and the follower follows, ten times over", async (t) => {
    const seed = seedOfRun();
    t.diagnostic(`replay with: make test ONLY=cluster/restart SEED=${seed}`);
    const random = new Random(seed);
    const name = "all.db";
    let last = 0;
    for (let round = 0; round < 10; round++) {
      const mode = random.pick(["wal", "wal", "delete", "truncate", "persist"]);
      const why = `seed ${seed}, round ${round}, ${mode}`;
      const writer = program();
      const writing = writeUntilKilled(writer, a.path(name), mode, last + 1).catch(() => undefined);
      const pause = random.below(150);
      await until("commits", () => committed(writer) > last || writer.lines.some((line) => line.startsWith("error")));
      await sleep(pause);
      assert.deepEqual(writer.lines.filter((line) => line.startsWith("error")), [], why);
      // In random order, with random moments between.
      const { guardian } = a.pids();
      const engine = await engineOf(a);
      const order = random.chance(0.5) ? [guardian, engine] : [engine, guardian];
      for (const pid of order) {
        if (alive(pid)) kill(pid);
        if (random.chance(0.3)) await sleep(random.below(20));
      }
      await writer.kill();
      await writing;
      await a.exited();
      await until("the engine to be gone", () => !alive(engine) && !alive(a.pids().engine));
      const confirmed = Math.max(last, committed(writer));
      a.output = "";
      a.start();
      await a.ready();
      const found = ids(a.path(name));
      assert.ok(found.length === confirmed || found.length === confirmed + 1, `${why}: ${found.length} rows, ${confirmed} were confirmed`);
      found.forEach((id, i) => assert.equal(Number(id), i + 1, why));
      last = found.length;
      await assertSame(cluster, name, why);
      assert.equal(deaths(a), 0, `${why}: an engine died by itself:\n${complaints(a)}`);
    }
  });

  test("of all processes of the follower, again and again while the primary writes: it comes back, is equal, and takes no snapshot", async (t) => {
    const seed = seedOfRun();
    t.diagnostic(`replay with: make test ONLY=cluster/restart SEED=${seed}`);
    const random = new Random(seed);
    const name = "follower.db";
    const writer = program();
    const writing = writeUntilKilled(writer, a.path(name), "wal", 1).catch(() => undefined);
    await until("the follower to have it", () => fs.existsSync(b.path(name)));
    b.output = "";
    for (let round = 0; round < 5; round++) {
      await sleep(random.below(150));
      await b.killAll();
      b.start();
      await b.ready();
    }
    await writer.kill();
    await writing;
    await assertSame(cluster, name, `seed ${seed}`);
    assert.ok(!b.output.includes(`Snapshot of \\"${name}\\"`), `seed ${seed}: it went on from where it was`);
  });

  test("of the guardian alone ends the engine too, and the next start cleans the dead mount up", async () => {
    const { guardian } = a.pids();
    const engine = await engineOf(a);
    const before = positionOf(a, "all.db");
    kill(guardian);
    await a.exited();
    await until("the engine to end by itself", () => !alive(engine));
    a.start();
    await a.ready();
    const now = positionOf(a, "all.db");
    assert.deepEqual(now, before);
    await assertSame(cluster, "all.db");
    assert.equal(fs.readFileSync("/proc/self/mounts", "utf8").split("\n").filter((line) => line.includes(` ${a.mount} `)).length, 1, "one mount, not one over another");
  });

  test("leaves a dead mount; a program that holds a file in it makes the start refuse with exit code 2 and is named", async () => {
    const fd = fs.openSync(a.path("all.db"), "r");
    const holder = spawn("sleep", ["1000"], { stdio: [fd, "ignore", "ignore"] });
    fs.closeSync(fd);
    try {
      await a.killAll();
      a.output = "";
      a.start();
      const { code } = await a.exited();
      assert.equal(code, 2, a.output);
      assert.match(a.output, new RegExp(`sleep.*${holder.pid!}|${holder.pid!}.*sleep`), "the holder is named");
    } finally {
      holder.kill("SIGKILL");
      await once(holder, "exit");
    }
    a.start();
    await a.ready();
    await assertSame(cluster, "all.db");
  });
});
