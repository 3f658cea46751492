/**
 * A node starts on whatever a crash has left: after kill -9 at any point of recorded work, and after a loss of power that took unsynced data with
 * it, it comes up with what had been promised.
 *
 * What is asserted of every state: nothing is thrown or reported as an error; the content is what the position says, byte for byte by checksum;
 * a TXID never names another state than before; work goes on. After kill -9 also: nothing that was announced is gone. After a loss of power:
 * what SQLite had synced is there on the primary; a follower may have to take a snapshot. `SEED=n` replays.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { positionOf } from "../support/compare.ts";
import { bytesOf, shell } from "../support/programs.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { restore, type CrashState } from "./disk-record.ts";
import { BOOT, DATABASE, OTHER_BOOT, checksumOf, contentOf, openStore, type OpenedStore } from "./node-store.ts";
import { catchUp, installSnapshot, recordFollower, recordPrimary, type Recorded } from "./workloads.ts";

const seed = seedOfRun();
let folder: string;
let primary: Recorded;
let follower: Awaited<ReturnType<typeof recordFollower>>;

before(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "crash-points-"));
  fs.mkdirSync(join(folder, "primary"));
  fs.mkdirSync(join(folder, "follower"));
  primary = await recordPrimary(join(folder, "primary"), join(folder, "scratch"));
  follower = await recordFollower(join(folder, "follower"), primary);
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Nothing that a person would have to look at. */
function assertQuiet({ reports }: OpenedStore, where: string): void {
  for (const { message, error } of reports) assert.equal(error, undefined, `${where}: ${message}: ${String((error as Error | undefined)?.stack)}`);
}

/** Consecutive entries lead from one state to the next. */
function assertChain(opened: OpenedStore, where: string): void {
  const { log, position } = opened.store.databases.get(DATABASE)!.database;
  let last: { max: number; checksum: bigint } | undefined;
  for (const entry of log.entries) {
    let decoded;
    try {
      decoded = log.decode(entry);
    } catch {
      last = undefined; // Found damaged when it is wanted; then it goes aside.
      continue;
    }
    const { header, trailer } = decoded;
    assert.deepEqual([header.minTxid, header.maxTxid], [entry.min, entry.max], where);
    if (last !== undefined && last.max + 1 === entry.min) assert.equal(header.preApplyChecksum, last.checksum, `${where}: entry ${entry.min} does not follow`);
    last = { max: entry.max, checksum: trailer.postApplyChecksum };
  }
  if (last !== undefined && last.max === position.txid) assert.equal(last.checksum, position.checksum, `${where}: the newest entry`);
}

async function within<T>(where: string, work: (root: string) => Promise<T>, state: CrashState): Promise<T> {
  const root = join(folder, "node");
  restore(state, root);
  try {
    return await work(root);
  } catch (error) {
    throw new Error(`${where} (SEED=${seed}): ${(error as Error).message}`, { cause: error });
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

const last = <T extends { readonly changes: number }>(list: readonly T[], count: number): T | undefined => list.findLast(({ changes }) => changes <= count);

async function startPrimary(where: string, root: string, count: number, power: boolean): Promise<void> {
  const opened = openStore(root, { boot: power ? OTHER_BOOT : BOOT });
  const { store } = opened;
  try {
    await store.becomePrimary(power ? 2 : 1, { live: false });
    const entry = store.databases.get(DATABASE);
    const promised = last(primary.promised, count);
    const rows = last(primary.committed, count)?.rows ?? 0;
    if (entry?.primary === undefined) {
      assert.ok(promised === undefined && rows === 0, `${where}: the database is gone`);
      return;
    }
    const { database } = entry;
    await until("the start to have read what it distrusts", () => database.distrust === undefined && entry.primary!.turn.idle);
    // An application comes, and SQLite recovers what there is.
    const db = new Database(join(root, "files", DATABASE), { timeout: 5_000 });
    try {
      assert.equal(db.pragma("integrity_check", { simple: true }), "ok", where);
      const hasTable = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 't'").get() !== undefined;
      const found = hasTable ? Number(db.prepare("SELECT count(*) FROM t").pluck().get()) : 0;
      // What was committed and synced; the commit that was under way may be there as a whole.
      const next = primary.committed.find(({ changes }) => changes > count)?.rows ?? rows;
      assert.ok(found === rows || found === next, `${where}: ${found} rows instead of ${rows} (or ${next})`);
      await store.flushAll();
      const { position } = database;
      const known = primary.states.get(position.txid);
      if (position.txid > 0) assert.equal(position.checksum, checksumOf(contentOf(root, join(folder, "scratch"))!), `${where}: the content is not what the position says`);
      if (!power && promised !== undefined) assert.ok(position.txid >= promised.position.txid, `${where}: TXID ${position.txid} after ${promised.position.txid} was announced`);
      if (position.epoch === 1 && known !== undefined) assert.equal(position.checksum, known, `${where}: TXID ${position.txid} names another state than before`);
      db.exec("CREATE TABLE IF NOT EXISTS u(x); INSERT INTO u VALUES (1)");
      await store.flushAll();
      assert.ok(database.position.txid > position.txid, `${where}: a new commit gets a new TXID`);
      assert.equal(database.position.checksum, checksumOf(contentOf(root, join(folder, "scratch"))!), `${where}: after a commit`);
    } finally {
      db.close();
    }
    assertChain(opened, where);
    assertQuiet(opened, where);
  } finally {
    await store.close({ clean: false });
  }
}

test("a primary that is killed at any point of its work comes up with everything it had announced", { timeout: 300_000 }, async (t) => {
  const { length } = primary.record.changes;
  assert.ok(length > 150, `only ${length} changes were recorded`);
  for (let count = 0; count <= length; count++) {
    const where = `primary killed after ${count} of ${length} changes`;
    await within(where, (root) => startPrimary(where, root, count, false), primary.record.afterKill(count));
  }
  t.diagnostic(`${length + 1} states`);
});

test("a primary whose machine loses its power at any point comes up with what SQLite had synced", { timeout: 300_000 }, async (t) => {
  const random = new Random(seed);
  const { length } = primary.record.changes;
  let states = 0;
  for (let count = 0; count <= length; count += 1 + random.below(2)) {
    const where = `primary without power after ${count} of ${length} changes`;
    await within(where, (root) => startPrimary(where, root, count, true), primary.record.afterPowerLoss(count, random));
    states++;
  }
  t.diagnostic(`${states} states, seed ${seed}`);
});

/** Starts a follower; whether its content was of use. */
async function startFollower(where: string, root: string, count: number, power: boolean): Promise<boolean> {
  const opened = openStore(root, { boot: power ? OTHER_BOOT : BOOT, name: "b" });
  const { store } = opened;
  try {
    await store.becomeFollower({ live: false });
    const promised = last(follower.promised, count);
    const newest = Math.max(...follower.states.keys());
    const known = store.databases.get(DATABASE);
    let usable = known !== undefined && known.database.position.txid > 0;
    if (known?.database.distrust !== undefined) usable = (await known.follower?.resolveDistrust()) ?? false;
    if (usable) {
      const { position } = known!.database;
      assert.equal(position.checksum, follower.states.get(position.txid), `${where}: TXID ${position.txid} names a state that there never was`);
      if (!known!.database.deleted) assert.equal(checksumOf(contentOf(root, join(folder, "scratch"))!), position.checksum, `${where}: the content is not what the position says`);
      if (!power && promised !== undefined) assert.ok(position.txid >= promised.position.txid, `${where}: TXID ${position.txid} after ${promised.position.txid} was announced`);
    } else if (!power) {
      const installing = follower.installs.some(([begin, end]) => count >= begin && count < end);
      assert.ok(promised === undefined || installing, `${where}: a snapshot is wanted: ${known?.database.distrust ?? "the database is gone"}`);
    }
    const one = await store.followerOf(DATABASE);
    if (usable) await catchUp(one, follower);
    else await installSnapshot(store, follower, newest);
    assert.equal(one.database.position.txid, newest, where);
    assert.equal(checksumOf(contentOf(root, join(folder, "scratch"))!), follower.states.get(newest), `${where}: after it has caught up`);
    assertChain(opened, where);
    assertQuiet(opened, where);
    return usable;
  } finally {
    await store.close({ clean: false });
  }
}

test("a follower that is killed at any point of its work goes on with everything it had acknowledged", { timeout: 300_000 }, async (t) => {
  const { length } = follower.record.changes;
  assert.ok(length > 150, `only ${length} changes were recorded`);
  let usable = 0;
  for (let count = 0; count <= length; count++) {
    const where = `follower killed after ${count} of ${length} changes`;
    if (await within(where, (root) => startFollower(where, root, count, false), follower.record.afterKill(count))) usable++;
  }
  t.diagnostic(`${length + 1} states, ${usable} went on without a snapshot`);
  assert.ok(usable > length * 0.8);
});

test("a follower whose machine loses its power at any point never shows a state that there never was", { timeout: 300_000 }, async (t) => {
  const random = new Random(seed + 1);
  const { length } = follower.record.changes;
  let states = 0;
  let usable = 0;
  for (let count = 0; count <= length; count += 1 + random.below(2)) {
    const where = `follower without power after ${count} of ${length} changes`;
    if (await within(where, (root) => startFollower(where, root, count, true), follower.record.afterPowerLoss(count, random))) usable++;
    states++;
  }
  t.diagnostic(`${states} states, ${usable} went on without a snapshot, seed ${seed}`);
  assert.ok(usable > 0);
});

test("real nodes start on a sample of these states: the database can be read and written through the mount", { timeout: 300_000 }, async (t) => {
  const random = new Random(seed + 2);
  const { length } = primary.record.changes;
  for (let sample = 0; sample < 5; sample++) {
    const count = Math.round((length * (sample + random.next())) / 5);
    const state = sample % 2 === 0 ? primary.record.afterKill(count) : primary.record.afterPowerLoss(count, random);
    const rows = last(primary.committed, count)?.rows ?? 0;
    const next = primary.committed.find(({ changes }) => changes > count)?.rows ?? rows;
    const where = `real node, sample ${sample}, after ${count} of ${length} changes (SEED=${seed})`;
    const cluster = await TestCluster.make(["a"]);
    try {
      const [a] = cluster.nodes as [TestNode];
      restore(state, a.data);
      a.start();
      await a.ready();
      const path = a.path(DATABASE);
      shell(path, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)");
      const found = Number(shell(path, "SELECT count(*) FROM t"));
      assert.ok(found === rows || found === next, `${where}: ${found} rows instead of ${rows} (or ${next})`);
      shell(path, "INSERT INTO t(body) VALUES (1)");
      assert.equal(shell(path, "PRAGMA integrity_check"), "ok", where);
      const position = await until("the position to be what SQLite reads", () => {
        const { checksum, txid } = positionOf(a, DATABASE);
        return checksum === checksumOf(bytesOf(path)) ? txid : undefined;
      });
      t.diagnostic(`${where}: ${found} rows, TXID ${position}`);
      assert.equal(await a.stop(), 0, where);
    } finally {
      await cluster.dispose();
    }
  }
});
