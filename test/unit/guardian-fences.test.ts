/**
 * Fences against real SQLite connections, on an ordinary folder: OFD locks mean the same there. What this cannot show is that a mount is never
 * accessed synchronously, and that fences outlive an engine (test/cluster).
 */
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { Fences } from "../../node/guardian/fences.ts";

function open(t: TestContext, folder: string, name = "app.db"): Database.Database {
  const database = new Database(join(folder, name), { timeout: 0 });
  t.after(() => database.close());
  database.pragma("journal_mode = wal");
  database.exec("create table if not exists t (x); insert into t values (1)");
  return database;
}

function folderFor(t: TestContext): { folder: string; fences: Fences } {
  const folder = mkdtempSync(join(tmpdir(), "fences-"));
  const fences = new Fences((path) => join(folder, path));
  t.after(async () => {
    await fences.close();
    rmSync(folder, { recursive: true });
  });
  return { folder, fences };
}

const isBusy = (error: unknown): boolean => (error as { code?: string }).code === "SQLITE_BUSY";

test("a fence refuses writers and checkpoints, and leaves readers alone", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  await fences.set("app.db", "follow");
  assert.throws(() => database.exec("insert into t values (2)"), isBusy);
  assert.equal((database.pragma("wal_checkpoint") as { busy: number }[])[0]!.busy, 1);
  assert.equal(database.prepare("select count(*) from t").pluck().get(), 1);
  assert.throws(() => database.pragma("journal_mode = delete"), isBusy);
  await fences.set("app.db", "off");
  database.exec("insert into t values (2)");
});

test("a fence waits for a writer to finish", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  database.exec("begin immediate; insert into t values (2)");
  let held = false;
  const taken = fences.set("app.db", "follow").then(() => (held = true));
  await sleep(50);
  assert.equal(held, false);
  database.exec("commit");
  await taken;
  assert.throws(() => database.exec("insert into t values (3)"), isBusy);
});

test("giving a fence up ends the wait for it, with an error for who waited", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  database.exec("begin immediate");
  const taken = fences.set("app.db", "follow");
  const refused = assert.rejects(taken, /given up/);
  await fences.set("app.db", "off");
  await refused;
  database.exec("insert into t values (2); commit; insert into t values (3)");
});

test("asking again for a fence that holds changes nothing; for a database that was replaced it takes the new one", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  await fences.set("app.db", "follow");
  await fences.set("app.db", "follow");
  assert.deepEqual(fences.held, ["app.db"]);
  const other = open(t, folder, "new.db");
  for (const suffix of ["", "-wal", "-shm"]) renameSync(join(folder, `new.db${suffix}`), join(folder, `app.db${suffix}`));
  other.exec("insert into t values (5)");
  await fences.set("app.db", "follow");
  assert.throws(() => other.exec("insert into t values (6)"), isBusy);
  database.exec("insert into t values (7)");
});

test("a fence on a database that does not exist is refused and leaves nothing behind", async (t) => {
  const { fences } = folderFor(t);
  await assert.rejects(fences.set("none.db", "follow"), { code: "ENOENT" });
  assert.deepEqual(fences.held, []);
});

test("a ready fence holds nothing, is raised without opening anything, and lets a waiting writer through when it goes back", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  await fences.set("app.db", "ready");
  database.exec("insert into t values (2)");
  await fences.raise();
  assert.deepEqual(fences.held, ["app.db"]);
  assert.throws(() => database.exec("insert into t values (3)"), isBusy);
  // A checkpoint is not a write: the primary's captures go on.
  assert.equal((database.pragma("wal_checkpoint") as { busy: number }[])[0]!.busy, 0);
  await fences.set("app.db", "ready");
  database.exec("insert into t values (3)");
  assert.deepEqual(fences.held, []);
});

test("a raised fence keeps writers of a rollback-mode database out, readers in", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  database.pragma("journal_mode = delete");
  await fences.set("app.db", "ready");
  await fences.raise();
  assert.throws(() => database.exec("insert into t values (3)"), isBusy);
  assert.equal(database.prepare("select count(*) from t").pluck().get(), 1);
  await fences.set("app.db", "ready");
  database.exec("insert into t values (3)");
});

test("exclusive waits for the last reader of a rollback-mode database and gives up when told to", async (t) => {
  const { folder, fences } = folderFor(t);
  const database = open(t, folder);
  database.pragma("journal_mode = delete");
  const rows = database.prepare("select x from t").iterate();
  rows.next();
  await fences.set("app.db", "write");
  const alone = fences.set("app.db", "exclusive");
  const refused = assert.rejects(alone, /given up/);
  await fences.set("app.db", "write");
  await refused;
  assert.throws(() => open(t, folder, "app.db").exec("insert into t values (9)"), isBusy);
  rows.return!();
  await fences.set("app.db", "exclusive");
  assert.throws(() => database.prepare("select count(*) from t").get(), isBusy);
  await fences.set("app.db", "ready");
  assert.equal(database.prepare("select count(*) from t").pluck().get(), 1);
});
