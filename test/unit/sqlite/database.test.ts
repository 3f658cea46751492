/** Database header, freelist and lock bytes, against files that SQLite made. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import fc from "fast-check";
import { isDatabaseHeader, isPageSize, lockPgno, PENDING_BYTE, readDatabaseHeader } from "../../../node/sqlite/database-header.ts";
import { freelistLeaves } from "../../../node/sqlite/freelist.ts";
import * as locks from "../../../node/sqlite/lock-bytes.ts";
import { makeDatabase, PAGE_SIZES, pagesOf, withFolder } from "./support.ts";

for (const pageSize of PAGE_SIZES) {
  test(`the header of a database with pages of ${pageSize} says what SQLite says`, () => withFolder((folder) => {
    const path = join(folder, "a.db");
    makeDatabase(path, pageSize, 50);
    const db = new Database(path);
    db.exec("PRAGMA user_version=77; PRAGMA application_id=99");
    const pragma = (name: string): unknown => db.pragma(name, { simple: true });
    for (const mode of ["delete", "wal"] as const) {
      pragma(`journal_mode=${mode}`);
      pragma("wal_checkpoint(TRUNCATE)");
      const bytes = readFileSync(path);
      const header = readDatabaseHeader(bytes)!;
      assert.ok(isDatabaseHeader(bytes.subarray(0, 100)));
      assert.equal(header.pageSize, pragma("page_size"));
      assert.equal(header.pageCount, pragma("page_count"));
      assert.equal(header.pageCount, bytes.length / pageSize);
      assert.equal(header.freelistCount, pragma("freelist_count"));
      assert.equal(header.schemaCookie, pragma("schema_version"));
      assert.equal(header.userVersion, 77);
      assert.equal(header.applicationId, 99);
      assert.equal(header.changeCounter, header.versionValidFor);
      assert.deepEqual([header.writeVersion, header.readVersion], mode === "wal" ? [2, 2] : [1, 1]);
    }
    db.close();
  }));

  test(`the leaves of a freelist with pages of ${pageSize} are as many as SQLite counts, and free`, () => withFolder((folder) => {
    const path = join(folder, "a.db");
    makeDatabase(path, pageSize, pageSize > 2048 ? 300 : Math.max(300, pageSize / 2));
    const pages = pagesOf(path, pageSize);
    const { freelistTrunk, freelistCount, pageCount } = readDatabaseHeader(pages.get(1)!)!;
    const trunks: number[] = [];
    const leaves = freelistLeaves((pgno) => {
      trunks.push(pgno);
      return pages.get(pgno)!;
    }, freelistTrunk, freelistCount, pageCount)!;
    assert.ok(freelistCount >= 300 && (pageSize > 2048 || trunks.length > 1), `${freelistCount} free pages, ${trunks.length} trunks`);
    assert.equal(leaves.size + trunks.length, freelistCount);
    // Pages of the database are used or free, never both.
    const db = new Database(path);
    const used = new Set(db.prepare("SELECT pageno FROM dbstat").pluck().all() as number[]);
    db.close();
    assert.equal(used.size + freelistCount, pageCount);
    assert.ok([...leaves].every((pgno) => !used.has(pgno)));
  }));
}

test("a freelist that is damaged in any place gives undefined or a set of real pages, and always ends", () => withFolder((folder) => {
  const path = join(folder, "a.db");
  makeDatabase(path, 512, 400);
  const pages = pagesOf(path, 512);
  const { freelistTrunk, freelistCount, pageCount } = readDatabaseHeader(pages.get(1)!)!;
  const read = (pgno: number): Buffer => pages.get(pgno)!;
  assert.deepEqual(freelistLeaves(read, 0, 0, pageCount), new Set());
  assert.equal(freelistLeaves(read, freelistTrunk, freelistCount - 1, pageCount), undefined);
  assert.equal(freelistLeaves(read, freelistTrunk, freelistCount + 1, pageCount), undefined);
  assert.equal(freelistLeaves(read, freelistTrunk, freelistCount, freelistTrunk - 1), undefined);
  const loop = Buffer.from(read(freelistTrunk));
  loop.writeUInt32BE(freelistTrunk, 0);
  assert.equal(freelistLeaves(() => loop, freelistTrunk, freelistCount, pageCount), undefined);
  fc.assert(fc.property(fc.nat({ max: 127 }), fc.oneof(fc.nat({ max: 2000 }), fc.nat({ max: 0xffffffff })), (word, value) => {
    const leaves = freelistLeaves((pgno) => {
      assert.ok(pgno >= 2 && pgno <= pageCount);
      const page = Buffer.from(read(pgno));
      page.writeUInt32BE(value, word * 4);
      return page;
    }, freelistTrunk, freelistCount, pageCount);
    if (leaves !== undefined) assert.ok([...leaves].every((pgno) => pgno >= 2 && pgno <= pageCount));
  }), { numRuns: 500 });
}));

test("bytes that are no database header are none", () => {
  assert.equal(readDatabaseHeader(Buffer.alloc(0)), undefined);
  assert.equal(readDatabaseHeader(Buffer.alloc(4096)), undefined);
  assert.equal(isDatabaseHeader(Buffer.from("SQLite format 3\0".padEnd(100, "x"), "latin1")), false);
  fc.assert(fc.property(fc.uint8Array({ minLength: 84, maxLength: 84 }), (rest) => {
    const header = readDatabaseHeader(Buffer.concat([Buffer.from("SQLite format 3\0", "latin1"), rest]));
    if (header !== undefined) assert.ok(isPageSize(header.pageSize));
  }));
});

test("the lock page is the one that holds the pending byte", () => {
  for (const pageSize of PAGE_SIZES) {
    const pgno = lockPgno(pageSize);
    assert.ok((pgno - 1) * pageSize <= PENDING_BYTE && PENDING_BYTE < pgno * pageSize);
  }
  assert.equal(locks.PENDING_LOCK.start, PENDING_BYTE);
  assert.deepEqual([1, 0, 2, 511, 512, 1000, 4097, 131072].filter(isPageSize), [512]);
});

test("the lock bytes of the wal-index do not overlap and cover 120 to 128", () => {
  const { WAL_WRITE_LOCK, WAL_CKPT_LOCK, WAL_RECOVER_LOCK, WAL_READ_LOCK0, WAL_READ_LOCK1, WAL_READ_LOCK2, WAL_READ_LOCK3, WAL_READ_LOCK4, WAL_DMS_LOCK } = locks;
  const all = [WAL_WRITE_LOCK, WAL_CKPT_LOCK, WAL_RECOVER_LOCK, WAL_READ_LOCK0, WAL_READ_LOCK1, WAL_READ_LOCK2, WAL_READ_LOCK3, WAL_READ_LOCK4, WAL_DMS_LOCK];
  assert.deepEqual(all, Array.from({ length: 9 }, (_, i) => ({ start: 120 + i, length: 1 })));
  assert.deepEqual(locks.WAL_READ_LOCKS_1_TO_4, { start: 124, length: 4 });
});
