/**
 * The frame that the node puts into a WAL that has just been created is no transaction: capture goes on behind it, however late it looks.
 *
 * The application's opening is made of its two system calls here, so that its first commit surely comes before the first look.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import Database from "better-sqlite3";
import { WAL_HEADER_SIZE } from "../../node/sqlite/wal.ts";
import type { Store } from "../../node/store/store.ts";
import { DATABASE, openStore } from "./node-store.ts";

/** A store of a primary that nobody has written to yet, and where its database will lie. */
async function begun(t: TestContext): Promise<{ store: Store; path: string; txid(): number }> {
  const root = fs.mkdtempSync(join(tmpdir(), "sluice-opening-"));
  t.after(() => fs.rmSync(root, { recursive: true, force: true }));
  const { store } = openStore(root);
  t.after(() => store.close({ clean: false }));
  await store.becomePrimary(1, { live: false });
  return { store, path: join(root, "files", DATABASE), txid: () => store.databases.get(DATABASE)!.database.position.txid };
}

test("a commit that comes before the first look into a WAL gets one TXID, though the WAL begins with a frame of the node's own", async (t) => {
  const { store, path, txid } = await begun(t);
  const program = (run: (db: Database.Database) => void): void => {
    const db = new Database(path);
    run(db);
    db.close();
    for (const suffix of ["-wal", "-shm"]) store.afterUnlink(`${DATABASE}${suffix}`);
  };
  program((db) => db.exec("PRAGMA journal_mode = wal; CREATE TABLE t(body)"));
  store.afterCreate(DATABASE);
  store.afterLastClose(DATABASE);
  await store.primaryOf(DATABASE).diff("a database that appeared");
  for (let opening = 1; opening <= 3; opening++) {
    const before = txid();
    fs.writeFileSync(`${path}-wal`, "");
    store.afterCreate(`${DATABASE}-wal`);
    assert.ok(fs.statSync(`${path}-wal`).size > WAL_HEADER_SIZE, "the WAL begins with a frame");
    const db = new Database(path);
    for (let commit = 0; commit < opening; commit++) db.exec("INSERT INTO t VALUES (randomblob(100))");
    await store.flushAll();
    db.close();
    for (const suffix of ["-wal", "-shm"]) store.afterUnlink(`${DATABASE}${suffix}`);
    assert.equal(txid() - before, opening);
  }
});

test("a database that was captured while its discovery waited is not compared again: what came after keeps a TXID for each commit", async (t) => {
  const { store, path, txid } = await begun(t);
  const db = new Database(path);
  t.after(() => void db.close());
  db.exec("PRAGMA journal_mode = wal; CREATE TABLE t(body)");
  store.afterCreate(DATABASE);
  store.afterLastClose(DATABASE);
  await store.primaryOf(DATABASE).captureFirst();
  const before = txid();
  assert.ok(before > 0);
  for (let commit = 0; commit < 3; commit++) db.exec("INSERT INTO t VALUES (randomblob(100))");
  await store.primaryOf(DATABASE).captureFirst();
  assert.equal(txid() - before, 3);
});
