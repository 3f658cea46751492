/** WAL, its scanner and the wal-index, against files that SQLite made and is using. */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { walChecksum } from "../../../node/core/checksums.ts";
import { decodeFrameHeader, decodeWalHeader, encodeWalHeader, FRAME_HEADER_SIZE, frameOffset, framesIn, WAL_HEADER_SIZE, writeFrameHeader } from "../../../node/sqlite/wal.ts";
import {
  blockOfFrame, decodeWalIndexHeader, encodeWalIndexHeader, firstFrameOfBlock, hashOf, HASH_SLOT_COUNT, hashSlotOffset, lastFrameOfBlock, pgnoOffset, readFramePages,
} from "../../../node/sqlite/wal-index.ts";
import { scanWal } from "../../../node/sqlite/wal-scanner.ts";
import { openFile, PAGE_SIZES, readerOf, Writer, withFolder } from "./support.ts";

/** A WAL database with `commits` transactions of a few pages in its WAL. Keep it open. */
function openWal(path: string, pageSize: number, commits: number): Database.Database {
  const db = new Database(path);
  db.exec(`PRAGMA page_size=${pageSize}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB)`);
  db.pragma("wal_checkpoint(TRUNCATE)");
  const insert = db.prepare("INSERT INTO t(b) VALUES (zeroblob(?))");
  for (let i = 0; i < commits; i++) insert.run(100 + (i % 7) * pageSize);
  return db;
}

for (const pageSize of PAGE_SIZES) {
  test(`the scan of a WAL with pages of ${pageSize} finds what the wal-index says`, () => withFolder((folder) => {
    const path = join(folder, "a.db");
    const db = openWal(path, pageSize, 25);
    try {
      using wal = openFile(`${path}-wal`);
      using shm = openFile(`${path}-shm`);
      const shmBytes = readFileSync(`${path}-shm`);
      const index = decodeWalIndexHeader(shmBytes);
      const scan = scanWal(wal.read)!;
      assert.ok(index.valid && index.isInit && !index.bigEndChecksum);
      assert.equal(index.pageSize, pageSize);
      assert.equal(scan.header.pageSize, pageSize);
      assert.equal(scan.commits, 25);
      assert.equal(scan.mxFrame, index.mxFrame);
      assert.equal(scan.mxFrame, framesIn(wal.size, pageSize));
      assert.equal(scan.pageCount, index.nPage);
      assert.equal(scan.pageCount, db.pragma("page_count", { simple: true }));
      assert.deepEqual(scan.checksum, index.frameChecksum);
      assert.deepEqual([scan.header.salt1, scan.header.salt2], [index.salt1, index.salt2]);
      assert.deepEqual(scan.pages, readFramePages(shm.read, 1, index.mxFrame));
      assert.equal(index.nBackfill, 0);
      assert.equal(index.readMarks.length, 5);

      const walBytes = readFileSync(`${path}-wal`);
      assert.deepEqual(encodeWalHeader(scan.header), walBytes.subarray(0, WAL_HEADER_SIZE));
      assert.deepEqual(encodeWalIndexHeader(index), shmBytes.subarray(0, 48));
      const last = decodeFrameHeader(walBytes, frameOffset(scan.mxFrame, pageSize));
      assert.deepEqual(last, { pgno: scan.pages.at(-1), commit: scan.pageCount, salt1: index.salt1, salt2: index.salt2, checksum: scan.checksum });
      const again = Buffer.alloc(FRAME_HEADER_SIZE);
      writeFrameHeader(again, 0, last);
      assert.deepEqual(again, walBytes.subarray(frameOffset(scan.mxFrame, pageSize), frameOffset(scan.mxFrame, pageSize) + FRAME_HEADER_SIZE));

      // After a restart there is a new salt, and frames of the old WAL lie behind the new ones.
      db.pragma("wal_checkpoint(RESTART)");
      db.exec("INSERT INTO t(b) VALUES ('after')");
      const restarted = scanWal(wal.read)!;
      assert.equal(restarted.commits, 1);
      assert.ok(restarted.mxFrame < scan.mxFrame);
      assert.equal(restarted.header.salt1, (scan.header.salt1 + 1) >>> 0);
      assert.equal(restarted.mxFrame, decodeWalIndexHeader(readFileSync(`${path}-shm`)).mxFrame);
    } finally {
      db.close();
    }
  }));
}

test("a scan goes on where an earlier one ended, and stops where it is told to", () => withFolder((folder) => {
  const path = join(folder, "a.db");
  const db = openWal(path, 1024, 10);
  try {
    using wal = openFile(`${path}-wal`);
    const first = scanWal(wal.read)!;
    const none = scanWal(wal.read, { from: { frame: first.mxFrame, checksum: first.checksum } })!;
    assert.deepEqual([none.mxFrame, none.commits, none.pages.length, none.checksum], [first.mxFrame, 0, 0, first.checksum]);
    for (let i = 0; i < 30; i++) db.exec("INSERT INTO t(b) VALUES (zeroblob(5000))");
    const more = scanWal(wal.read, { from: { frame: first.mxFrame, checksum: first.checksum } })!;
    const whole = scanWal(wal.read)!;
    assert.equal(more.commits, 30);
    assert.deepEqual([more.mxFrame, more.pageCount, more.checksum], [whole.mxFrame, whole.pageCount, whole.checksum]);
    assert.deepEqual(more.pages, whole.pages.slice(first.mxFrame));
    assert.deepEqual(scanWal(wal.read, { to: first.mxFrame + 1 })!.pages, first.pages);
    const wrong = scanWal(wal.read, { from: { frame: first.mxFrame, checksum: { s0: 1, s1: 2 } } })!;
    assert.deepEqual([wrong.mxFrame, wrong.commits], [first.mxFrame, 0]);
  } finally {
    db.close();
  }
}));

test("a torn tail, garbage, a flipped bit and a transaction without its end stop the scan at the last commit before", () => withFolder((folder) => {
  const path = join(folder, "a.db");
  const db = openWal(path, 512, 12);
  db.pragma("cache_size=5");
  try {
    const whole = scanWal(readerOf(readFileSync(`${path}-wal`)))!;
    // A transaction larger than the cache writes frames before it commits.
    db.exec("BEGIN; INSERT INTO t(b) VALUES (zeroblob(100000))");
    const bytes = readFileSync(`${path}-wal`);
    assert.ok(framesIn(bytes.length, 512) > whole.mxFrame + 50);
    assert.deepEqual(scanWal(readerOf(bytes)), whole);
    db.exec("ROLLBACK");

    const commits: number[] = [];
    for (let frame = 1; frame <= whole.mxFrame; frame++) if (decodeFrameHeader(bytes, frameOffset(frame, 512)).commit !== 0) commits.push(frame);
    const commitAt = (frame: number): number => commits.findLast((commit) => commit <= frame) ?? 0;
    for (let size = WAL_HEADER_SIZE; size < frameOffset(whole.mxFrame + 1, 512); size += 97) {
      assert.equal(scanWal(readerOf(bytes.subarray(0, size)))!.mxFrame, commitAt(framesIn(size, 512)), `cut to ${size}`);
    }
    for (let at = WAL_HEADER_SIZE; at < frameOffset(whole.mxFrame + 1, 512); at += 61) {
      const copy = Buffer.from(bytes);
      copy[at]! ^= 0x10;
      assert.equal(scanWal(readerOf(copy))!.mxFrame, commitAt(framesIn(at, 512)), `bit at ${at}`);
    }
    for (let at = 0; at < WAL_HEADER_SIZE; at++) {
      const copy = Buffer.from(bytes);
      copy[at]! ^= 0x10;
      assert.equal(scanWal(readerOf(copy)), undefined, `header byte ${at}`);
    }
    assert.equal(scanWal(readerOf(Buffer.alloc(0))), undefined);
    assert.equal(scanWal(readerOf(Buffer.alloc(100_000))), undefined);
    assert.equal(decodeWalHeader(bytes.subarray(0, 31)), undefined);
  } finally {
    db.close();
  }
}));

test("a WAL with big-endian checksums is read as SQLite reads it", () => withFolder((folder) => {
  const path = join(folder, "a.db"), copy = join(folder, "b.db");
  const db = openWal(path, 1024, 9);
  copyFileSync(path, copy);
  const bytes = readFileSync(`${path}-wal`);
  db.close();
  const whole = scanWal(readerOf(bytes))!;
  const running = { s0: 0, s1: 0 };
  const put = (at: number): void => {
    bytes.writeUInt32BE(running.s0, at);
    bytes.writeUInt32BE(running.s1, at + 4);
  };
  bytes.writeUInt32BE(0x377f0683, 0);
  walChecksum(bytes.subarray(0, 24), running, true);
  put(24);
  for (let frame = 1; frame <= whole.mxFrame; frame++) {
    const at = frameOffset(frame, 1024);
    walChecksum(bytes.subarray(at, at + 8), running, true);
    walChecksum(bytes.subarray(at + 24, at + 24 + 1024), running, true);
    put(at + 16);
  }
  const scan = scanWal(readerOf(bytes))!;
  assert.ok(scan.header.bigEndian);
  assert.deepEqual([scan.mxFrame, scan.commits, scan.pages], [whole.mxFrame, 9, whole.pages]);
  writeFileSync(`${copy}-wal`, bytes);
  const read = new Database(copy);
  assert.equal(read.prepare("SELECT count(*) FROM t").pluck().get(), 9);
  read.close();
}));

test("every frame of a wal-index of three blocks is where pgnoOffset() and the hash say", () => withFolder((folder) => {
  const path = join(folder, "a.db");
  const db = openWal(path, 512, 1);
  try {
    for (let i = 0; i < 10; i++) db.exec("INSERT INTO t(b) VALUES (zeroblob(500000))");
    const shm = readFileSync(`${path}-shm`);
    const { mxFrame, valid } = decodeWalIndexHeader(shm);
    assert.ok(valid && blockOfFrame(mxFrame) === 2);
    using wal = openFile(`${path}-wal`);
    const scan = scanWal(wal.read)!;
    assert.equal(scan.mxFrame, mxFrame);
    assert.deepEqual(readFramePages(readerOf(shm), 1, mxFrame), scan.pages);
    assert.deepEqual(readFramePages(readerOf(shm), 4000, 4100), scan.pages.slice(3999, 4100));
    assert.equal(readFramePages(readerOf(shm), 5, 4).length, 0);
    for (let frame = 1; frame <= mxFrame; frame++) {
      const pgno = scan.pages[frame - 1]!;
      assert.equal(shm.readUInt32LE(pgnoOffset(frame)), pgno);
      const block = blockOfFrame(frame), inBlock = frame - firstFrameOfBlock(block) + 1;
      let slot = hashOf(pgno);
      for (; shm.readUInt16LE(hashSlotOffset(block, slot)) !== inBlock; slot = (slot + 1) % HASH_SLOT_COUNT) {
        assert.notEqual(shm.readUInt16LE(hashSlotOffset(block, slot)), 0, `frame ${frame} is not in the hash table`);
      }
    }
  } finally {
    db.close();
  }
}));

test("blocks of the wal-index join without a gap", () => {
  assert.deepEqual([1, 4062, 4063, 8158, 8159].map(blockOfFrame), [0, 0, 1, 1, 2]);
  assert.deepEqual([0, 1, 2].map(firstFrameOfBlock), [1, 4063, 8159]);
  assert.deepEqual([0, 1, 2].map(lastFrameOfBlock), [4062, 8158, 12254]);
  assert.deepEqual([1, 2, 4062, 4063, 8159].map(pgnoOffset), [136, 140, 16380, 32768, 65536]);
  assert.equal(hashSlotOffset(1, 3), 32768 + 16384 + 6);
  assert.equal(hashOf(0xfffffffe), Number((0xfffffffen * 383n) & 8191n));
});

test("a wal-index header whose copies differ, or that is damaged, is not valid", () => withFolder(async (folder) => {
  const path = join(folder, "a.db");
  const writer = new Writer("better-sqlite3", path);
  try {
    await writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(a)");
    const shm = readFileSync(`${path}-shm`).subarray(0, 136);
    const before = decodeWalIndexHeader(shm);
    assert.ok(before.valid);
    await writer.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)");
    assert.equal(decodeWalIndexHeader(readFileSync(`${path}-shm`)).iChange, before.iChange + 2);
    for (let at = 0; at < 96; at++) {
      const copy = Buffer.from(shm);
      copy[at]! ^= 1;
      assert.equal(decodeWalIndexHeader(copy).valid, false, `byte ${at}`);
    }
    assert.equal(decodeWalIndexHeader(Buffer.alloc(136)).valid, false);
    for (const pageSize of PAGE_SIZES) {
      const header = encodeWalIndexHeader({ ...before, pageSize });
      const decoded = decodeWalIndexHeader(Buffer.concat([header, header, Buffer.alloc(40)]));
      assert.ok(decoded.valid);
      assert.equal(decoded.pageSize, pageSize);
    }
  } finally {
    await writer.kill();
  }
}));
