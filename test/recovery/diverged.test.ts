/**
 * Taking over another primary's history, interrupted at every change of the disk: real stores and the real stream between them, in this process.
 *
 * "a" was the primary, made ten transactions that "b" has too, then five more; "b" began epoch 2 and made three. Each test starts from copies.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import Database from "better-sqlite3";
import { setFaultHook } from "../../node/io/files.ts";
import type { ReplicationClient } from "../../node/replication/client.ts";
import { compactLog } from "../../node/store/compaction.ts";
import { keepsState } from "../../node/store/diverged-writer.ts";
import type { Store } from "../../node/store/store.ts";
import { until } from "../support/cluster.ts";
import { DATABASE, checksumOf, contentOf, openStore } from "./node-store.ts";
import { follow, serve, type Served } from "./stream.ts";

let folder: string;
/** Data folders: before the histories part, the old primary as kill -9 left it, the new one. */
let base: string;
let oldPrimary: string;
let b: Store;
let served: Served;
const clients: ReplicationClient[] = [];

const databaseOf = (store: Store) => store.databases.get(DATABASE)!.database;
const content = (root: string): bigint => checksumOf(contentOf(root, join(folder, "scratch"))!);

async function commits(root: string, name: string, epoch: number, statements: readonly string[]): Promise<Store> {
  const { store } = openStore(root, { name });
  await store.becomePrimary(epoch, { live: false });
  const db = new Database(join(root, "files", DATABASE));
  db.exec("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0");
  store.afterCreate(DATABASE);
  store.afterLastClose(DATABASE);
  await store.primaryOf(DATABASE).diff("a database that appeared");
  for (const sql of statements) {
    db.exec(sql);
    await store.flushAll();
  }
  return store;
}

before(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "diverged-"));
  base = join(folder, "base");
  oldPrimary = join(folder, "old");
  const live = join(folder, "live");
  await commits(live, "a", 1, ["CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)", ...Array.from({ length: 9 }, () => "INSERT INTO t(body) VALUES (randomblob(9000))")]);
  fs.cpSync(live, base, { recursive: true });
  fs.cpSync(base, oldPrimary, { recursive: true });
  await commits(oldPrimary, "a", 1, Array.from({ length: 5 }, (_, n) => `INSERT INTO t(body) VALUES ('lost ${n}'); `));
  fs.cpSync(oldPrimary, `${oldPrimary}-killed`, { recursive: true });
  oldPrimary = `${oldPrimary}-killed`;
  const other = join(folder, "new");
  fs.cpSync(base, other, { recursive: true });
  b = await commits(other, "b", 2, ["DELETE FROM t WHERE id = 2", "INSERT INTO t(body) VALUES ('new')", "UPDATE t SET body = 'newer' WHERE id = 3"]);
  served = await serve(b, "b", () => 2);
});
afterEach(() => {
  setFaultHook(undefined);
  for (const client of clients.splice(0)) client.close();
});
after(async () => {
  served.close();
  await b.close({ clean: true });
  fs.rmSync(folder, { recursive: true, force: true });
});

interface Started { readonly root: string; readonly store: Store; readonly said: string[]; follow(): void }

async function started(root: string): Promise<Started> {
  const { store } = openStore(root, { name: "a" });
  await store.becomeFollower({ live: false });
  const said: string[] = [];
  return { root, store, said, follow: () => void clients.push(follow(store, "a", served.port, said)) };
}

async function copied(change: (root: string) => void = () => undefined): Promise<Started> {
  const root = fs.mkdtempSync(join(folder, "a-"));
  fs.cpSync(oldPrimary, root, { recursive: true });
  change(root);
  return started(root);
}

const arrived = (store: Store): boolean => {
  const [mine, theirs] = [databaseOf(store), databaseOf(b)];
  return mine.distrust === undefined && mine.position.epoch === theirs.position.epoch && mine.position.txid === theirs.position.txid && mine.position.checksum === theirs.position.checksum;
};

/** The node has b's state and keeps it over a start; what it had alone is there once. */
async function assertArrived({ root, store }: Started, transactions = 5): Promise<void> {
  await until("a to have b's state", () => arrived(store));
  assert.deepEqual(databaseOf(store).epochs, databaseOf(b).epochs, "the primary's history is its own now");
  assert.equal(content(root), databaseOf(b).position.checksum);
  const entries = store.diverged.list();
  assert.deepEqual(entries.map((entry) => [entry.transactions, entry.complete, entry.hasState]), [[transactions, true, true]]);
  assert.deepEqual(fs.readdirSync(join(root, "diverged", DATABASE)), [entries[0]!.id.split("/")[1]]);
  for (const file of store.diverged.describe(entries[0]!.id).files) assert.equal(file.damaged, undefined);
  for (const entry of databaseOf(store).log.entries) databaseOf(store).log.decode(entry);
  const target = join(folder, `export-${Math.random()}`);
  await store.diverged.export(entries[0]!.id, target);
  const db = new Database(target, { readonly: true });
  assert.equal(db.prepare("SELECT count(*) FROM t WHERE body LIKE 'lost %'").pluck().get(), 5);
  assert.equal(db.pragma("integrity_check", { simple: true }), "ok");
  db.close();
  await store.close({ clean: true });
  const again = openStore(root, { name: "a" });
  await again.store.becomeFollower({ live: false });
  assert.ok(arrived(again.store), `after a start it is at ${JSON.stringify(databaseOf(again.store).position, (_, value: unknown) => (typeof value === "bigint" ? value.toString(16) : value))}`);
  await again.store.close({ clean: true });
}

/** Changes of the disk by the follower; the primary in this process makes none of these. */
const FOLLOWER = /^(?:diverged|rewind|replica|state|sidecar|log|segment|aside):/;
const READS = /:(?:read|mount)$/;

test("a node killed at any change of the disk while it takes over another history has the old state or the new one, and gets there", { timeout: 300_000 }, async () => {
  const count = async (): Promise<number> => {
    const node = await copied();
    let calls = 0;
    setFaultHook((label) => void (FOLLOWER.test(label) && !READS.test(label) && calls++));
    node.follow();
    await until("a to have b's state", () => arrived(node.store));
    setFaultHook(undefined);
    await assertArrived(node);
    return calls;
  };
  const calls = await count();
  assert.ok(calls > 30, `only ${calls} changes were seen`);
  const states = { old: 0, new: 0, read: 0 };
  for (let n = 1; n <= calls; n++) {
    const killed = await copied();
    let seen = 0;
    setFaultHook((label) => {
      // From here on the process is dead: nothing reaches the disk any more.
      if (FOLLOWER.test(label) && !READS.test(label) && ++seen >= n) throw new Error("the process is dead");
    });
    killed.follow();
    await until(`change ${n} of ${calls}`, () => seen >= n || arrived(killed.store));
    clients.splice(0).forEach((client) => client.close());
    // Whatever it would still have done fails; then its successor starts.
    await new Promise((resolve) => setTimeout(resolve, 5));
    const left = fs.mkdtempSync(join(folder, "left-"));
    fs.cpSync(killed.root, left, { recursive: true });
    setFaultHook(undefined);
    const next = await started(left);
    const { position, distrust } = databaseOf(next.store);
    states[distrust !== undefined ? "read" : position.epoch === 2 ? "new" : "old"]++;
    if (distrust === undefined) assert.equal(content(left), position.checksum, `after ${n - 1} changes`);
    next.follow();
    await assertArrived(next);
  }
  console.log(`${calls} points: ${JSON.stringify(states)}`);
  assert.ok(states.old > 10 && states.new + states.read > 1, JSON.stringify(states));
});

test("with a full disk nothing is given up: the node says so, keeps what it has, and goes on when there is space", async () => {
  const node = await copied();
  const before = databaseOf(node.store).position;
  let full = true;
  setFaultHook((label) => {
    if (full && label === "diverged:write") throw Object.assign(new Error("no space left"), { code: "ENOSPC" });
  });
  node.follow();
  await until("it to have tried twice", () => node.said.filter((text) => /did not complete and goes on/.test(text)).length >= 2);
  assert.deepEqual(databaseOf(node.store).position, before);
  assert.equal(content(node.root), before.checksum);
  assert.deepEqual(node.store.diverged.list(), []);
  full = false;
  await assertArrived(node);
});

test("a merged file that begins before the common ancestor is kept whole, the entry says so, and the node goes back all the same", async () => {
  const node = await copied();
  databaseOf(node.store).saveSidecar();
  while (compactLog(databaseOf(node.store).log, databaseOf(node.store).position.txid));
  assert.equal(databaseOf(node.store).log.entries.length, 1);
  node.follow();
  await until("a to have b's state", () => arrived(node.store));
  const [entry] = node.store.diverged.list();
  assert.deepEqual(entry!.files.map(({ minTxid, maxTxid, beginsBeforeAncestor }) => [minTxid, maxTxid, beginsBeforeAncestor]), [[1, entry!.lastTxid, true]]);
  assert.match(entry!.notes.join(), /also holds transactions 1 to \d+, which both have/);
  await assertArrived(node);
});

test("where the whole database was not kept, an export gives the LTX files", async () => {
  const node = await copied((root) => void fs.rmSync(join(root, "files", DATABASE)));
  // Its last transaction: it was deleted, so there is no state to copy.
  const deleted = openStore(node.root, { name: "a" });
  await deleted.store.becomePrimary(1, { live: false });
  await deleted.store.close({ clean: true });
  const next = await started(node.root);
  next.follow();
  await until("a to have b's state", () => arrived(next.store));
  const [entry] = next.store.diverged.list();
  assert.deepEqual([entry!.transactions, entry!.hasState], [6, false]);
  const target = join(folder, "ltx-files");
  assert.deepEqual(await next.store.diverged.export(entry!.id, target), { kind: "files", target, files: entry!.files.length });
  assert.deepEqual(fs.readdirSync(target).sort(), ["entry.json", ...entry!.files.map(({ name }) => name)].sort());
  await next.store.close({ clean: true });
});

test("a follower that catches up is in the primary's epoch as soon as it has everything before it, also when nothing was committed in it", async () => {
  const root = fs.mkdtempSync(join(folder, "c-"));
  const { store } = openStore(root, { name: "c" });
  await store.becomeFollower({ live: false });
  const follower = await store.followerOf(DATABASE);
  const { log } = databaseOf(b);
  // b has begun epoch 5 after its last transaction and committed nothing in it.
  const history = [...databaseOf(b).epochs, { epoch: 5, firstTxid: databaseOf(b).position.txid + 1, node: "b" }];
  const reached: number[] = [];
  for (const entry of log.entries) {
    await follower.apply(log.read(entry), entry.max >= databaseOf(b).epochs[1]!.firstTxid ? 2 : 1, undefined, history);
    reached.push(store.databases.get(DATABASE)!.database.position.epoch);
  }
  assert.deepEqual([...new Set(reached)], [1, 2, 5]);
  assert.deepEqual(databaseOf(store).epochs, history);
  await assert.rejects(follower.apply(log.read(log.entries.at(-1)!), 1, undefined, history), { code: "STALE_EPOCH" });
  await store.close({ clean: true });
  const again = openStore(root, { name: "c" });
  assert.deepEqual([again.store.databases.get(DATABASE)!.database.position.epoch, again.store.highestEpoch()], [5, 5]);
  await again.store.close({ clean: false });
});

test("a whole copy is kept while it is small, takes little of what is free, or is all there is", () => {
  const mib = 1 << 20;
  const rows: [number, boolean, number, boolean][] = [[64 * mib, true, 0, true], [65 * mib, true, 649 * mib, false], [65 * mib, true, 651 * mib, true], [6_500 * mib, false, 0, true]];
  for (const [bytes, complete, freeBytes, expected] of rows) assert.equal(keepsState({ bytes, complete, freeBytes }), expected, String([bytes, complete, freeBytes]));
});
