/**
 * Recorded work of a primary and of a follower: every change of the disk, and what had been promised at each point.
 *
 * Always holds: the work is the same each time (sizes, order), so counts of changes are comparable; content and salts are random.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { PageSums } from "../../node/store/page-sums.ts";
import { SnapshotTarget } from "../../node/store/snapshot-target.ts";
import type { Store } from "../../node/store/store.ts";
import type { Follower } from "../../node/store/follower.ts";
import type { Position } from "../../proto/position.ts";
import { DiskRecord } from "./disk-record.ts";
import { DATABASE, checksumOf, contentOf, openStore } from "./node-store.ts";

/** What others may rely on once so many changes have been made. */
export interface Promised {
  readonly changes: number;
  readonly position: Position;
}

/** Rows that SQLite has committed and synced once so many changes have been made. */
export interface Committed {
  readonly changes: number;
  readonly rows: number;
}

export interface Recorded {
  readonly record: DiskRecord;
  readonly promised: readonly Promised[];
  readonly committed: readonly Committed[];
  /** Checksum of each state that there was, by TXID. */
  readonly states: ReadonlyMap<number, bigint>;
  /** Every transaction, as the primary sent it. */
  readonly transactions: readonly { readonly min: number; readonly max: number; readonly ltx: Buffer }[];
  /** The content after each transaction. */
  readonly contents: ReadonlyMap<number, Buffer>;
}

const PATHS = { database: `files/${DATABASE}`, wal: `files/${DATABASE}-wal`, journal: `files/${DATABASE}-journal` };

/** Commits, checkpoints, a checkpoint that empties the WAL, VACUUM, maintenance, a clean stop; each commit synced by SQLite. */
export async function recordPrimary(root: string, scratch: string): Promise<Recorded> {
  const record = new DiskRecord(root);
  const { store, reports } = openStore(root);
  const promised: Promised[] = [];
  const committed: Committed[] = [];
  const states = new Map<number, bigint>();
  const contents = new Map<number, Buffer>();
  const transactions: { min: number; max: number; ltx: Buffer }[] = [];
  store.onChange(({ position, log }) => {
    promised.push({ changes: record.changes.length, position });
    states.set(position.txid, position.checksum);
    const entry = log.entryAt(position.txid);
    if (entry !== undefined) transactions.push({ min: entry.min, max: entry.max, ltx: Buffer.from(log.read(entry)) });
  });
  await store.becomePrimary(1, { live: false });
  const db = new Database(join(root, PATHS.database));
  const note = async (): Promise<void> => {
    record.noteFiles([PATHS.journal, PATHS.wal, PATHS.database], true);
    const rows = db.prepare("SELECT count(*) FROM sqlite_schema WHERE name = 't'").pluck().get() === 1 ? Number(db.prepare("SELECT count(*) FROM t").pluck().get()) : 0;
    committed.push({ changes: record.changes.length, rows });
    await store.flushAll();
    const { position } = store.databases.get(DATABASE)!.database;
    if (!contents.has(position.txid)) contents.set(position.txid, contentOf(root, scratch)!);
  };
  try {
    db.exec("PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
    record.noteFiles([PATHS.journal, PATHS.wal, PATHS.database], true);
    store.afterCreate(DATABASE);
    store.afterLastClose(DATABASE);
    await store.primaryOf(DATABASE).diff("a database that appeared");
    await note();
    for (let step = 1; step <= 40; step++) {
      db.exec(step % 9 === 0 ? "DELETE FROM t WHERE id % 5 = 0" : `INSERT INTO t(body) VALUES (randomblob(${(step * 397) % 3_000}))`);
      await note();
      if (step % 6 === 0) store.maintain(Date.now());
      if (step % 10 === 0) {
        // What the FUSE thread does: it asks before the database file is cut to its size, and before the WAL is.
        await store.beforeTruncate(DATABASE, 0x7fffffff);
        db.pragma(`wal_checkpoint(${step % 20 === 0 ? "TRUNCATE" : "RESTART"})`);
        record.noteFiles([PATHS.database], true);
        record.noteFiles([PATHS.wal], false);
      }
      if (step === 25) {
        db.exec("VACUUM");
        await note();
      }
    }
    db.close();
    record.noteFiles([PATHS.database, PATHS.wal, PATHS.journal], true);
    await store.close({ clean: true });
  } finally {
    record.stop();
  }
  const broken = reports.filter(({ error }) => error !== undefined);
  if (broken.length > 0) throw new Error(`the workload itself failed: ${broken[0]!.message}`, { cause: broken[0]!.error });
  return { record, promised, committed, states, contents, transactions };
}

/** Gives a follower everything from its position on, by transactions. */
export async function catchUp(follower: Follower, source: Recorded, upTo = Infinity): Promise<void> {
  for (const { min, max, ltx } of source.transactions) if (max > follower.database.position.txid && min <= upTo && max <= upTo) await follower.apply(ltx, 1);
}

/** Replaces a follower's content by the state at `txid`, as a snapshot that came over the network. */
export async function installSnapshot(store: Store, source: Recorded, txid: number): Promise<void> {
  const content = source.contents.get(txid)!;
  const pageSize = content.readUInt16BE(16);
  const position: Position = { epoch: 1, txid, checksum: checksumOf(content) };
  const target = await SnapshotTarget.open(store.logFolder(DATABASE), { base: position, pageSize, pageCount: content.length / pageSize, fromPage: 1, ownership: undefined });
  const numbers = Array.from({ length: content.length / pageSize }, (_, index) => index + 1);
  for (let at = 0; at < numbers.length; at += 7) target.addPages(numbers.slice(at, at + 7), content.subarray(at * pageSize, (at + 7) * pageSize));
  const finished = await target.finish(position);
  const follower = await store.followerOf(DATABASE);
  await follower.installSnapshot(finished);
  if (!(finished.sums instanceof PageSums)) throw new Error("no sums");
  fs.rmSync(finished.path, { force: true });
}

/** Creation, transactions, checkpoints, maintenance, a snapshot over an open database, more transactions, a clean stop. */
export async function recordFollower(root: string, source: Recorded): Promise<Recorded & { readonly installs: readonly (readonly [number, number])[] }> {
  const record = new DiskRecord(root);
  const { store, reports } = openStore(root, { name: "b" });
  const promised: Promised[] = [];
  const installs: [number, number][] = [];
  store.onChange(({ position }) => promised.push({ changes: record.changes.length, position }));
  try {
    await store.becomeFollower({ live: false });
    const follower = await store.followerOf(DATABASE);
    let done = 0;
    for (const { min, max, ltx } of source.transactions) {
      if (max <= follower.database.position.txid) continue;
      if (min > follower.database.position.txid + 1) throw new Error(`transactions before ${min} are missing`);
      await follower.apply(ltx, 1);
      done++;
      if (done % 5 === 0) store.maintain(Date.now());
      if (done % 8 === 0) await follower.replica!.checkpoint();
      if (done === 18) {
        const begin = record.changes.length;
        await installSnapshot(store, source, follower.database.position.txid + 4);
        installs.push([begin, record.changes.length]);
      }
    }
    await store.close({ clean: true });
  } finally {
    record.stop();
  }
  const broken = reports.filter(({ error }) => error !== undefined);
  if (broken.length > 0) throw new Error(`the workload itself failed: ${broken[0]!.message}`, { cause: broken[0]!.error });
  return { ...source, record, promised, committed: [], installs };
}
