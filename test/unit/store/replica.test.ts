/** A replica on plain files: what others have written to them is not forgotten over the replica's own writes. What comes in the middle of such a write is not shown here. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { ARENA } from "../../../node/core/checksums.ts";
import { databasePaths } from "../../../node/store/names.ts";
import { Replica } from "../../../node/store/replica.ts";

const PAGE = 4096;

/** Writes past SQLite, and moves the time of the file for sure. */
function writeRaw(path: string, at: number): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, "DAMAGED!", at);
  fs.closeSync(fd);
  fs.utimesSync(path, new Date(), new Date(Date.now() + 5_000));
}

test("a raw write is known until it was looked for, whatever the replica writes meanwhile", async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-replica-"));
  try {
    const paths = databasePaths(folder, "app.db");
    fs.mkdirSync(join(paths.database, ".."), { recursive: true });
    const db = new Database(paths.database);
    db.exec("PRAGMA journal_mode = wal; CREATE TABLE t(body BLOB); INSERT INTO t VALUES (randomblob(50000))");
    db.close();
    const pageCount = fs.statSync(paths.database).size / PAGE;
    const replica = Replica.open(paths, { pageSize: PAGE, live: false });
    replica.setLockFd(fs.openSync(paths.shm, "r+"));
    const append = (): void => {
      const steps = replica.appendSteps({ count: 1, pgno: () => 3, copy: (_, offset) => void ARENA.fill(7, offset, offset + PAGE) }, pageCount);
      while (steps.next().done !== true);
    };
    append();
    assert.equal(await replica.checkpoint(), true);
    assert.equal(replica.wasTouched(), false);

    writeRaw(paths.database, 5 * PAGE + 100);
    append();
    assert.equal(await replica.checkpoint(), true);
    assert.ok(replica.checkpoints >= 2);
    assert.equal(replica.wasTouched(), true, "its own checkpoint has written the file since");
    assert.equal(replica.walWasTouched(), false);
    replica.acceptTouch();
    assert.equal(replica.wasTouched(), false);

    append();
    writeRaw(paths.wal, 40);
    append();
    assert.equal(replica.walWasTouched(), true);
    assert.equal(replica.wasTouched(), true);
    replica.acceptTouch();
    assert.equal(replica.walWasTouched(), false);
    replica.close();
    await Promise.all(Replica.closing);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});
