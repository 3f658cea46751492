/**
 * A disk that becomes full in the middle of `sluice repair --from peer`: real stores and the real stream in this process; which call of the disk
 * fails is chosen by its label.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import Database from "better-sqlite3";
import { setFaultHook } from "../../node/io/files.ts";
import type { ReplicationClient } from "../../node/replication/client.ts";
import { diskName, repairBytes, whyNoRoom } from "../../node/store/room.ts";
import type { Store } from "../../node/store/store.ts";
import { until } from "../support/cluster.ts";
import { DATABASE, checksumOf, contentOf, openStore } from "./node-store.ts";
import { follow, serve, type Served } from "./stream.ts";

let folder: string;
let primary: Store;
let served: Served;
let db: Database.Database;
let client: ReplicationClient | undefined;

before(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "repair-full-"));
  ({ store: primary } = openStore(join(folder, "a")));
  await primary.becomePrimary(1, { live: false });
  db = new Database(join(folder, "a", "files", DATABASE));
  db.exec("PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
  primary.afterCreate(DATABASE);
  primary.afterLastClose(DATABASE);
  for (let n = 0; n < 20; n++) {
    db.exec("INSERT INTO t(body) VALUES (randomblob(9000))");
    await primary.flushAll();
  }
  served = await serve(primary, "a", () => 1);
});
afterEach(() => {
  setFaultHook(undefined);
  client?.close();
});
after(async () => {
  served.close();
  await primary.close({ clean: true });
  db.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

const databaseOf = (store: Store) => store.databases.get(DATABASE)!.database;
const content = (root: string): bigint => checksumOf(contentOf(root, join(folder, "scratch"))!);

async function follower(name: string): Promise<{ root: string; store: Store; said: string[]; client: ReplicationClient }> {
  const root = join(folder, name);
  const { store } = openStore(root, { name: "b" });
  await store.becomeFollower({ live: false });
  const said: string[] = [];
  const following = follow(store, "b", served.port, said);
  client = following;
  await until("the follower to have everything", () => following.ready && following.caughtUp(DATABASE));
  return { root, store, said, client: following };
}

const copies = (root: string): string[] => (fs.existsSync(join(root, "aside")) ? fs.readdirSync(join(root, "aside")).filter((name) => /app\.db(?:-wal)?$/.test(name)) : []);

for (const [label, where, begun] of [
  ["snapshot:pages", "while the database comes", false], ["aside:copy", "while the old files are copied", false], ["replica:wal", "while the new pages are written", true],
] as const) {
  test(`a disk that fills up ${where} ends the command with the reason, and the repair is finished when there is space`, { timeout: 120_000 }, async () => {
    const { root, store, client: following } = await follower(label.replace(":", "-"));
    let full = true;
    let failed = 0;
    setFaultHook((called, path) => {
      if (!full || called !== label || (typeof path === "string" && path.endsWith("-wal"))) return;
      failed++;
      throw Object.assign(new Error("no space left"), { code: "ENOSPC" });
    });
    await assert.rejects(following.refetch(DATABASE), (error: Error & { code?: string }) => {
      assert.equal(error.code, "REPAIR_NO_SPACE", error.stack);
      assert.match(error.message, new RegExp(`^Cannot repair "app\\.db" from a peer: \\S+ at \\S+ is full \\(Cannot write ${label} \\(/\\S+\\): no space left on the device\\); what has come so far is kept$`));
      return true;
    });
    assert.ok(failed > 0);
    assert.equal(databaseOf(store).pendingInstall !== undefined, begun);
    full = false;
    await following.refetch(DATABASE);
    assert.deepEqual(databaseOf(store).position, databaseOf(primary).position);
    assert.equal(content(root), databaseOf(primary).position.checksum);
    const kept = copies(root);
    assert.equal(kept.length, 2, `a copy of each old file, however often it was tried: ${kept.join()}`);
    db.exec("INSERT INTO t(body) VALUES ('after the repair')");
    await primary.flushAll();
    await until("the follower to go on", () => following.caughtUp(DATABASE) && databaseOf(store).position.txid === databaseOf(primary).position.txid);
    await store.close({ clean: true });
  });
}

test("what a repair needs is the copies, the database as it comes, and its way through the WAL where programs have it open", () => {
  const sizes = { replaced: 130, whole: 120, here: 20, wal: 30, open: true };
  assert.equal(repairBytes(sizes, false), 130 + 100 + 90);
  assert.equal(repairBytes(sizes, true), 100 + 90);
  assert.equal(repairBytes({ ...sizes, open: false }, true), 100);
  assert.equal(repairBytes({ ...sizes, here: 500, wal: 500 }, true), 0);
});

test("a disk is named as df does it, and too little space never reads as enough", () => {
  const info = ["22 1 8:1 / / rw - ext4 /dev/sda1 rw", "30 22 7:0 / /srv/my\\040data rw shared:1 - ext4 /dev/loop0 rw", "31 22 7:1 / /srv/my rw - xfs /dev/loop1 rw", ""].join("\n");
  assert.equal(diskName(info, "/srv/my data/log/app.db"), "/dev/loop0 at /srv/my data");
  assert.equal(diskName(info, "/srv/my/log"), "/dev/loop1 at /srv/my");
  assert.equal(diskName(info, "/srv/mystery"), "/dev/sda1 at /");
  const disk = { name: "d", freeBytes: 1_048_575, sharesBlocks: false };
  assert.equal(whyNoRoom(disk, 1_048_576), "d has 0.9 MiB free and this needs 1.0 MiB");
  assert.equal(whyNoRoom(disk, 1_048_575), undefined);
});
