/**
 * What a node does with the state of the disk that it finds: every row of the table "Start-up recovery" in ARCHITECTURE.md, built on the disk and
 * started on. Each test names its row; the last one holds table and tests together.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import Database from "better-sqlite3";
import { Identity } from "../../node/identity.ts";
import { LogSegment } from "../../node/store/log-segment.ts";
import { databasePaths } from "../../node/store/names.ts";
import type { StoredDatabase } from "../../node/store/stored-database.ts";
import { until } from "../support/cluster.ts";
import { BOOT, DATABASE, OTHER_BOOT, checksumOf, contentOf, openStore, type OpenedStore } from "./node-store.ts";

let folder: string;
/** What was sent, in order; the newest leads to the end state. */
const sent: Buffer[] = [];
const COMMITS = 12;
const tested = new Set<string>();

/** A data folder as kill -9 leaves it. The page checksums on disk are those of some commits before. */
let killedPrimary: string;
let killedFollower: string;

before(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "recovery-"));
  killedPrimary = join(folder, "primary");
  killedFollower = join(folder, "follower");
  const live = join(folder, "live");
  const { store } = openStore(live);
  await store.becomePrimary(1, { live: false });
  const db = new Database(join(live, "files", DATABASE));
  db.exec("PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
  store.afterCreate(DATABASE);
  store.afterLastClose(DATABASE);
  const primary = store.primaryOf(DATABASE);
  await primary.diff("a database that appeared");
  for (let n = 2; n <= COMMITS; n++) {
    db.exec("INSERT INTO t(body) VALUES (randomblob(1500))");
    await store.flushAll();
    if (n === 6) primary.database.saveSidecar();
  }
  sent.push(...primary.database.log.entries.map((entry) => Buffer.from(primary.database.log.read(entry))));
  assert.equal(primary.database.position.txid, COMMITS);
  fs.cpSync(live, killedPrimary, { recursive: true });
  db.close();
  await store.close({ clean: true });

  const following = openStore(join(folder, "following"), { name: "b" });
  await following.store.becomeFollower({ live: false });
  const follower = await following.store.followerOf(DATABASE);
  for (const ltx of sent) await follower.apply(ltx, 1);
  fs.cpSync(join(folder, "following"), killedFollower, { recursive: true });
  await following.store.close({ clean: true });
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

interface Started extends OpenedStore {
  readonly root: string;
  readonly entry: StoredDatabase;
}

/** Starts a store on a copy of `from` after `change`. */
async function started(role: "primary" | "follower", from: string | undefined, change: (root: string) => void, options: { boot?: Buffer; epoch?: number } = {}): Promise<Started> {
  const root = fs.mkdtempSync(join(folder, "node-"));
  if (from !== undefined) fs.cpSync(from, root, { recursive: true, preserveTimestamps: true });
  change(root);
  const opened = openStore(root, { boot: options.boot ?? BOOT, name: role === "primary" ? "a" : "b" });
  if (role === "primary") await opened.store.becomePrimary(options.epoch ?? 1, { live: false });
  else await opened.store.becomeFollower({ live: false });
  return { ...opened, root, entry: opened.store.databases.get(DATABASE)! };
}

const logOf = (root: string): string => databasePaths(root, DATABASE).log;
const segmentOf = (root: string): string => join(logOf(root), fs.readdirSync(logOf(root)).filter((name) => name.endsWith(".seg")).sort().at(-1)!);
const content = (root: string): bigint => checksumOf(contentOf(root, join(folder, "scratch"))!);
const asideOf = (root: string): string[] => (fs.existsSync(join(root, "aside")) ? fs.readdirSync(join(root, "aside")).filter((name) => !name.endsWith(".why")) : []);
const settled = (entry: StoredDatabase): Promise<unknown> => until("what is distrusted to be read", () => entry.database.distrust === undefined && entry.primary!.turn.idle);
const end = (): bigint => content(killedPrimary);

function row(id: string, what: string, work: () => Promise<void>): void {
  tested.add(id);
  test(`${id}: ${what}`, { timeout: 240_000 }, work);
}

row("R1", "an empty data folder is a node without databases", async () => {
  for (const role of ["primary", "follower"] as const) {
    const { store } = await started(role, undefined, () => undefined);
    assert.equal(store.databases.size, 0);
    await store.close({ clean: true });
  }
});

row("R2", "a database without a log becomes one transaction on the primary, and is left alone on a follower", async () => {
  for (const role of ["primary", "follower"] as const) {
    const { store, entry, root } = await started(role, killedPrimary, (root) => fs.rmSync(logOf(root), { recursive: true }));
    if (role === "primary") await until("the first transaction", () => entry.database.position.txid > 0);
    else assert.equal(entry.database.position.txid, 0);
    // It counts the commits that the WAL still shows; its first file holds every page.
    if (role === "primary") assert.equal(entry.database.log.entries[0]!.min, 1);
    if (role === "primary") assert.equal(entry.database.position.checksum, content(root));
    assert.equal(content(root), end());
    await store.close({ clean: false });
  }
});

row("R3", "after a clean stop nothing is read and nothing is new, in the next run of the machine as well", async () => {
  for (const boot of [BOOT, OTHER_BOOT]) {
    const { store, entry } = await started("primary", join(folder, "live"), () => undefined, { boot });
    await store.flushAll();
    assert.equal(entry.database.distrust, undefined);
    assert.equal(entry.primary!.stats.diffs, 0);
    assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
    await store.close({ clean: true });
  }
});

row("R4", "after kill -9 the log brings the page checksums up to date, and the database is not read", async () => {
  const primary = await started("primary", killedPrimary, () => undefined);
  await primary.store.flushAll();
  assert.equal(primary.entry.database.distrust, undefined);
  assert.equal(primary.entry.primary!.stats.diffs, 0);
  assert.deepEqual(primary.entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  await primary.store.close({ clean: false });
  const follower = await started("follower", killedFollower, () => undefined);
  assert.equal(follower.entry.database.distrust, undefined);
  assert.deepEqual(follower.entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  await follower.store.close({ clean: false });
});

row("R5", "commits behind the end of the log get the next TXIDs", async () => {
  const { store, entry, root } = await started("primary", killedPrimary, (root) => {
    const db = new Database(join(root, "files", DATABASE));
    db.exec("PRAGMA wal_autocheckpoint = 0; INSERT INTO t(body) VALUES (1)");
    // Its close would checkpoint; the process is to have died before.
    fs.cpSync(join(root, "files"), join(root, "kept"), { recursive: true });
    db.close();
    fs.rmSync(join(root, "files"), { recursive: true });
    fs.renameSync(join(root, "kept"), join(root, "files"));
  });
  await settled(entry);
  await store.flushAll();
  await until("the commit to be captured", () => entry.database.position.txid === COMMITS + 1);
  assert.equal(entry.database.position.checksum, content(root));
  await store.close({ clean: false });
});

row("R6", "a wal-index that is left or damaged is made anew", async () => {
  for (const role of ["primary", "follower"] as const) {
    const { store, entry, root } = await started(role, role === "primary" ? killedPrimary : killedFollower, (root) => fs.writeFileSync(join(root, "files", `${DATABASE}-shm`), Buffer.alloc(32_768, 0x5a)));
    await store.flushAll();
    assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
    const db = new Database(join(root, "files", DATABASE), { readonly: true });
    assert.equal(db.prepare("SELECT count(*) FROM t").pluck().get(), COMMITS - 1);
    db.close();
    await store.close({ clean: false });
  }
});

row("R7", "a hot journal is left to SQLite; what it rolls back was never a transaction", async () => {
  const { store, entry, root } = await started("primary", join(folder, "live"), (root) => {
    const path = join(root, "files", DATABASE);
    const db = new Database(path);
    db.pragma("journal_mode = delete");
    db.close();
  });
  await until("the change of the journal mode to be in the log", () => entry.database.position.txid > COMMITS && entry.primary!.turn.idle);
  const { position } = entry.database;
  await store.close({ clean: false });
  // A transaction that has spilled into the file, and whose program died.
  const path = join(root, "files", DATABASE);
  const db = new Database(path);
  db.exec("PRAGMA cache_size = 1; BEGIN; UPDATE t SET body = zeroblob(1500)");
  const hot = fs.mkdtempSync(join(folder, "hot-"));
  fs.cpSync(root, hot, { recursive: true });
  db.exec("ROLLBACK");
  db.close();
  assert.ok(fs.statSync(join(hot, "files", `${DATABASE}-journal`)).size > 512, "the journal is hot");
  const next = await started("primary", hot, () => undefined);
  const reader = new Database(join(next.root, "files", DATABASE));
  assert.equal(reader.pragma("integrity_check", { simple: true }), "ok");
  reader.close();
  await settled(next.entry);
  await next.store.flushAll();
  await next.entry.primary!.checkFile();
  assert.deepEqual(next.entry.database.position, position);
  assert.equal(content(next.root), position.checksum);
  await next.store.close({ clean: false });
});

row("R8", "without usable page checksums the database is read; the state that the log names is no new transaction", async () => {
  for (const harm of [(path: string) => fs.rmSync(path), (path: string) => fs.writeFileSync(path, Buffer.alloc(200, 7))]) {
    const primary = await started("primary", killedPrimary, (root) => harm(join(logOf(root), "checksums")));
    await settled(primary.entry);
    assert.deepEqual(primary.entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
    await primary.store.close({ clean: false });
    const follower = await started("follower", killedFollower, (root) => harm(join(logOf(root), "checksums")));
    assert.match(follower.entry.database.distrust ?? "", /page checksums are missing/);
    assert.equal(await follower.entry.follower!.resolveDistrust(), true);
    assert.deepEqual(follower.entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
    await follower.store.close({ clean: false });
  }
});

row("R9", "a state.json that cannot be used goes aside; the log tells the position", async () => {
  const { store, entry, root } = await started("primary", killedPrimary, (root) => fs.writeFileSync(join(logOf(root), "state.json"), "{"));
  await store.flushAll();
  assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  assert.deepEqual(asideOf(root).map((name) => name.split("Z-")[1]), ["state.json"]);
  await store.close({ clean: false });
});

row("R10", "half a record at the end of the log is cut off; the primary captures it again, a follower reads its database to be sure", async () => {
  for (const role of ["primary", "follower"] as const) {
    const { store, entry, root } = await started(role, role === "primary" ? killedPrimary : killedFollower, (root) => fs.truncateSync(segmentOf(root), fs.statSync(segmentOf(root)).size - 20));
    if (role === "primary") {
      await settled(entry);
      await store.flushAll();
      await until("the transaction to be captured again", () => entry.database.position.txid === COMMITS);
    } else {
      assert.match(entry.database.distrust ?? "", /end of the log/);
      assert.equal(await entry.follower!.resolveDistrust(), false, "the content is ahead of what is left of the log: a snapshot is wanted");
    }
    assert.equal(content(root), end());
    await store.close({ clean: false });
  }
});

row("R11", "a damaged newest record goes aside; its TXID is not given to another state", async () => {
  const { store, entry, root } = await started("primary", join(folder, "live"), (root) => {
    const segment = segmentOf(root);
    const fd = fs.openSync(segment, "r+");
    fs.writeSync(fd, Buffer.alloc(8, 0xee), 0, 8, fs.statSync(segment).size - 60);
    fs.closeSync(fd);
  });
  await settled(entry);
  await store.flushAll();
  assert.equal(asideOf(root).length, 1);
  assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  const db = new Database(join(root, "files", DATABASE));
  db.exec("INSERT INTO t(body) VALUES (2)");
  await store.flushAll();
  assert.equal(entry.database.position.txid, COMMITS + 1);
  db.close();
  await store.close({ clean: false });
});

row("R12", "a database whose file is gone was deleted, on the primary; a follower takes a snapshot", async () => {
  const primary = await started("primary", join(folder, "live"), (root) => fs.rmSync(join(root, "files", DATABASE)));
  assert.equal(primary.entry.database.deleted, true);
  assert.equal(primary.entry.database.position.txid, COMMITS + 1);
  await primary.store.close({ clean: false });
  const follower = await started("follower", killedFollower, (root) => fs.rmSync(join(root, "files", DATABASE)));
  assert.match(follower.entry.database.distrust ?? "", /is gone/);
  assert.equal(await follower.entry.follower!.resolveDistrust(), false, "a snapshot is wanted");
  await follower.store.close({ clean: false });
});

row("R13", "a follower whose WAL has lost its end applies the newest transaction again", async () => {
  const { store, entry, root } = await started("follower", killedFollower, (root) => {
    const wal = join(root, "files", `${DATABASE}-wal`);
    fs.truncateSync(wal, fs.statSync(wal).size - 100);
  });
  assert.equal(entry.database.distrust, undefined);
  assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  assert.equal(content(root), end());
  await store.close({ clean: false });
});

row("R14", "frames behind a lost one in a follower's WAL stay lost", async () => {
  const { store, entry, root } = await started("follower", killedFollower, (root) => {
    // The log ends two transactions earlier, between records.
    const { records, segment } = LogSegment.recover(segmentOf(root));
    segment.close();
    fs.truncateSync(segmentOf(root), records.at(-2)!.at - 4);
    // Of the WAL, the first frame of the transaction that is now the newest is lost; those of the two after it are sound.
    const wal = join(root, "files", `${DATABASE}-wal`);
    const bytes = fs.readFileSync(wal);
    const commits: number[] = [];
    for (let frame = 0; 32 + (frame + 1) * 1048 <= bytes.length; frame++) if (bytes.readUInt32BE(32 + frame * 1048 + 4) !== 0) commits.push(frame);
    bytes.fill(0, 32 + (commits.at(-4)! + 1) * 1048, 32 + (commits.at(-4)! + 2) * 1048);
    fs.writeFileSync(wal, bytes);
  });
  assert.equal(entry.database.distrust, undefined);
  assert.equal(entry.database.position.txid, COMMITS - 2);
  assert.equal(content(root), entry.database.position.checksum, "what SQLite reads is what the position says");
  for (const ltx of sent.slice(-2)) await entry.follower!.apply(ltx, 1);
  assert.equal(content(root), end());
  await store.close({ clean: false });
});

row("R15", "a snapshot that was being installed took effect, or did not, or is asked for again", async () => {
  const pending = (root: string, checksum: bigint): void => {
    const path = join(logOf(root), "state.json");
    const state = JSON.parse(fs.readFileSync(path, "utf8")) as Record<string, unknown>;
    fs.writeFileSync(path, JSON.stringify({ ...state, pending: { epoch: 1, txid: 99, checksum: checksum.toString(16), pageSize: 1024, epochs: [{ epoch: 1, firstTxid: 1, node: "a" }], keepLogTo: -1 } }));
  };
  for (const [how, expected] of [["old", COMMITS], ["new", 99], ["neither", undefined]] as const) {
    const { store, entry } = await started("follower", killedFollower, (root) => {
      pending(root, how === "new" ? end() : 0x8000000000000001n);
      if (how === "neither") fs.rmSync(join(root, "files", `${DATABASE}-wal`));
      if (how === "new") {
        // The content is the new one; the log says another, older one.
        fs.truncateSync(segmentOf(root), Math.floor(fs.statSync(segmentOf(root)).size / 3));
        fs.rmSync(join(logOf(root), "checksums"), { force: true });
      }
    });
    assert.match(entry.database.distrust ?? "", /snapshot was being installed/);
    assert.equal(await entry.follower!.resolveDistrust(), expected !== undefined, how);
    if (expected !== undefined) assert.equal(entry.database.position.txid, expected, how);
    // The log of the old state must not speak at the next start.
    if (how === "new") assert.equal(entry.database.log.newest, undefined);
    await store.close({ clean: false });
  }
});

row("R16", "after the machine went down the database is read, and what is new in it gets a TXID of the next epoch", async () => {
  const same = await started("primary", killedPrimary, () => undefined, { boot: OTHER_BOOT, epoch: 2 });
  await settled(same.entry);
  assert.deepEqual(same.entry.database.position, { epoch: 2, txid: COMMITS, checksum: end() });
  await same.store.close({ clean: false });
  const lost = await started("primary", killedPrimary, (root) => {
    const wal = join(root, "files", `${DATABASE}-wal`);
    fs.truncateSync(wal, 32 + 1048 * 9);
  }, { boot: OTHER_BOOT, epoch: 2 });
  await settled(lost.entry);
  assert.deepEqual(lost.entry.database.position, { epoch: 2, txid: COMMITS + 1, checksum: content(lost.root) });
  await lost.store.close({ clean: false });
});

row("R17", "a merged log file beside its parts wins, and the parts go", async () => {
  const { store, entry, root } = await started("primary", killedPrimary, (root) => {
    const merging = openStore(root);
    for (let again = true; again; ) again = merging.store.maintain(Date.now());
    const merged = fs.readdirSync(logOf(root)).filter((name) => name.endsWith(".ltx"));
    assert.ok(merged.length > 0, "maintenance has merged the segment");
    // As a crash between the two steps leaves it: the merged file has its name, the segment is still there.
    fs.cpSync(segmentOf(killedPrimary), join(logOf(root), segmentOf(killedPrimary).split("/").at(-1)!));
  });
  await store.flushAll();
  assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  assert.deepEqual(fs.readdirSync(logOf(root)).filter((name) => name.endsWith(".seg")), []);
  let next = entry.database.log.entries[0]!.min;
  for (const { min, max } of entry.database.log.entries) {
    assert.equal(min, next);
    next = max + 1;
  }
  await store.close({ clean: false });
});

row("R18", "unfinished files of an earlier process are removed, a snapshot on its way in is kept", async () => {
  const names = ["0000000000000001-0000000000000002.ltx.part", "0000000000000001-0000000000000002.ltx.merge", "create.part", "apply.spool", "received.part", "state.json.new"];
  const { store, entry, root } = await started("follower", killedFollower, (root) => {
    for (const name of [...names, "snapshot.part", "snapshot.json"]) fs.writeFileSync(join(logOf(root), name), "half");
    fs.writeFileSync(join(root, "import-1-2.part"), "half");
  });
  assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  const left = fs.readdirSync(logOf(root));
  assert.deepEqual(left.filter((name) => names.includes(name)), []);
  assert.ok(left.includes("snapshot.part") && left.includes("snapshot.json"));
  assert.ok(!fs.existsSync(join(root, "import-1-2.part")));
  await store.close({ clean: false });
});

row("R19", "a node that was the primary and follows now captures what its applications committed, once", async () => {
  const root = fs.mkdtempSync(join(folder, "node-"));
  fs.cpSync(killedPrimary, root, { recursive: true });
  const db = new Database(join(root, "files", DATABASE));
  db.exec("PRAGMA wal_autocheckpoint = 0; INSERT INTO t(body) VALUES (1)");
  const killed = fs.mkdtempSync(join(folder, "node-"));
  fs.cpSync(root, killed, { recursive: true });
  db.close();
  for (const before of [COMMITS, COMMITS + 1]) {
    const { store } = openStore(killed, { name: "a" });
    const { database } = store.databases.get(DATABASE)!;
    assert.equal(database.position.txid, before);
    assert.equal(database.wasWrittenHere, before === COMMITS);
    await store.becomeFollower({ live: false });
    assert.equal(database.distrust, undefined);
    assert.deepEqual(database.position, { epoch: 1, txid: COMMITS + 1, checksum: content(killed) });
    await store.close({ clean: false });
  }
});

row("R20", "a hot journal on a node that follows now is rolled back, and goes aside", async () => {
  const root = fs.mkdtempSync(join(folder, "node-"));
  const first = openStore(root, { name: "a" });
  await first.store.becomePrimary(1, { live: false });
  const db = new Database(join(root, "files", DATABASE));
  db.exec("PRAGMA page_size = 1024; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); INSERT INTO t(body) SELECT randomblob(700) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n)");
  first.store.afterCreate(DATABASE);
  first.store.afterLastClose(DATABASE);
  await first.store.primaryOf(DATABASE).diff("a database that appeared");
  const { position } = first.store.databases.get(DATABASE)!.database;
  // Many segments: the cache is small, and each spill syncs the journal.
  db.exec("PRAGMA cache_size = 1; BEGIN; UPDATE t SET body = zeroblob(700); INSERT INTO t(body) SELECT body FROM t");
  const hot = fs.mkdtempSync(join(folder, "node-"));
  fs.cpSync(root, hot, { recursive: true });
  db.exec("ROLLBACK");
  db.close();
  await first.store.close({ clean: false });
  assert.notEqual(checksumOf(fs.readFileSync(join(hot, "files", DATABASE))), position.checksum, "the transaction has spilled into the file");
  const { store } = openStore(hot, { name: "a" });
  await store.becomeFollower({ live: false });
  assert.deepEqual(store.databases.get(DATABASE)!.database.position, position);
  assert.equal(checksumOf(fs.readFileSync(join(hot, "files", DATABASE))), position.checksum);
  assert.equal(fs.existsSync(join(hot, "files", `${DATABASE}-journal`)), false);
  assert.equal(asideOf(hot).filter((name) => name.endsWith("-journal")).length, 1);
  await store.close({ clean: false });
});

row("R21", "a proposal that is stored and undecided is kept, told and shown to nobody; an election publishes it, or drops it when it is known to be refused", async () => {
  const SERIAL = 500;
  const prepared = fs.mkdtempSync(join(folder, "prepared-"));
  const before = openStore(prepared, { name: "b" });
  await before.store.becomeFollower({ live: false });
  const follower = await before.store.followerOf(DATABASE);
  for (const ltx of sent.slice(0, -1)) await follower.apply(ltx, 1);
  const base = follower.database.position;
  const shown = content(prepared);
  await follower.prepare(sent.at(-1)!, 1, SERIAL);
  await assert.rejects(follower.prepare(sent.at(-2)!, 1, SERIAL + 1), { code: "POSITION_MISMATCH" });
  // As kill -9 leaves it.
  const start = (change: (root: string) => void = () => undefined): Promise<Started> => started("follower", prepared, change);
  const tailOf = (root: string): string => join(logOf(root), "tail");

  for (const [refused, txid, checksum] of [[0, COMMITS, end()], [SERIAL - 1, COMMITS, end()], [SERIAL, COMMITS - 1, shown], [SERIAL + 9, COMMITS - 1, shown]] as const) {
    const { store, entry, root } = await start();
    assert.deepEqual(entry.database.position, base);
    assert.equal(content(root), shown);
    assert.deepEqual(store.storedPosition(DATABASE), { published: base, refused: 0, tail: { position: { epoch: 1, txid: COMMITS, checksum: end() }, serial: SERIAL } });
    assert.equal(await store.settle(DATABASE, refused), refused < SERIAL);
    assert.equal(store.storedPosition(DATABASE).tail, undefined);
    await store.becomePrimary(2, { live: true });
    await store.flushAll();
    assert.deepEqual(entry.database.position, { epoch: 2, txid, checksum });
    assert.equal(content(root), checksum);
    await store.close({ clean: false });
  }

  const confirmed = await start();
  assert.equal(await confirmed.entry.follower!.confirm(SERIAL + 1), false);
  assert.equal(await confirmed.entry.follower!.confirm(SERIAL), true);
  assert.deepEqual(confirmed.entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  assert.equal(confirmed.store.storedPosition(DATABASE).tail, undefined);
  await confirmed.store.close({ clean: false });

  // Its own primary says that it was refused; another one only that it has it not.
  for (const [epoch, aside] of [[1, 0], [2, 1]] as const) {
    const { store, entry, root } = await start();
    await entry.follower!.rewind(SERIAL, epoch);
    assert.equal(store.storedPosition(DATABASE).tail, undefined);
    const kept = asideOf(root).filter((name) => name.includes("undecided"));
    assert.equal(kept.length, aside);
    for (const name of kept) assert.deepEqual(fs.readFileSync(join(root, "aside", name)), sent.at(-1));
    await store.close({ clean: false });
  }

  for (const [how, aside] of [[(root: string): void => fs.truncateSync(tailOf(root), fs.statSync(tailOf(root)).size - 1), 0], [(root: string): void => fs.writeFileSync(tailOf(root), Buffer.alloc(80, 1)), 1]] as const) {
    const { store, entry, root } = await start(how);
    assert.equal(store.storedPosition(DATABASE).tail, undefined);
    assert.deepEqual(entry.database.position, base);
    assert.equal(asideOf(root).length, aside);
    await store.close({ clean: false });
  }
  await before.store.close({ clean: false });
});

row("R22", "a damaged node-id, epoch or lease.json goes aside; the next epoch is greater than any that the databases have seen", async () => {
  const root = fs.mkdtempSync(join(folder, "identity-"));
  new Identity(root).sawEpoch(3);
  for (const name of ["node-id", "epoch", "lease.json"]) fs.writeFileSync(join(root, name), "{");
  const identity = new Identity(root);
  assert.match(identity.nodeId, /^[0-9a-f]{16}$/);
  assert.deepEqual(asideOf(root).map((name) => name.slice(name.indexOf("Z-") + 2)).sort(), ["epoch", "lease.json", "node-id"]);
  assert.equal(identity.startEpoch(7), 8);
  // The lease is forgotten; that the node wrote is not, and what it committed last is captured before it follows.
  const { store, entry } = await started("follower", killedPrimary, (root) => fs.writeFileSync(join(root, "lease.json"), "{"));
  assert.deepEqual(entry.database.position, { epoch: 1, txid: COMMITS, checksum: end() });
  await store.close({ clean: false });
});

row("R23", "a node whose cluster-id is damaged does not start, and the file is named and left as it is", () => {
  const root = fs.mkdtempSync(join(folder, "identity-"));
  fs.writeFileSync(join(root, "cluster-id"), "0123\n");
  assert.throws(() => new Identity(root), { code: "CORRUPT_FILE", message: new RegExp(join(root, "cluster-id")) });
  assert.equal(fs.readFileSync(join(root, "cluster-id"), "utf8"), "0123\n");
  return Promise.resolve();
});

row("R24", "what is no database's log goes aside", async () => {
  const { store, root } = await started("primary", killedPrimary, (root) => {
    fs.writeFileSync(join(root, "log", "notes.txt"), "x");
    fs.mkdirSync(join(root, "log", "%zz"));
  });
  assert.deepEqual([...store.databases.keys()], [DATABASE]);
  assert.deepEqual(asideOf(root).map((name) => name.slice(name.indexOf("Z-") + 2)).sort(), ["%zz", "notes.txt"]);
  await store.close({ clean: false });
});

row("R25", "what a program wrote after a clean stop is a transaction of the primary, and is not believed on a follower", async () => {
  const write = (root: string): void => {
    const db = new Database(join(root, "files", DATABASE));
    db.exec("UPDATE t SET body = zeroblob(1500) WHERE id = 3");
    db.close();
  };
  const primary = await started("primary", join(folder, "live"), write);
  await primary.store.flushAll();
  await until("the start to have read it", () => primary.entry.database.distrust === undefined);
  assert.equal(primary.entry.database.position.txid, COMMITS + 1);
  assert.equal(primary.entry.database.position.checksum, content(primary.root));
  await primary.store.close({ clean: true });

  const follower = await started("follower", join(folder, "following"), write);
  assert.match(follower.entry.database.distrust ?? "", /was written while the node was down$/);
  assert.equal(await follower.entry.follower!.resolveDistrust(), false, "a snapshot is wanted");
  await follower.store.close({ clean: true });
  // Not believed by the next start either.
  const again = openStore(follower.root, { name: "b" });
  assert.ok(again.store.databases.get(DATABASE)!.database.distrust !== undefined);
  await again.store.close({ clean: false });
});

test("every row of the table in ARCHITECTURE.md has its test, and every test its row", () => {
  const text = fs.readFileSync(fileURLToPath(new URL("../../ARCHITECTURE.md", import.meta.url)), "utf8");
  const section = text.split(/^## /m).find((part) => part.startsWith("Start-up recovery\n"));
  const rows = [...(section ?? "").matchAll(/^\| (R\d+) \|/gm)].map((match) => match[1]!);
  assert.ok(rows.length >= 15, `${rows.length} rows`);
  assert.deepEqual(rows, [...tested]);
});
