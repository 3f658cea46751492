/**
 * Whole databases on their way to a follower: while writers go on, over connections that break, over another history, to a follower that
 * stands still. What arrives replaces nothing before it is complete, and the primary never waits for it.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertSame, positionOf } from "../support/compare.ts";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";
import { addNode } from "../support/membership.ts";
import { Program } from "../support/programs.ts";
import { Relay } from "../support/relay.ts";

const MIB = 1 << 20;

/** A database of about `mib` MiB in 64-KiB rows that do not compress. */
async function fill(program: Program, path: string, mib: number): Promise<void> {
  await program.run(({ Database }, path, mib) => {
    const db = new Database(path, { timeout: 20_000 });
    db.pragma("journal_mode = wal");
    db.pragma("synchronous = off");
    db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); CREATE TABLE c(n)");
    const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(65000))");
    for (let i = 0; i < mib; i++) {
      db.exec("BEGIN");
      for (let k = 0; k < 16; k++) insert.run();
      db.exec("COMMIT");
    }
    db.close();
  }, path, mib);
}

/** Small transactions all over the database, for as long as `kept.stop` is not set by another step. */
function churn(program: Program, path: string): Promise<number> {
  return program.run(async ({ Database, kept, say }, path) => {
    const db = new Database(path, { timeout: 20_000 });
    db.pragma("synchronous = normal");
    let done = 0;
    for (; kept["stop"] === undefined; done++) {
      db.exec("BEGIN; UPDATE t SET body = randomblob(65000) WHERE id = abs(random()) % (SELECT max(id) FROM t) + 1; INSERT INTO c VALUES (1); COMMIT");
      say(`c ${done + 1}`);
      // Seldom enough that what they add to the bytes sent stays small, however long the transfer takes.
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    db.close();
    return done;
  }, path);
}

const stop = (program: Program): Promise<void> => program.run(({ kept }) => {
  kept["stop"] = {} as never;
});

/** Resident memory of a process in bytes. */
const rss = (pid: number): number => Number(/^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, "latin1"))![1]) * 1024;

test("a new follower of a 200-MB database gets it while a writer goes on, also when the connection breaks and its engine is killed on the way: it goes on where it was", { timeout: 200_000 }, async (t) => {
  const cluster = await TestCluster.start(["a"]);
  const program = new Program();
  const [a] = cluster.nodes as [TestNode];
  const relay = await Relay.start(a.ports.listen);
  try {
    const name = "large.db";
    await fill(program, a.path(name), 200);
    const size = fs.statSync(a.path(name)).size;
    assert.ok(size > 200 * MIB);
    const writing = churn(program, a.path(name));
    // The log of the filling is older than the retention keeps, or too large to stream: either way a snapshot comes.
    await until("the log not to reach back", async () => (await a.status())!.databases[0]!.logFrom !== "0000000000000001", 60_000).catch(() => undefined);
    const b = await addNode(cluster, "b", { primaryPort: relay.port });
    relay.cutAfter(60 * MIB);
    b.start();
    await until("the first cut", () => relay.cuts === 1);
    relay.cutAfter(50 * MIB);
    await until("the second cut", () => relay.cuts === 2);
    const before = relay.bytes;
    await until("the transfer to go on", () => relay.bytes > before + 20 * MIB);
    process.kill(b.pids().engine!, "SIGKILL");
    await b.ready();
    await until("commits meanwhile", () => program.lines.length > 20);
    await stop(program);
    await writing;
    await assertSame(cluster, name);
    t.diagnostic(`${(size / MIB).toFixed(0)} MiB database, ${(relay.bytes / MIB).toFixed(0)} MiB sent, ${program.lines.length} commits meanwhile`);
    // To begin anew each time would send 130 MiB more. Each commit brings some 65,000 bytes.
    const bound = size * 1.3 + program.lines.length * 70_000;
    assert.ok(relay.bytes < bound, `${relay.bytes} bytes were sent for ${size} and ${program.lines.length} commits: it has begun anew`);
  } finally {
    await stop(program).catch(() => undefined);
    await program.end();
    await relay.close();
    await cluster.dispose();
  }
});

test("a follower of another history, or with another state at the same TXID, is replaced under its readers, who see the old state or the new one and nothing between", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"]);
  const programs = [new Program(), new Program()] as const;
  const [program, reader] = programs;
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    const name = "diverged.db";
    const make = (value: string, rows: number): Promise<void> => program.exec(a.path(name), "PRAGMA journal_mode = wal", "BEGIN", "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)", `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows}) INSERT INTO t(body) SELECT '${value}' || zeroblob(3000) FROM n`, "COMMIT");
    await make("common", 200);
    await assertSame(cluster, name);
    // Two histories from one point: the data of the primary is copied, then each copy goes its own way.
    await a.stop();
    const copy = join(cluster.folder, "copy");
    fs.cpSync(a.data, copy, { recursive: true });
    a.start();
    await a.ready();
    await program.exec(a.path(name), "UPDATE t SET body = 'first' || zeroblob(3000)");
    await assertSame(cluster, name);
    const first = positionOf(b, name);
    await a.stop();
    fs.rmSync(a.data, { recursive: true });
    fs.renameSync(copy, a.data);
    // The follower, meanwhile alone, keeps serving its readers.
    const reading = reader.run(async ({ Database, say }, path) => {
      const db = new Database(path, { timeout: 0 });
      for (;;) {
        const rows = db.prepare("SELECT substr(body, 1, 6) AS value, count(*) AS n FROM t GROUP BY 1").all() as { value: string; n: number }[];
        say(`s ${rows.map(({ value, n }) => `${value.replace(/[^a-z]/g, "")}=${n}`).join(",")}`);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }, b.path(name)).catch((error: Error) => error.message);
    await until("the reader to read", () => reader.lines.length > 0);
    b.output = "";
    // While nobody follows: the connection is made anew only after this commit, at the same TXID as the other history's.
    process.kill(b.pids().engine!, "SIGSTOP");
    a.start();
    await a.ready();
    await program.exec(a.path(name), "UPDATE t SET body = 'second' || zeroblob(3000)");
    assert.equal(positionOf(a, name).txid, first.txid, "the same TXID");
    assert.notEqual(positionOf(a, name).checksum, first.checksum, "another state");
    process.kill(b.pids().engine!, "SIGCONT");
    await until("the snapshot", () => b.output.includes("installed"));
    await assertSame(cluster, name);
    await until("the reader to see it", () => reader.lines.at(-1) === "s second=200");
    await program.exec(a.path(name), "INSERT INTO t(body) VALUES ('on')");
    await assertSame(cluster, name);
    await reader.kill();
    assert.equal(await reading, "the program ended");
    assert.deepEqual([...new Set(reader.lines)].filter((line) => !line.includes("on=")), ["s first=200", "s second=200"]);
    assert.deepEqual((await b.status())!.diverged, { entries: 1, transactions: 1, unseen: 1 }, `what b had in its place is kept:\n${b.output}`);
  } finally {
    for (const one of programs) await one.end();
    await cluster.dispose();
  }
});

test("a follower that stands still (SIGSTOP) stops no commit and costs the primary a bounded amount of memory; it catches up afterwards", { timeout: 240_000 }, async (t) => {
  const cluster = await TestCluster.start(["a", "b"]);
  const program = new Program();
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    const name = "slow.db";
    await program.exec(a.path(name), "PRAGMA journal_mode = wal", "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
    const write = (commits: number): Promise<void> => program.run(async ({ Database }, path, commits) => {
      const db = new Database(path, { timeout: 0 });
      // 40 KiB a commit that do not compress; pauses let the engine on two busy processors take part.
      for (let i = 0; i < commits; i++) {
        db.exec("INSERT INTO t(body) VALUES (randomblob(40000)); DELETE FROM t WHERE id < (SELECT max(id) FROM t) - 200");
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      db.close();
    }, a.path(name), commits);
    await write(300);
    await assertSame(cluster, name);
    const engine = a.pids().engine!;
    const before = rss(engine);
    const stopped = b.pids().engine!;
    process.kill(stopped, "SIGSTOP");
    try {
      // Over 80 MB of transactions: far more than any queue may hold.
      await write(2_000);
      positionOf(a, name);
      const grown = rss(engine) - before;
      t.diagnostic(`memory of the primary's engine: ${(before / MIB).toFixed(0)} MiB before, ${(grown / MIB).toFixed(0)} MiB more with a follower that stands still`);
      assert.ok(grown < 48 * MIB, `${grown} bytes more`);
    } finally {
      process.kill(stopped, "SIGCONT");
    }
    await assertSame(cluster, name);
    assert.equal(b.pids().engine, stopped, "the same engine went on");
  } finally {
    await program.end();
    await cluster.dispose();
  }
});

test("a new follower of a primary whose log no longer tells of a deleted database from its beginning is ready, and has it when it begins anew", { timeout: 120_000 }, async () => {
  const cluster = await TestCluster.start(["a"]);
  const program = new Program();
  try {
    const [a] = cluster.nodes as [TestNode];
    const source = join(cluster.folder, "source.db");
    // More than an import puts into the log.
    await fill(program, source, 20);
    await program.exec(source, "PRAGMA journal_mode = delete");
    const imported = await sluice("import", "-c", a.config, "--name", "gone.db", source);
    assert.equal(imported.code, 0, imported.output);
    await program.exec(a.path("stays.db"), "CREATE TABLE t(x)");
    fs.rmSync(a.path("gone.db"));
    const b = await addNode(cluster, "b");
    b.start();
    await b.ready();
    assert.ok(!fs.existsSync(b.path("gone.db")));
    await assertSame(cluster, "stays.db");
    await program.exec(a.path("gone.db"), "CREATE TABLE t(x)", "INSERT INTO t VALUES ('again')");
    await assertSame(cluster, "gone.db");
  } finally {
    await program.end();
    await cluster.dispose();
  }
});
