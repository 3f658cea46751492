/** LTX encoder and decoder: round trips at every page size, every rule broken once, fuzz. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ARENA, CHECKSUM_FLAG, combine, pageChecksumAt } from "../../../node/core/checksums.ts";
import { decodeLtx, decodeLtxFile, LtxDecoder } from "../../../node/ltx/decoder.ts";
import { CHUNK_SIZE, LtxEncoder } from "../../../node/ltx/encoder.ts";
import { encodeLtxHeader, LTX_HEADER_SIZE, ltxHeaderFault, readLtxHeader } from "../../../node/ltx/header.ts";
import type { LtxHeader } from "../../../node/ltx/header.ts";
import { ltxFileName, parseLtxFileName } from "../../../node/ltx/file-name.ts";
import { lockPgno } from "../../../node/sqlite/database-header.ts";
import { isAppError } from "../../../proto/errors.ts";
import { encodeFile, headerOf, PAGE_SIZES, pageOf, snapshotPages } from "./support.ts";

function decodePages(file: Buffer): Map<number, Buffer> {
  const pages = new Map<number, Buffer>();
  const { pageCount } = decodeLtx(file, (pgno, page, offset) => {
    assert.deepEqual(page, ARENA.subarray(offset, offset + page.length));
    pages.set(pgno, Buffer.from(page));
  });
  assert.equal(pageCount, pages.size);
  return pages;
}

const corrupt = (reason: RegExp) => (error: unknown): boolean => isAppError(error, "CORRUPT_FILE") && reason.test(error.message);

for (const pageSize of PAGE_SIZES) {
  test(`a transaction and a snapshot with pages of ${pageSize} come back as they were, compressed or not`, () => {
    for (const compress of [true, false]) {
      for (const header of [headerOf({ pageSize, commit: 900 }), headerOf({ pageSize, minTxid: 1, maxTxid: 4, commit: 23 })]) {
        const pages = header.minTxid === 1 ? snapshotPages(23, pageSize) : new Map([1, 4, 5, 17, 899, 900].map((pgno) => [pgno, pageOf(pgno, pageSize)]));
        const file = encodeFile(header, pages, { compress });
        assert.deepEqual(decodePages(file), pages);
        const { header: decoded, trailer } = decodeLtx(file);
        assert.deepEqual(decoded, header);
        assert.equal(trailer.fileChecksum, file.readBigUInt64BE(file.length - 8));
        if (compress) assert.ok(file.length < pages.size * pageSize * 0.75 + 400);
      }
    }
  });
}

test("a file of many chunks is handed out in order, decodes in steps, and needs no more than its window", () => {
  const header = headerOf({ commit: 5000 });
  const chunks: Buffer[] = [];
  const encoder = new LtxEncoder((chunk) => chunks.push(chunk), header);
  for (let pgno = 1; pgno <= 1000; pgno++) encoder.page(pgno, pageOf(pgno, 4096));
  encoder.finish(CHECKSUM_FLAG | 5n);
  const file = Buffer.concat(chunks);
  assert.ok(chunks.length > 5 && chunks.every((chunk) => chunk.length <= CHUNK_SIZE));
  assert.equal(encoder.size, file.length);
  assert.equal(encoder.pageCount, 1000);

  let largest = 0;
  const read = (buffer: Buffer, offset: number): number => {
    largest = Math.max(largest, buffer.length);
    return file.copy(buffer, 0, offset);
  };
  const seen: number[] = [];
  const onPage = (pgno: number, page: Buffer): void => {
    assert.ok(page.equals(pageOf(pgno, 4096)));
    seen.push(pgno);
  };
  const decoder = new LtxDecoder(read, file.length, "steps");
  let steps = 0;
  for (; decoder.step(70, onPage) === undefined; steps++) assert.equal(seen.length, 70 * (steps + 1));
  assert.equal(steps, 14);
  assert.deepEqual(seen, Array.from({ length: 1000 }, (_, i) => i + 1));
  assert.ok(largest <= 256 * 1024);
  assert.deepEqual(decodeLtxFile(read, file.length).trailer, encoder.trailer);
});

test("an encoder in a decoder's callback takes the page where it lies", () => {
  const pages = snapshotPages(50, 1024);
  const file = encodeFile(headerOf({ pageSize: 1024, minTxid: 1, commit: 50 }), pages);
  const chunks: Buffer[] = [];
  const encoder = new LtxEncoder((chunk) => chunks.push(chunk), headerOf({ pageSize: 1024, commit: 50 }));
  const { trailer } = decodeLtx(file, (pgno, _page, offset) => encoder.pageAt(pgno, offset));
  encoder.finish(trailer.postApplyChecksum);
  assert.deepEqual(decodePages(Buffer.concat(chunks)), pages);
  assert.throws(() => decodeLtx(file, () => decodeLtx(file)), /while another/);
  decodeLtx(file);
});

test("two encoders at work in turn do not disturb each other", () => {
  const chunks: Buffer[][] = [[], []];
  const encoders = chunks.map((list) => new LtxEncoder((chunk) => list.push(chunk), headerOf()));
  for (let pgno = 1; pgno <= 10; pgno++) encoders.forEach((encoder, i) => encoder.page(pgno, pageOf(pgno, 4096, i)));
  encoders.forEach((encoder) => encoder.finish(CHECKSUM_FLAG));
  chunks.forEach((list, i) => assert.ok([...decodePages(Buffer.concat(list))].every(([pgno, page]) => page.equals(pageOf(pgno, 4096, i)))));
});

test("a file without pages, a deleted database, and untracked checksums are valid", () => {
  assert.equal(decodePages(encodeFile(headerOf(), new Map(), { postApply: CHECKSUM_FLAG | 77n })).size, 0);
  assert.equal(decodePages(encodeFile(headerOf({ commit: 0 }), new Map())).size, 0);
  assert.equal(decodePages(encodeFile(headerOf({ commit: 0, minTxid: 1, maxTxid: 9 }), new Map())).size, 0);
  assert.equal(decodePages(encodeFile(headerOf({ flags: 2, preApplyChecksum: 0n }), new Map([[3, pageOf(3, 4096)]]), { postApply: 0n })).size, 1);
});

test("the lock page is left out of a snapshot of more than 1 GiB", () => {
  const pageSize = 65536, lockPage = lockPgno(pageSize), commit = lockPage + 1;
  assert.equal(lockPage, 16385);
  let size = 0;
  const file: Buffer[] = [];
  const encoder = new LtxEncoder((chunk) => {
    size += chunk.length;
    file.push(chunk);
  }, headerOf({ pageSize, minTxid: 1, commit }));
  // Page checksums of zero pages differ by page number only; the decoder computes them, and the encoder is told the right one.
  ARENA.fill(0, 0, pageSize);
  let checksum = CHECKSUM_FLAG;
  for (let pgno = 1; pgno <= commit; pgno++) {
    if (pgno === lockPage) continue;
    encoder.pageAt(pgno, 0);
    checksum = combine(checksum, pageChecksumAt(pgno, 0, pageSize));
  }
  encoder.finish(checksum);
  const pgnos: number[] = [];
  decodeLtx(Buffer.concat(file, size), (pgno) => pgnos.push(pgno));
  assert.equal(pgnos.length, commit - 1);
  assert.ok(!pgnos.includes(lockPage) && pgnos.at(-1) === commit);
  // The database may also end with the lock page.
  const short = new LtxEncoder(() => {}, headerOf({ pageSize, minTxid: 1, commit: lockPage }));
  for (let pgno = 1; pgno < lockPage; pgno++) short.pageAt(pgno, 0);
  assert.throws(() => short.pageAt(lockPage, 0), /lock page/);
  short.finish(CHECKSUM_FLAG);
});

test("the encoder refuses what no file may hold", () => {
  const start = (header: LtxHeader): LtxEncoder => new LtxEncoder(() => {}, header);
  const page = pageOf(1, 4096);
  const twice = start(headerOf());
  twice.page(3, page);
  assert.throws(() => twice.page(3, page), /page 3 after page 3/);
  assert.throws(() => twice.page(11, page), /page 11 of a database of 10/);
  assert.throws(() => twice.page(4, pageOf(1, 512)));
  assert.throws(() => twice.finish(5n), /post-apply/);
  const done = start(headerOf());
  done.finish(CHECKSUM_FLAG);
  assert.throws(() => done.finish(CHECKSUM_FLAG), /finished twice/);
  assert.throws(() => done.page(1, page), /after finish/);
  const snapshot = start(headerOf({ minTxid: 1 }));
  assert.throws(() => snapshot.page(2, page), /lacks a page before 2/);
  snapshot.page(1, page);
  assert.throws(() => snapshot.finish(CHECKSUM_FLAG), /ends at 1/);
  assert.throws(() => start(headerOf({ commit: 0 })).finish(CHECKSUM_FLAG | 1n), /deleted database/);
  assert.throws(() => start(headerOf({ pageSize: 1000 })), /page size/);
});

test("every header rule is one that a header can break", () => {
  const broken: [Partial<LtxHeader>, RegExp][] = [
    [{ flags: 1 }, /flags/], [{ pageSize: 0 }, /page size/], [{ pageSize: 131072 }, /page size/], [{ commit: -1 }, /database size/],
    [{ minTxid: 0 }, /minimum/], [{ maxTxid: 0 }, /maximum/], [{ minTxid: 3, maxTxid: 2 }, /order/], [{ maxTxid: 2 ** 53 }, /maximum/],
    [{ timestamp: 0.5 }, /time/], [{ walOffset: -1 }, /WAL offset/], [{ walSize: -1 }, /WAL size/], [{ walSalt1: 2 ** 32 }, /salt/],
    [{ walOffset: 0, walSize: 0 }, /salts without/], [{ walOffset: 0, walSalt1: 0, walSalt2: 0 }, /size without/], [{ nodeId: -1n }, /node id/],
    [{ preApplyChecksum: 1n << 64n }, /64-bit/], [{ minTxid: 1, maxTxid: 1, preApplyChecksum: CHECKSUM_FLAG }, /snapshot/],
    [{ flags: 2 }, /not tracked/], [{ preApplyChecksum: 5n }, /pre-apply/],
  ];
  assert.equal(ltxHeaderFault(headerOf()), undefined);
  for (const [change, reason] of broken) assert.match(ltxHeaderFault({ ...headerOf(), ...change }) ?? "valid", reason);
  assert.throws(() => readLtxHeader(Buffer.alloc(99)), corrupt(/too few/));
  assert.throws(() => readLtxHeader(Buffer.alloc(100), "x.ltx"), corrupt(/"x.ltx".*LTX1/));
  const future = encodeLtxHeader(headerOf());
  future.writeBigUInt64BE(2n ** 60n, 24);
  assert.throws(() => readLtxHeader(future), corrupt(/maximum TXID/));
});

test("a damaged file is refused with the reason", () => {
  const pages = new Map([2, 3, 9].map((pgno) => [pgno, pageOf(pgno, 512)]));
  const file = encodeFile(headerOf({ pageSize: 512 }), pages, { compress: false });
  const frame = 10 + 3 + 512;
  const change = (edit: (copy: Buffer) => void, reason: RegExp): void => {
    const copy = Buffer.from(file);
    edit(copy);
    assert.throws(() => decodeLtx(copy, undefined, "f.ltx"), corrupt(reason), String(reason));
  };
  const at = LTX_HEADER_SIZE, index = at + 3 * frame + 6, end = file.length;
  change((b) => b.writeUInt32BE(0, at), /page block ends before/);
  change((b) => b.writeUInt16BE(0, at + 4), /old encoding/);
  change((b) => b.writeUInt16BE(3, at + 4), /unknown flags/);
  change((b) => b.writeUInt32BE(9999, at + 6), /claims 9999/);
  change((b) => b.writeUInt32BE(516, at + 6), /does not decompress|unknown flags|claims|beyond/);
  change((b) => b.writeUInt8(0xe0, at + 10), /does not decompress/);
  change((b) => b.writeUInt32BE(11, at), /beyond the end/);
  change((b) => b.writeUInt32BE(2, at + frame), /comes after/);
  change((b) => b.writeUInt32BE(4, at + frame), /page index does not fit/);
  change((b) => b.writeUInt8(b[at + 100]! ^ 1, at + 100), /file checksum/);
  change((b) => b.writeUInt8(1, index - 1), /does not end where/);
  change((b) => b.writeUInt8(b[index + 2]! ^ 1, index + 2), /page index does not fit/);
  change((b) => b.writeBigUInt64BE(2n ** 63n, end - 24), /claims/);
  change((b) => b.writeBigUInt64BE(0n, end - 24), /claims/);
  change((b) => b.writeBigUInt64BE(5n, end - 24), /cut off|page index|page block|claims|beyond|flags|comes after/);
  change((b) => b.writeUInt8(b[end - 9]! ^ 1, end - 9), /file checksum/);
  change((b) => b.writeUInt8(0, end - 16), /post-apply/);
  change((b) => b.writeUInt8(0, end - 8), /file checksum is missing/);
  change((b) => b.writeUInt32BE(1, 32), /file checksum/);
  assert.throws(() => decodeLtx(Buffer.concat([file, Buffer.alloc(1)])), corrupt(/./));
  assert.throws(() => decodeLtx(file.subarray(0, 120)), corrupt(/too few/));
  assert.throws(() => decodeLtxFile((b, offset) => file.subarray(0, end - 30).copy(b, 0, Math.min(offset, end - 30)), end), corrupt(/cut off/));
});

test("a snapshot that lacks a page, has too few, or another checksum is refused", () => {
  const asSnapshot = (pages: Map<number, Buffer>): Buffer => {
    // Made as a transaction, then turned into a snapshot by its header: the pages are looked at before the file checksum.
    const file = encodeFile(headerOf({ pageSize: 512 }), pages);
    file.writeBigUInt64BE(1n, 16);
    file.writeBigUInt64BE(0n, 40);
    return file;
  };
  const pages = snapshotPages(10, 512);
  pages.delete(4);
  assert.throws(() => decodeLtx(asSnapshot(pages)), corrupt(/lacks page 4/));
  const short = snapshotPages(9, 512);
  assert.throws(() => decodeLtx(asSnapshot(short)), corrupt(/ends at page 9 of 10/));
  const wrong = encodeFile(headerOf({ pageSize: 512, minTxid: 1 }), snapshotPages(10, 512), { postApply: CHECKSUM_FLAG | 1n });
  assert.throws(() => decodeLtx(wrong), corrupt(/post-apply checksum/));
});

test("truncated, bit-flipped and invented files are refused with CORRUPT_FILE, whatever the damage", () => {
  const files = [
    encodeFile(headerOf({ pageSize: 512 }), new Map([1, 4, 9].map((pgno) => [pgno, pageOf(pgno, 512)]))),
    encodeFile(headerOf({ pageSize: 1024, minTxid: 1, commit: 6 }), snapshotPages(6, 1024)),
    encodeFile(headerOf({ commit: 0 }), new Map()),
  ];
  for (const file of files) {
    const header = readLtxHeader(file);
    for (let size = 0; size < file.length; size++) assert.throws(() => decodeLtx(file.subarray(0, size)), corrupt(/./), `truncated to ${size}`);
    for (let bit = 0; bit < file.length * 8; bit++) {
      const copy = Buffer.from(file);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      try {
        const pages = decodePages(copy);
        // The checksum covers the pages, not how they are compressed: a change that leaves everything as it was is none.
        const { header: same } = decodeLtx(copy);
        assert.deepEqual(same, header);
        assert.deepEqual(pages, decodePages(file));
      } catch (error) {
        assert.ok(isAppError(error, "CORRUPT_FILE"), `bit ${bit}: ${String(error)}`);
      }
    }
  }
  fc.assert(fc.property(fc.constantFrom(...files), fc.array(fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 9 })), { minLength: 1, maxLength: 4 }), (file, edits) => {
    const copy = Buffer.from(file);
    for (const [at, bytes] of edits) copy.set(bytes.subarray(0, copy.length - (at % copy.length)), at % copy.length);
    try {
      decodeLtx(copy, () => {});
    } catch (error) {
      assert.ok(isAppError(error, "CORRUPT_FILE"), String(error));
    }
  }), { numRuns: 2000 });
});

test("file names show the TXIDs and read back, and other names are none", () => {
  assert.equal(ltxFileName(1, 0x1ff), "0000000000000001-00000000000001ff.ltx");
  assert.deepEqual(parseLtxFileName(ltxFileName(7, 2 ** 52)), { minTxid: 7, maxTxid: 2 ** 52 });
  for (const name of ["", "x.ltx", "0000000000000001-00000000000001FF.ltx", "0000000000000002-0000000000000001.ltx", "0000000000000000-0000000000000001.ltx", "0000000000000001-ffffffffffffffff.ltx", "0000000000000001-0000000000000001.ltx.part"]) {
    assert.equal(parseLtxFileName(name), undefined, name);
  }
});
