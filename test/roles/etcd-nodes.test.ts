/**
 * Three whole nodes that run their lease store themselves (`lease.etcd.spawn`): any one of them may die with its etcd, and come back with it.
 *
 * Two of three etcd members are needed for a lease, so a node that came back counts only if its member did: that is why a second one is killed.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { identify, isAlive } from "../../node/guardian/process-id.ts";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";
import { freePorts } from "../support/ports.ts";
import { skipWithout } from "../support/programs.ts";

const skip = skipWithout("etcd", "setpriv");
const NAMES = ["a", "b", "c"];
/** Three etcd servers, their elections included, share the machine with everything else. */
const LIMIT_MS = 120_000;

const etcdOf = (node: TestNode): number => Number([...node.output.matchAll(/"pid":(\d+)[^\n]*"msg":"etcd started"/g)].at(-1)?.[1]);

async function primaryOf(nodes: readonly TestNode[]): Promise<TestNode> {
  return until(`a primary among ${nodes.map(({ name }) => name).join()}`, async () => {
    for (const node of nodes) if ((await node.status())?.roleState === "primary") return node;
    return undefined;
  }, LIMIT_MS);
}

async function inStep(nodes: readonly TestNode[]): Promise<void> {
  await until("all to hold the same", async () => {
    const seen = await Promise.all(nodes.map(async (node) => {
      if (fs.existsSync(node.path("app.db-pos"))) fs.readFileSync(node.path("app.db-pos"));
      const database = (await node.status())?.databases.find(({ name }) => name === "app.db");
      return database === undefined ? `${node.name}: none` : `${database.epoch}/${database.txid}/${database.checksum}/${database.state}`;
    }));
    return seen.every((one) => one === seen[0] && one.endsWith("/ok"));
  }, LIMIT_MS);
}

/** One more row, through a connection of its own; its number. A node that has just become the primary is not waited for by SQLite alone. */
async function insert(node: TestNode, rows: number[]): Promise<void> {
  const value = rows.length + 1;
  await until(`${node.name} to take a write`, () => {
    const db = new Database(node.path("app.db"), { timeout: 5_000 });
    try {
      db.pragma("journal_mode = wal");
      db.exec("create table if not exists t (x integer primary key)");
      db.prepare("insert into t values (?)").run(value);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === "SQLITE_CONSTRAINT_PRIMARYKEY") return true;
      if (/^SQLITE_(?:BUSY|READONLY|IOERR|CANTOPEN)/.test((error as { code?: string }).code ?? "")) return false;
      throw error;
    } finally {
      db.close();
    }
  }, LIMIT_MS);
  rows.push(value);
}

function rowsOf(node: TestNode): number[] {
  const db = new Database(node.path("app.db"), { readonly: true, timeout: 20_000 });
  try {
    return db.prepare("select x from t order by x").pluck().all() as number[];
  } finally {
    db.close();
  }
}

/** kill -9 of the guardian and all that it started; etcd ends with it by itself. */
async function killWhole(node: TestNode): Promise<void> {
  const etcd = identify(etcdOf(node));
  assert.ok(etcd !== undefined, `${node.name} runs etcd`);
  await node.killAll();
  await until(`the etcd of ${node.name} to end`, () => !isAlive(etcd));
}

test("three nodes with an etcd each: one is killed with its etcd, another takes over and takes writes, and the dead one comes back, its member included", { skip, timeout: 560_000 }, async () => {
  const ports = await freePorts(6);
  const peers = `{${NAMES.map((name, index) => `${name}: "http://127.0.0.1:${ports[index + 3]!}"`).join(", ")}}`;
  const cluster = await TestCluster.make(NAMES, (name) => `lease: {type: etcd, ttl: 3s, etcd: {endpoints: ["http://127.0.0.1:${ports[NAMES.indexOf(name)]!}"], spawn: {data: $FOLDER/${name}/etcd, peers: ${peers}}}}`);
  const rows: number[] = [];
  try {
    const { nodes } = cluster;
    for (const node of nodes) node.start();
    const first = await primaryOf(nodes);
    for (const node of nodes) await node.ready();
    for (let n = 0; n < 5; n++) await insert(first, rows);
    await inStep(nodes);
    const { epoch } = (await first.status())!;

    await killWhole(first);
    const others = nodes.filter((node) => node !== first);
    const second = await primaryOf(others);
    await insert(second, rows);
    await inStep(others);
    assert.ok((await second.status())!.epoch > epoch, "the store remembers the epochs");
    first.output = "";
    first.start();
    await first.ready();
    await inStep(nodes);
    assert.ok(fs.existsSync(join(first.folder, "etcd", "member")), "its member goes on with what it had");

    await killWhole(second);
    const left = nodes.filter((node) => node !== second);
    const third = await primaryOf(left);
    await insert(third, rows);
    second.output = "";
    second.start();
    await second.ready();
    await inStep(nodes);

    const handed = await sluice("handoff", "-c", third.config);
    assert.equal(handed.code, 0, handed.output);
    const fourth = await primaryOf(nodes.filter((node) => node !== third));
    await insert(fourth, rows);
    await inStep(nodes);
    for (const node of nodes) assert.deepEqual(rowsOf(node), rows, node.name);
    // Everything ends with the nodes, also in an orderly stop.
    const members = nodes.map((node) => identify(etcdOf(node))!);
    for (const node of nodes) assert.equal(await node.stop(), 0, node.output.slice(-2_000));
    for (const member of members) assert.ok(!isAlive(member));
  } finally {
    await cluster.dispose();
  }
});
