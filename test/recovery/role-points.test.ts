/**
 * A crash at any point of an election, a handoff, a demotion or a proposal: the node comes up with what had been promised, whoever else is there.
 *
 * Each state of the disk is started twice: alone, where it has to hold everything itself, and beside the primary that there was at the end, whose
 * history it takes over while nothing that it had committed is gone from everywhere. `SEED=n` replays.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import Database from "better-sqlite3";
import { rememberedLease } from "../../node/engine-role.ts";
import type { Store } from "../../node/store/store.ts";
import { formatPosition } from "../../proto/position.ts";
import { until } from "../support/cluster.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { restore, type CrashState } from "./disk-record.ts";
import { BOOT, OTHER_BOOT, checksumOf, contentOf, openStore } from "./node-store.ts";
import { RoleNode } from "./role-node.ts";
import { NAMES, SYNC, recordRoles, rowsIn, stateKey, type RoleRecord } from "./role-workload.ts";

const seed = seedOfRun();
const LIMIT_MS = 120_000;
let folder: string;
let life = undefined as unknown as RoleRecord;

before(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "role-points-"));
  life = await recordRoles(folder);
});
after(async () => {
  await life?.p.end({ clean: true, free: true });
  fs.rmSync(folder, { recursive: true, force: true });
});

const scratch = (): string => join(folder, "scratch");

async function within<T>(where: string, state: CrashState, work: (root: string) => Promise<T>): Promise<T> {
  const root = join(folder, "node");
  restore(state, root);
  try {
    return await work(root);
  } catch (error) {
    const at = [...life.stages].map(([name, changes]) => `${name} ${changes}`).join(", ");
    throw new Error(`${where} (SEED=${seed}; ${at}): ${(error as Error).message}`, { cause: error });
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

/** Rows of what a node keeps in diverged/. */
async function divergedRows(store: Store, name: string): Promise<Set<string>> {
  const rows = new Set<string>();
  for (const { id, database } of store.diverged.list()) {
    if (database !== name) continue;
    const target = join(folder, "exported");
    fs.rmSync(target, { recursive: true, force: true });
    const { kind } = await store.diverged.export(id, target);
    assert.equal(kind, "database", `${id} can be had as a whole`);
    for (const row of rowsIn(fs.readFileSync(target))) rows.add(row);
  }
  return rows;
}

/** No other node can be reached: this one is to write. Whether it can. */
async function startAlone(where: string, root: string, count: number, power: boolean): Promise<boolean> {
  const boot = power ? OTHER_BOOT : BOOT;
  const { store, reports } = openStore(root, { name: "x", boot });
  try {
    // As EngineRole.begin and open do it.
    const remembered = rememberedLease(root, boot.toString("hex"));
    if (remembered !== undefined) await store.becomePrimary(remembered.held.epoch, { live: false });
    await store.becomeFollower({ live: false });
    for (const { database, follower } of store.databases.values()) if (database.distrust !== undefined) await follower?.resolveDistrust();
    if (store.unfit() !== undefined) {
      // It waits for a primary: a snapshot was on its way in, or the power took what nobody had synced.
      const stage = [...life.stages].findLast(([, changes]) => changes <= count)?.[0];
      assert.ok(power || stage === "follow" || stage === "demoted", `${where}: ${store.unfit()}`);
      return false;
    }
    for (const name of NAMES) {
      const settled = await store.settle(name, 0);
      const database = store.databases.get(name)?.database;
      const promised = life.announced.findLast((one) => one.name === name && one.changes <= count);
      if (!power && promised !== undefined && promised.txid > 0) {
        assert.ok(database !== undefined && database.position.txid >= promised.txid, `${where}: ${name} is at ${database?.position.txid} after ${promised.txid} was announced`);
      }
      if (database === undefined || database.position.txid === 0) continue;
      const { epoch, txid, checksum } = database.position;
      const known = life.states.get(stateKey(name, epoch, txid));
      // What was undecided counts here; a primary that is not there may have gone on without it.
      if (known !== undefined && !power && !settled) assert.equal(checksum, known, `${where}: epoch ${epoch}, TXID ${txid} of ${name} names another state than before`);
    }
    await store.becomePrimary(99, { live: false });
    for (const name of NAMES) {
      const entry = store.databases.get(name);
      const mine = life.committed.filter((one) => one.name === name && one.changes <= count);
      if (entry?.primary === undefined) {
        assert.equal(mine.length, 0, `${where}: ${name} is gone`);
        continue;
      }
      await until("the start to have read what it distrusts", () => entry.database.distrust === undefined && entry.primary!.turn.idle);
      const db = new Database(join(root, "files", name), { timeout: 5_000 });
      try {
        assert.equal(db.pragma("integrity_check", { simple: true }), "ok", where);
        await store.flushAll();
        const rows = rowsIn(contentOf(root, scratch(), name));
        const kept = await divergedRows(store, name);
        for (const { row } of mine) assert.ok(rows.has(row) || kept.has(row), `${where}: "${row}" of ${name} was committed here and is neither there nor in diverged/`);
        if (name === SYNC) {
          for (const { row, stored, refused } of life.proposals) {
            if (count >= refused) assert.ok(!rows.has(row), `${where}: "${row}" was refused and is there`);
            else if (count >= stored && !power) assert.ok(rows.has(row), `${where}: "${row}" was stored for the primary and is gone`);
          }
        }
        db.exec("CREATE TABLE IF NOT EXISTS u(x); INSERT INTO u VALUES (1)");
        await store.flushAll();
        assert.equal(entry.database.position.epoch, 99);
        assert.equal(entry.database.position.checksum, checksumOf(contentOf(root, scratch(), name)!), `${where}: ${name} after a commit`);
      } finally {
        db.close();
      }
    }
    for (const { message, error } of reports) assert.equal(error, undefined, `${where}: ${message}: ${String((error as Error | undefined)?.stack)}`);
    return true;
  } finally {
    await store.close({ clean: false });
  }
}

/** p is the primary, in the epoch that there was at the end. */
async function startBeside(where: string, root: string, count: number, power: boolean): Promise<void> {
  const node = await RoleNode.start({ root, name: "x", lease: life.lease, ttlMs: 30_000, boot: power ? OTHER_BOOT : BOOT });
  try {
    const there = (): boolean => NAMES.every((name) => {
      const [mine, its] = [node, life.p].map(({ store }) => store.databases.get(name)?.database);
      return mine !== undefined && mine.distrust === undefined && mine.position.txid === its!.position.txid && mine.position.epoch === its!.position.epoch && mine.position.checksum === its!.position.checksum;
    });
    await until("x to have what p has", there, LIMIT_MS).catch((error: unknown) => {
      const has = NAMES.map((name) => node.store.databases.get(name)?.database).map((database) => `${database?.name} ${database === undefined ? "" : formatPosition(database.position)} ${database?.distrust ?? ""}`);
      throw new Error(`${(error as Error).message}: it has ${has.join(", ")} and says ${JSON.stringify(node.reports.map(({ message }) => message), undefined, 1)}`);
    });
    assert.equal(node.roles.state, "follower");
    assert.equal(rememberedLease(root, ""), undefined, `${where}: the lease under which it wrote is struck out`);
    for (const name of NAMES) {
      assert.equal(checksumOf(contentOf(root, scratch(), name)!), node.store.databases.get(name)!.database.position.checksum, where);
      const kept = await divergedRows(node.store, name);
      for (const { row, changes } of life.committed) {
        if (life.committed.find((one) => one.row === row && one.name === name)?.changes !== changes || changes > count) continue;
        assert.ok(life.rows[name]!.has(row) || kept.has(row), `${where}: "${row}" of ${name} was committed here and is nowhere`);
      }
    }
    assert.deepEqual(node.errors, [], where);
  } finally {
    await node.end({ clean: false, free: false });
  }
}

const places = (): string => [...life.stages].map(([name, changes]) => `${name} ${changes}`).join(", ");

test("a node killed at any point of elections, handoffs, demotions and proposals comes up alone with everything that it had promised", { timeout: 550_000 }, async (t) => {
  const { length } = life.record.changes;
  assert.ok(length > 200, `only ${length} changes were recorded`);
  let fit = 0;
  for (let count = 0; count <= length; count++) {
    const where = `killed after ${count} of ${length} changes, alone`;
    if (await within(where, life.record.afterKill(count), (root) => startAlone(where, root, count, false))) fit++;
  }
  t.diagnostic(`${length + 1} states, ${fit} could write at once: ${places()}`);
  assert.ok(fit > length * 0.8);
});

test("a node without power at any such point comes up alone with what had been synced", { timeout: 550_000 }, async (t) => {
  const random = new Random(seed);
  const { length } = life.record.changes;
  let states = 0;
  let fit = 0;
  for (let count = 0; count <= length; count += 1 + random.below(2)) {
    const where = `without power after ${count} of ${length} changes, alone`;
    if (await within(where, life.record.afterPowerLoss(count, random), (root) => startAlone(where, root, count, true))) fit++;
    states++;
  }
  t.diagnostic(`${states} states, ${fit} could write at once, seed ${seed}`);
  assert.ok(fit > states * 0.3);
});

test("a node killed at any such point takes over the history of the primary, and nothing that it had committed is gone", { timeout: 550_000 }, async (t) => {
  const { length } = life.record.changes;
  for (let count = 0; count <= length; count++) {
    const where = `killed after ${count} of ${length} changes, beside the primary`;
    await within(where, life.record.afterKill(count), (root) => startBeside(where, root, count, false));
  }
  t.diagnostic(`${length + 1} states`);
});

test("a node without power at any such point takes over the history of the primary, and nothing that it had synced is gone", { timeout: 550_000 }, async (t) => {
  const random = new Random(seed + 1);
  const { length } = life.record.changes;
  let states = 0;
  for (let count = 0; count <= length; count += 1 + random.below(2)) {
    const where = `without power after ${count} of ${length} changes, beside the primary`;
    await within(where, life.record.afterPowerLoss(count, random), (root) => startBeside(where, root, count, true));
    states++;
  }
  t.diagnostic(`${states} states, seed ${seed}`);
});
