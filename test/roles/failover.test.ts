/**
 * Elections on real nodes of this machine: a lease in a shared file, real mounts, real SQLite connections that stay open over every change of
 * role. What this cannot show are networks that are cut (test/faults).
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";

const lease = (ttl: string): string => `lease: {type: local, ttl: ${ttl}, local: {path: $FOLDER/lease.db}}`;
/** Where a lease is to end. */
const SHORT = lease("4s");
/** Where it is not to end by itself, however slow this machine is. */
const LONG = lease("60s");

async function primaryOf(nodes: readonly TestNode[], except?: TestNode): Promise<TestNode> {
  return until("a primary", async () => {
    for (const node of nodes) {
      if (node === except) continue;
      const status = await node.status();
      if (status?.roleState === "primary") return node;
    }
    return undefined;
  });
}

/** Resolves when all nodes hold the same, by position. */
async function inStep(nodes: readonly TestNode[], name: string): Promise<void> {
  await until(`all to hold the same of ${name}`, async () => {
    const seen = await Promise.all(nodes.map(async (node) => {
      // Reading it captures; it is not there before the database is.
      if (fs.existsSync(node.path(`${name}-pos`))) fs.readFileSync(node.path(`${name}-pos`));
      const database = (await node.status())?.databases.find((entry) => entry.name === name);
      return database === undefined ? `${node.name}: none` : `${database.epoch}/${database.txid}/${database.checksum}/${database.state}`;
    }));
    return seen.every((one) => one === seen[0] && one.endsWith("/ok"));
  });
}

function open(node: TestNode, name = "app.db", timeout = 20_000): Database.Database {
  const db = new Database(node.path(name), { timeout });
  return db;
}

const values = (db: Database.Database): number[] => db.prepare("select x from t order by x").pluck().all() as number[];

test("three nodes elect one primary; after kill -9 of it another one goes on with everything that was replicated, and the old one follows", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b", "c"], SHORT);
  const open1: Database.Database[] = [];
  try {
    const { nodes } = cluster;
    const first = await primaryOf(nodes);
    const others = nodes.filter((node) => node !== first);
    assert.equal((await Promise.all(nodes.map((node) => node.status()))).filter((status) => status?.role === "primary").length, 1);
    const db = open(first);
    db.pragma("journal_mode = wal");
    db.exec("create table t (x integer primary key); insert into t values (1), (2)");
    await inStep(nodes, "app.db");
    // Readers of the follower that will be promoted keep their connections.
    const readers = others.map((node) => open(node));
    open1.push(...readers);
    for (const reader of readers) assert.deepEqual(values(reader), [1, 2]);
    for (const node of others) assert.equal(fs.readFileSync(node.path(".primary"), "utf8"), `${first.name}\n`);
    db.close();
    await first.killAll();
    const second = await primaryOf(nodes, first);
    const third = others.find((node) => node !== second)!;
    assert.ok(!fs.existsSync(second.path(".primary")), "no .primary on the primary");
    // The connection that was a follower's reader writes.
    const writer = readers[others.indexOf(second)]!;
    writer.exec("insert into t values (3)");
    await inStep([second, third], "app.db");
    assert.deepEqual(values(readers[others.indexOf(third)]!), [1, 2, 3]);
    await until(`${third.name} names the new primary`, () => fs.existsSync(third.path(".primary")) && fs.readFileSync(third.path(".primary"), "utf8") === `${second.name}\n`);
    first.start();
    await first.ready();
    await inStep(nodes, "app.db");
    open1.push(open(first));
    assert.deepEqual(values(open1.at(-1)!), [1, 2, 3]);
    await until("one epoch", async () => new Set((await Promise.all(nodes.map((node) => node.status()))).map((status) => status?.epoch)).size === 1);
  } finally {
    for (const db of open1) db.close();
    await cluster.dispose();
  }
});

test("a handoff moves the lease under open connections: a writer that waits in its busy timeout fails on the old primary only, and everything is on the new one", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], LONG);
  const opened: Database.Database[] = [];
  try {
    const { nodes } = cluster;
    const first = await primaryOf(nodes);
    const second = nodes.find((node) => node !== first)!;
    const old = open(first, "app.db", 200);
    opened.push(old);
    old.pragma("journal_mode = wal");
    old.exec("create table t (x integer primary key); insert into t values (1)");
    await inStep(nodes, "app.db");
    const reader = open(second);
    opened.push(reader);
    assert.deepEqual(values(reader), [1]);
    for (let round = 0; round < 3; round++) {
      const [from, to, source, target] = round % 2 === 0 ? [first, second, old, reader] : [second, first, reader, old];
      source!.prepare("insert into t values (?)").run(10 + round);
      const { code, output } = await sluice("handoff", "-c", from!.config);
      assert.equal(code, 0, output);
      assert.match(output, new RegExp(`^${to!.name} is the primary now`));
      await until(`${to!.name} to be the primary`, async () => (await to!.status())?.roleState === "primary");
      assert.throws(() => {
        source!.pragma("busy_timeout = 100");
        source!.prepare("insert into t values (99)").run();
      }, (error: unknown) => (error as { code?: string }).code === "SQLITE_BUSY");
      target!.pragma("busy_timeout = 20000");
      assert.ok(values(target!).includes(10 + round));
      target!.prepare("insert into t values (?)").run(100 + round);
      await inStep(nodes, "app.db");
      assert.deepEqual(values(source!), values(target!));
    }
    assert.deepEqual(values(old), [1, 10, 11, 12, 100, 101, 102]);
  } finally {
    for (const db of opened) db.close();
    await cluster.dispose();
  }
});

test("a primary that is stopped in order hands its lease over first, and promote brings it back", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], LONG);
  try {
    const { nodes } = cluster;
    const first = await primaryOf(nodes);
    const second = nodes.find((node) => node !== first)!;
    const db = open(first);
    db.pragma("journal_mode = wal");
    db.exec("create table t (x integer primary key); insert into t values (1)");
    db.close();
    await inStep(nodes, "app.db");
    assert.equal(await first.stop(), 0);
    assert.match(first.output, /The lease is handed over/);
    assert.doesNotMatch(first.output, /still held files/, "the node itself has closed what it had open in the mount");
    assert.equal((await until(`${second.name} to be the primary`, async () => (await second.status())?.roleState === "primary" ? second.status() : undefined))!.epoch, 2);
    first.start();
    await first.ready();
    await inStep(nodes, "app.db");
    const { code, output } = await sluice("promote", "-c", first.config);
    assert.equal(code, 0, output);
    assert.equal((await first.status())?.roleState, "primary");
    await until(`${second.name} to follow`, async () => (await second.status())?.primary?.name === first.name);
    const again = open(first);
    again.exec("insert into t values (2)");
    again.close();
    await inStep(nodes, "app.db");
  } finally {
    await cluster.dispose();
  }
});

test("a database with a rollback journal changes sides as well, also while programs have it open", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], LONG);
  const opened: Database.Database[] = [];
  try {
    const { nodes } = cluster;
    const first = await primaryOf(nodes);
    const second = nodes.find((node) => node !== first)!;
    const old = open(first, "app.db");
    opened.push(old);
    old.pragma("journal_mode = delete");
    old.exec("create table t (x integer primary key); insert into t values (1)");
    await inStep(nodes, "app.db");
    const reader = open(second);
    opened.push(reader);
    assert.deepEqual(values(reader), [1]);
    for (const [from, to, target, value] of [[first, second, reader, 2], [second, first, old, 3], [first, second, reader, 4]] as const) {
      const { code, output } = await sluice("handoff", "-c", from.config);
      assert.equal(code, 0, output);
      await until(`${to.name} to be the primary`, async () => (await to.status())?.roleState === "primary");
      target.prepare("insert into t values (?)").run(value);
      await inStep(nodes, "app.db");
    }
    assert.deepEqual(values(old), [1, 2, 3, 4]);
    assert.deepEqual(values(reader), [1, 2, 3, 4]);
    for (const db of [old, reader]) assert.equal(db.pragma("integrity_check", { simple: true }), "ok");
  } finally {
    for (const db of opened) db.close();
    await cluster.dispose();
  }
});

test("kill -9 of a primary's engine costs no epoch: the next engine goes on under the same lease, and statements only wait", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], LONG);
  const opened: Database.Database[] = [];
  try {
    const { nodes } = cluster;
    const first = await primaryOf(nodes);
    const db = open(first);
    opened.push(db);
    db.pragma("journal_mode = wal");
    db.exec("create table t (x integer primary key); insert into t values (1)");
    await inStep(nodes, "app.db");
    const { epoch } = (await first.status())!;
    process.kill(first.pids().engine!, "SIGKILL");
    for (let x = 2; x < 200; x++) {
      db.prepare("insert into t values (?)").run(x);
      await sleep(2);
    }
    await first.ready();
    await inStep(nodes, "app.db");
    const status = (await first.status())!;
    assert.deepEqual([status.roleState, status.epoch], ["primary", epoch]);
  } finally {
    for (const db of opened) db.close();
    await cluster.dispose();
  }
});

for (const [how, dies] of [["hangs", false], ["dies, and its successor does not come up", true]] as const) test(`while the engine of a primary ${how}, the guardian keeps writers out from the end of the lease on; they go on when the engine is back`, { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a"], SHORT);
  const opened: Database.Database[] = [];
  try {
    const [a] = cluster.nodes as [TestNode];
    const db = open(a, "app.db", 0);
    opened.push(db);
    db.pragma("journal_mode = wal");
    db.pragma("synchronous = off");
    db.exec("create table t (x integer primary key); insert into t values (1)");
    db.prepare("insert into t values (2)").run();
    const { engine, guardian } = a.pids();
    // What the fence needs is opened a moment after the -shm was made.
    await until("the guardian to hold the -shm", () => fs.readdirSync(`/proc/${guardian}/fd`).some((fd) => {
      try {
        return fs.readlinkSync(`/proc/${guardian}/fd/${fd}`).endsWith("app.db-shm");
      } catch {
        return false;
      }
    }));
    let stopped = engine!;
    if (dies) {
      process.kill(engine!, "SIGKILL");
      stopped = await until("its successor", () => {
        const next = a.pids().engine;
        return next === engine ? undefined : next;
      });
    }
    process.kill(stopped, "SIGSTOP");
    try {
      await until("the fence", () => {
        try {
          db.prepare("insert into t (x) select max(x) + 1 from t").run();
          return false;
        } catch (error) {
          return (error as { code?: string }).code === "SQLITE_BUSY";
        }
      });
    } finally {
      process.kill(stopped, "SIGCONT");
    }
    db.pragma("busy_timeout = 30000");
    db.prepare("insert into t (x) select max(x) + 1 from t").run();
    await inStep([a], "app.db");
  } finally {
    for (const db of opened) db.close();
    await cluster.dispose();
  }
});
