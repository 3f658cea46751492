/**
 * A held commit (durability sync) for which the log has no room once it is written: real stores and the real stream between them, in this process.
 *
 * There is no mount to hold the commit: what it would hand over is taken from the same commit on a copy of the files, made by SQLite.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import type { WalCommit } from "../../node/core/mount-hooks.ts";
import { setFaultHook } from "../../node/io/files.ts";
import { decodeWalHeader, frameOffset } from "../../node/sqlite/wal.ts";
import type { Store } from "../../node/store/store.ts";
import { isAppError } from "../../proto/errors.ts";
import { until } from "../support/cluster.ts";
import { checksumOf, contentOf, DATABASE, openStore } from "./node-store.ts";
import { follow, serve } from "./stream.ts";

const positionOf = (store: Store) => store.databases.get(DATABASE)?.database.position;

/** What a mount would ask about when `sql` is committed to the database of this folder. Its WAL is not empty. */
function heldCommit(root: string, scratch: string, sql: string): WalCommit {
  fs.mkdirSync(scratch);
  for (const suffix of ["", "-wal"]) fs.copyFileSync(join(root, "files", `${DATABASE}${suffix}`), join(scratch, `${DATABASE}${suffix}`));
  const before = fs.statSync(join(scratch, `${DATABASE}-wal`)).size;
  const db = new Database(join(scratch, DATABASE));
  let wal: Buffer;
  try {
    db.exec(sql);
    wal = fs.readFileSync(join(scratch, `${DATABASE}-wal`));
  } finally {
    db.close();
  }
  const { pageSize, salt1, salt2 } = decodeWalHeader(wal)!;
  const frames = (size: number): number => (size - frameOffset(1, pageSize)) / (frameOffset(2, pageSize) - frameOffset(1, pageSize));
  const [from, to] = [frames(before) + 1, frames(wal.length)];
  assert.ok(from > 1 && to >= from && Number.isInteger(from) && Number.isInteger(to), `frames ${from} to ${to}`);
  const last = frameOffset(to, pageSize);
  return {
    offset: before, data: wal.subarray(before), from, to, pageSize, pageCount: wal.readUInt32BE(last + 4), commits: 1, salt1, salt2, checksum: { s0: wal.readUInt32BE(last + 16), s1: wal.readUInt32BE(last + 20) },
  };
}

test("a held commit that the log has no room for is told behind no position before it: whoever asks is refused until there is room, and then it has its own", { timeout: 240_000 }, async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-held-"));
  const [root, other] = [join(folder, "a"), join(folder, "b")];
  for (const path of [root, other]) fs.mkdirSync(path);
  const { store } = openStore(root, { sync: () => ({ replicas: 1, timeoutMs: 200_000 }) });
  await store.becomePrimary(1, { live: false });
  const served = await serve(store, "a", () => 1);
  store.quorum = served.server.quorum;
  const { store: follower } = openStore(other, { name: "b" });
  await follower.becomeFollower({ live: false });
  const client = follow(follower, "b", served.port);
  const path = join(root, "files", DATABASE);
  // It keeps the WAL.
  const keeper = new Database(path, { timeout: 10_000 });
  try {
    keeper.exec("PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
    store.afterCreate(DATABASE);
    store.afterLastClose(DATABASE);
    const primary = store.primaryOf(DATABASE);
    await primary.diff("a database that appeared");
    keeper.exec("INSERT INTO t(body) VALUES ('first')");
    await store.flushAll();
    await until("the follower to be in step", () => positionOf(follower)?.checksum === positionOf(store)!.checksum);
    const before = positionOf(store)!;

    const sql = "INSERT INTO t(body) VALUES ('acknowledged')";
    const commit = heldCommit(root, join(folder, "copy"), sql);
    // As fresh as the connection to the copy: an older one counts changes in page 1 otherwise.
    const writer = new Database(path, { timeout: 10_000 });
    let isFull = false;
    let refused = 0;
    setFaultHook((label, fd) => {
      if (!isFull || label !== "segment:write" || !fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(root)) return;
      refused++;
      throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    });
    try {
      await store.walCommit(`${DATABASE}-wal`, commit, () => {
        writer.exec(sql);
        isFull = true;
      });
      assert.ok(fs.readFileSync(`${path}-wal`).subarray(commit.offset).equals(commit.data), "what was held is what was committed");
      const isFullDisk = (error: unknown): boolean => isAppError(error, "STORAGE_FULL");
      await assert.rejects(primary.flush(), isFullDisk);
      await assert.rejects(Promise.resolve(store.readVirtual(`${DATABASE}-pos`)), isFullDisk);
      await assert.rejects(store.flushAll([DATABASE]), isFullDisk);
      assert.ok(refused > 0);
      assert.deepEqual(positionOf(store), before);
      isFull = false;
      await primary.flush();
    } finally {
      setFaultHook(undefined);
      writer.close();
    }
    const after = positionOf(store)!;
    assert.equal(after.txid, before.txid + 1);
    assert.equal(after.checksum, checksumOf(contentOf(root, join(folder, "scratch"))!));
    await until("the follower to have it", () => positionOf(follower)?.checksum === after.checksum);
    assert.deepEqual(positionOf(follower), after);
  } finally {
    client.close();
    served.close();
    keeper.close();
    await store.close({ clean: false });
    await follower.close({ clean: false });
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
