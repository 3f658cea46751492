/**
 * What a diff takes into the log is one committed state, whatever programs do to the files between its reading of them and its recording.
 *
 * They do it at a known place here: the hook of the seam to the disk runs them when the diff gets there.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import Database from "better-sqlite3";
import { setFaultHook, type Label } from "../../node/io/files.ts";
import type { Store } from "../../node/store/store.ts";
import { checksumOf, contentOf, DATABASE, openStore } from "./node-store.ts";

interface Case {
  readonly root: string;
  readonly store: Store;
  readonly db: Database.Database;
  readonly other: Database.Database;
  /** The checksum of what SQLite reads now. */
  content(): bigint;
}

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  setFaultHook(undefined);
  for (const step of undo.splice(0).reverse()) await step();
});

const change = (id: number): string => `UPDATE t SET body = randomblob(900) WHERE id = ${id}`;

/** A database whose file has commits that gave no signal, below a WAL that begins with another: only a diff can tell what is in it. Each row has a page. */
async function begun(): Promise<Case> {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-diff-"));
  undo.push(() => fs.rmSync(folder, { recursive: true, force: true }));
  const root = join(folder, "a");
  fs.mkdirSync(root);
  const { store } = openStore(root);
  undo.push(() => store.close({ clean: false }));
  await store.becomePrimary(1, { live: false });
  const open = (): Database.Database => {
    const db = new Database(join(root, "files", DATABASE), { timeout: 10_000 });
    undo.push(() => void db.close());
    return db;
  };
  const db = open();
  db.exec("PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
  const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(900))");
  for (let row = 0; row < 30; row++) insert.run();
  store.afterCreate(DATABASE);
  store.afterLastClose(DATABASE);
  await store.primaryOf(DATABASE).diff("a database that appeared");
  await store.flushAll();
  const { position } = store.databases.get(DATABASE)!.database;
  const content = (): bigint => checksumOf(contentOf(root, join(folder, "copy"))!);
  assert.equal(position.checksum, content());

  db.exec("PRAGMA journal_mode = persist; PRAGMA synchronous = off");
  for (const suffix of ["-wal", "-shm"]) store.afterUnlink(`${DATABASE}${suffix}`);
  db.exec(change(5));
  db.exec(change(25));
  db.exec("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0");
  store.afterCreate(`${DATABASE}-wal`);
  db.exec(change(15));
  const other = open();
  other.exec("PRAGMA wal_autocheckpoint = 0; SELECT count(*) FROM t");
  assert.equal(store.databases.get(DATABASE)!.database.position.txid, position.txid, "nothing of this is in the log yet");
  return { root, store, db, other, content };
}

/** Has the diff run, and `meanwhile` when it reads at `label` for the first time. Each state that it records must be one that was committed. */
async function diffWhile({ store, content }: Case, label: Label, meanwhile: () => void): Promise<void> {
  const committed = new Set([content()]);
  const recorded: bigint[] = [];
  store.onChange(({ position }) => void recorded.push(position.checksum));
  setFaultHook((at) => {
    if (at !== label) return;
    setFaultHook(undefined);
    meanwhile();
    committed.add(content());
  });
  await store.primaryOf(DATABASE).diff("it is asked for");
  assert.equal(committed.size, 2, "something was committed meanwhile");
  await store.flushAll();
  assert.ok(recorded.length > 0);
  assert.deepEqual(recorded.filter((checksum) => !committed.has(checksum)), [], "states that were never committed");
  assert.equal(recorded.at(-1), content());
}

test("a diff records no page that a checkpoint has written since it was read, from a commit that came later", async () => {
  const found = await begun();
  await diffWhile(found, "capture:database", () => {
    // One page that differs from the log already, and one that does not.
    found.other.exec(`BEGIN; ${change(10)}; ${change(25)}; COMMIT`);
    found.other.pragma("wal_checkpoint(PASSIVE)");
  });
});

test("a diff takes no frame of a WAL that has begun anew since it was looked at", async () => {
  const found = await begun();
  found.db.pragma("wal_checkpoint(PASSIVE)");
  await diffWhile(found, "capture:page", () => void found.other.exec(change(25)));
});

test("commits that gave no signal are found below a WAL whose own page 1 a checkpoint has put over theirs before anybody looked", async () => {
  const { store, db, content } = await begun();
  const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(900))");
  for (let row = 0; row < 10; row++) insert.run();
  db.pragma("wal_checkpoint(PASSIVE)");
  await store.flushAll();
  assert.equal(store.databases.get(DATABASE)!.database.position.checksum, content());
});

test("a transaction that is rolled back over the journal of a commit that gave no signal does not pass off half of that commit as its own", async () => {
  const { root, store, db, other: reader, content } = await begun();
  reader.close();
  // All of it is in the log, in a journal mode whose end is a signal.
  db.pragma("journal_mode = delete");
  for (const suffix of ["-wal", "-shm"]) store.afterUnlink(`${DATABASE}${suffix}`);
  await store.primaryOf(DATABASE).diff("it is asked for");
  assert.equal(store.databases.get(DATABASE)!.database.position.checksum, content());

  db.exec(`PRAGMA journal_mode = persist; PRAGMA synchronous = off; BEGIN; ${change(5)}; ${change(15)}; ${change(25)}; COMMIT`);
  const committed = content();
  const recorded: bigint[] = [];
  store.onChange(({ position }) => void recorded.push(position.checksum));
  const other = new Database(join(root, "files", DATABASE), { timeout: 10_000 });
  try {
    other.exec(`PRAGMA synchronous = off; BEGIN; ${change(10)}`);
    // What a mount asks before the journal of this goes.
    await store.beforeUnlink(`${DATABASE}-journal`);
    other.exec("ROLLBACK");
  } finally {
    other.close();
  }
  assert.deepEqual(recorded, [committed]);
});
