/** Rollback journals that SQLite wrote: of writers killed in mid-transaction, kept ones, of several segments, and damaged ones. */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import fc from "fast-check";
import { readDatabaseHeader, lockPgno } from "../../../node/sqlite/database-header.ts";
import { freelistLeaves } from "../../../node/sqlite/freelist.ts";
import { decodeJournalHeader, JOURNAL_MAGIC, journalPages, originalPage, RECORDS_TO_END } from "../../../node/sqlite/journal.ts";
import { makeDatabase, openFile, PAGE_SIZES, pagesOf, readerOf, skipWriter, withFolder, Writer } from "./support.ts";

/** A transaction that is larger than the cache, touches old rows, reuses free pages and appends. */
const BIG = (rows: number, pageSize: number): string[] => [
  "BEGIN IMMEDIATE",
  `UPDATE t SET n=n+1, b=randomblob(${Math.floor(pageSize * 0.6)}) WHERE id%2=0`,
  `INSERT INTO t(n, b) SELECT 5, randomblob(${Math.floor(pageSize * 0.6)}) FROM t WHERE id<=${rows}`,
  "UPDATE t SET n=n+1 WHERE id%3=0",
];

/** Magics in the journal at sector boundaries: its segments. */
function countSegments(path: string, sectorSize: number): number {
  const bytes = readFileSync(path);
  let count = 0;
  for (let at = 0; at + 8 <= bytes.length; at += sectorSize) if (bytes.compare(JOURNAL_MAGIC, 0, 8, at, at + 8) === 0) count += 1;
  return count;
}

/** Every old page that now differs is in the journal or a free leaf; what the journal saved is what was there. */
function checkCandidates(before: Map<number, Buffer>, after: Map<number, Buffer>, journal: ReadonlySet<number>): number {
  const header = readDatabaseHeader(before.get(1)!)!;
  const leaves = freelistLeaves((pgno) => before.get(pgno)!, header.freelistTrunk, header.freelistCount, header.pageCount)!;
  let changed = 0;
  for (const [pgno, page] of before) {
    if (after.get(pgno)?.equals(page) === true) continue;
    changed += 1;
    assert.ok(journal.has(pgno) || leaves.has(pgno), `page ${pgno} changed and is no candidate`);
  }
  return changed;
}

function checkOriginals(path: string, before: Map<number, Buffer>, pages: ReadonlySet<number>): void {
  using file = openFile(path);
  const some = [...pages].filter((_, i) => i % 17 === 0 || i < 5);
  for (const pgno of some) assert.deepEqual(originalPage(file.read, file.size, pgno), before.get(pgno), `page ${pgno}`);
  assert.equal(originalPage(file.read, file.size, 0x7ffffff), undefined);
}

for (const writerName of ["better-sqlite3", "python3"] as const) {
  const skip = skipWriter(writerName);
  for (const pageSize of writerName === "python3" ? [4096] : PAGE_SIZES) {
    for (const synchronous of ["FULL", "OFF"]) {
      test(`a writer (${writerName}) killed with pages of ${pageSize} and synchronous=${synchronous} leaves a journal whose pages are all found`, { skip }, () => withFolder(async (folder) => {
        const path = join(folder, "a.db");
        const rows = 150;
        makeDatabase(path, pageSize, rows);
        const before = pagesOf(path, pageSize);
        const writer = new Writer(writerName, path);
        try {
          await writer.run("PRAGMA cache_size=10", `PRAGMA synchronous=${synchronous}`, ...BIG(rows, pageSize));
        } finally {
          await writer.kill();
        }
        using journal = openFile(`${path}-journal`);
        const first = Buffer.alloc(28);
        journal.read(first, 0);
        const header = decodeJournalHeader(first)!;
        assert.equal(header.pageSize, pageSize);
        assert.equal(header.initialPages, before.size);
        assert.equal(header.nRec === RECORDS_TO_END, synchronous === "OFF");
        const segments = countSegments(`${path}-journal`, header.sectorSize);
        assert.ok(synchronous === "OFF" ? segments === 1 : segments > 1, `${segments} segments`);

        const pages = journalPages(journal.read, journal.size)!;
        assert.ok([...pages].every((pgno) => pgno >= 1 && pgno <= before.size));
        const after = pagesOf(path, pageSize);
        assert.ok(checkCandidates(before, after, pages) > 50);
        checkOriginals(`${path}-journal`, before, pages);

        // Putting back what was found is what SQLite's own rollback does.
        const size = statSync(path).size;
        assert.ok(size >= before.size * pageSize);
        for (const pgno of pages) after.set(pgno, originalPage(journal.read, journal.size, pgno)!);
        const db = new Database(path);
        db.pragma("quick_check");
        db.close();
        const rolledBack = pagesOf(path, pageSize);
        assert.equal(rolledBack.size, before.size);
        for (const [pgno, page] of rolledBack) assert.ok(after.get(pgno)!.equals(page), `page ${pgno}`);
      }));
    }
  }
}

for (const synchronous of ["FULL", "NORMAL", "OFF"]) {
  test(`a journal kept by PERSIST with synchronous=${synchronous} is read after its commit with the header it had before`, () => withFolder(async (folder) => {
    const path = join(folder, "a.db"), pageSize = 1024;
    makeDatabase(path, pageSize, 300);
    const writer = new Writer("better-sqlite3", path);
    try {
      await writer.run("PRAGMA journal_mode=PERSIST", "PRAGMA cache_size=10", `PRAGMA synchronous=${synchronous}`);
      // The second transaction is smaller, so that a part of the first one's journal lies behind its own.
      for (const lines of [BIG(300, pageSize), ["BEGIN IMMEDIATE", "UPDATE t SET n=n+1, b=randomblob(600) WHERE id BETWEEN 20 AND 90", "UPDATE t SET n=n+1 WHERE id=200"]]) {
        const before = pagesOf(path, pageSize);
        await writer.run(...lines);
        const header = decodeJournalHeader(readFileSync(`${path}-journal`).subarray(0, 28))!;
        assert.equal(header.initialPages, before.size);
        await writer.run("COMMIT");
        using journal = openFile(`${path}-journal`);
        assert.ok(journal.size > 512);
        assert.equal(journalPages(journal.read, journal.size), undefined);
        const pages = journalPages(journal.read, journal.size, header)!;
        assert.ok(checkCandidates(before, pagesOf(path, pageSize), pages) > 30);
        for (const pgno of [...pages].slice(0, 20)) assert.deepEqual(originalPage(journal.read, journal.size, pgno, header), before.get(pgno));
      }
    } finally {
      await writer.kill();
    }
  }));
}

test("a transaction that only appends and one that fits the cache are found too", () => withFolder(async (folder) => {
  const path = join(folder, "a.db");
  makeDatabase(path, 4096, 20);
  const writer = new Writer("better-sqlite3", path);
  try {
    for (const sql of ["UPDATE t SET n=1 WHERE id=7", "INSERT INTO t(b) VALUES (zeroblob(400000))"]) {
      const before = pagesOf(path, 4096);
      await writer.run("PRAGMA journal_mode=TRUNCATE", "BEGIN IMMEDIATE", sql);
      // Not synced yet: no magic, so nobody can tell, and nothing has reached the database.
      using open = openFile(`${path}-journal`);
      assert.equal(journalPages(open.read, open.size), undefined);
      checkCandidates(before, pagesOf(path, 4096), new Set());
      await writer.run("COMMIT");
      using done = openFile(`${path}-journal`);
      assert.equal(done.size, 0);
      assert.equal(journalPages(done.read, 0), undefined);
    }
  } finally {
    await writer.kill();
  }
}));

/** A journal by hand: segments of records, each of one byte repeated. */
function build(pageSize: number, segments: readonly { nRec?: number; unsynced?: boolean; pgnos: readonly number[] }[], initialPages = 100): Buffer {
  const parts: Buffer[] = [];
  let size = 0;
  const push = (bytes: Buffer): void => {
    parts.push(bytes);
    size += bytes.length;
  };
  for (const segment of segments) {
    push(Buffer.alloc((512 - (size % 512)) % 512));
    const header = Buffer.alloc(512);
    if (segment.unsynced !== true) JOURNAL_MAGIC.copy(header);
    header.writeUInt32BE(segment.nRec ?? segment.pgnos.length, 8);
    header.writeUInt32BE(initialPages, 16);
    header.writeUInt32BE(512, 20);
    header.writeUInt32BE(pageSize, 24);
    push(header);
    for (const pgno of segment.pgnos) {
      const record = Buffer.alloc(pageSize + 8, pgno);
      record.writeUInt32BE(pgno, 0);
      record.writeUInt32BE(checksumOf(record.subarray(4, 4 + pageSize)), 4 + pageSize);
      push(record);
    }
  }
  return Buffer.concat(parts);
}

/** Of a record whose nonce is 0. */
function checksumOf(page: Buffer): number {
  let sum = 0;
  for (let at = page.length - 200; at > 0; at -= 200) sum += page[at]!;
  return sum;
}

const found = (journal: Buffer): number[] | undefined => {
  const pages = journalPages(readerOf(journal), journal.length);
  return pages && [...pages].sort((a, b) => a - b);
};

test("segments that are empty, not synced, or count to the end of the file are read as what they are", () => {
  assert.deepEqual(found(build(1024, [{ pgnos: [] }])), []);
  assert.deepEqual(found(build(1024, [{ pgnos: [] }, { pgnos: [3, 4] }])), [3, 4]);
  assert.deepEqual(found(build(1024, [{ pgnos: [9] }, { pgnos: [] }, { pgnos: [3, 4] }])), [3, 4, 9]);
  assert.deepEqual(found(build(1024, [{ pgnos: [9] }, { unsynced: true, nRec: 0, pgnos: [3, 4] }])), [3, 4, 9]);
  assert.deepEqual(found(build(1024, [{ nRec: RECORDS_TO_END, pgnos: [5, 6, 7] }])), [5, 6, 7]);
  assert.deepEqual(found(build(1024, [{ nRec: 0, pgnos: [5, 6, 7] }])), [5, 6, 7]);
  assert.deepEqual(found(build(1024, [{ pgnos: [5, 101, 6] }])), [5, 6], "pages beyond the old end were not saved by this transaction");
  assert.equal(found(build(1024, [{ nRec: 4, pgnos: [5, 6, 7] }])), undefined, "a journal that was cut off");
  const named = Buffer.concat([build(512, [{ nRec: RECORDS_TO_END, pgnos: [5, 6] }], 0x7fffffff), superJournalTail(512, "/tmp/a.db-mj0123AB9CD".padEnd(520, "9"))]);
  assert.deepEqual(found(named), [5, 6], "the lock page's number begins the name of a super-journal");
  const twice = build(512, [{ pgnos: [5] }, { pgnos: [5] }]);
  const first = twice.subarray(512 + 4, 512 + 4 + 512);
  first.fill(1);
  twice.writeUInt32BE(checksumOf(first), 512 + 4 + 512);
  assert.deepEqual(originalPage(readerOf(twice), twice.length, 5), Buffer.alloc(512, 1), "the first record counts");
  twice.writeUInt32BE(checksumOf(first) + 1, 512 + 4 + 512);
  assert.deepEqual(originalPage(readerOf(twice), twice.length, 5), Buffer.alloc(512, 5), "unless another transaction has left it");
});

/** What a transaction over several databases appends to each journal: the name of the file whose removal commits it. */
function superJournalTail(pageSize: number, name: string): Buffer {
  const bytes = Buffer.from(name);
  const tail = Buffer.alloc(4 + bytes.length + 16);
  tail.writeUInt32BE(lockPgno(pageSize), 0);
  bytes.copy(tail, 4);
  tail.writeUInt32BE(bytes.length, 4 + bytes.length);
  tail.writeUInt32BE(bytes.reduce((sum, byte) => sum + byte, 0), 8 + bytes.length);
  JOURNAL_MAGIC.copy(tail, 12 + bytes.length);
  return tail;
}

for (const synchronous of ["FULL", "OFF"]) {
  test(`the name of a super-journal at the end of a journal with synchronous=${synchronous} is no record`, () => withFolder(async (folder) => {
    // So long a path that the name fills a record, and by size alone would count as one.
    const pageSize = 512;
    const deep = join(folder, "d".repeat(240), "e".repeat(245 - folder.length));
    mkdirSync(deep, { recursive: true });
    const path = join(deep, "a.db");
    makeDatabase(path, pageSize, 100);
    const writer = new Writer("better-sqlite3", path);
    try {
      await writer.run("PRAGMA cache_size=10", `PRAGMA synchronous=${synchronous}`, ...BIG(100, pageSize));
    } finally {
      await writer.kill();
    }
    const journal = readFileSync(`${path}-journal`);
    const pages = found(journal)!;
    const tail = superJournalTail(pageSize, `${path}-mj0123AB9CD`);
    assert.ok(tail.length >= pageSize + 8);
    appendFileSync(`${path}-journal`, synchronous === "OFF" ? tail : Buffer.concat([Buffer.alloc((512 - (journal.length % 512)) % 512), tail]));
    assert.deepEqual(found(readFileSync(`${path}-journal`)), pages);

    // SQLite takes it for the same: that super-journal does not exist, so the transaction counts as committed and stays.
    const before = readFileSync(path);
    const db = new Database(path);
    db.prepare("SELECT count(*) FROM sqlite_schema").get();
    db.close();
    assert.equal(existsSync(`${path}-journal`), false);
    assert.ok(readFileSync(path).equals(before));
  }));
}

test("a damaged journal gives a set of pages or undefined, and always ends", () => {
  const journal = build(512, [{ pgnos: [1, 2, 3] }, { pgnos: [4, 5] }, { unsynced: true, nRec: 0, pgnos: [6] }]);
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 6 })), { minLength: 1, maxLength: 5 }), fc.nat(), (edits, cut) => {
    const copy = Buffer.from(journal.subarray(0, journal.length - (cut % 3 === 0 ? cut % journal.length : 0)));
    for (const [at, bytes] of edits) copy.set(bytes.subarray(0, copy.length - (at % copy.length)), at % copy.length);
    const pages = journalPages(readerOf(copy), copy.length);
    if (pages !== undefined) assert.ok(pages.size <= copy.length / 512);
    originalPage(readerOf(copy), copy.length, 4);
  }), { numRuns: 2000 });
  assert.equal(decodeJournalHeader(Buffer.alloc(28)), undefined);
  assert.equal(decodeJournalHeader(journal.subarray(0, 27)), undefined);
});
