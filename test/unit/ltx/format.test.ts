/** FORMAT.md and the code say the same. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { encodeLtxHeader, LTX_HEADER_SIZE, readLtxHeader } from "../../../node/ltx/header.ts";
import { FRAME_PREFIX_SIZE } from "../../../node/ltx/page.ts";
import { encodeTrailer, TRAILER_SIZE } from "../../../node/ltx/trailer.ts";
import { encodeFile, headerOf, pageOf } from "./support.ts";

interface Row { offset: number; size: number; field: string }

const FORMAT = readFileSync(new URL("../../../node/ltx/FORMAT.md", import.meta.url), "utf8");

function table(section: string): Row[] {
  const text = FORMAT.split(`\n## ${section}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = [...text.matchAll(/^\| (\d+) \| (\d+|N) \| (\w+) \|/gm)].map((m) => ({ offset: Number(m[1]), size: m[2] === "N" ? 0 : Number(m[2]), field: m[3]! }));
  assert.ok(rows.length > 1, `no table in section ${section}`);
  return rows;
}

function checkSum(rows: Row[], total: number): void {
  let offset = 0;
  for (const row of rows) {
    assert.equal(row.offset, offset, row.field);
    offset += row.size;
  }
  assert.equal(offset, total);
}

/** The field of each table row, given distinct bytes. */
const VALUES: Record<string, (b: Buffer, at: number) => unknown> = {
  Flags: (b, at) => b.readUInt32BE(at), PageSize: (b, at) => b.readUInt32BE(at), Commit: (b, at) => b.readUInt32BE(at),
  MinTXID: (b, at) => Number(b.readBigUInt64BE(at)), MaxTXID: (b, at) => Number(b.readBigUInt64BE(at)), Timestamp: (b, at) => Number(b.readBigInt64BE(at)),
  PreApplyChecksum: (b, at) => b.readBigUInt64BE(at), WALOffset: (b, at) => Number(b.readBigInt64BE(at)), WALSize: (b, at) => Number(b.readBigInt64BE(at)),
  WALSalt1: (b, at) => b.readUInt32BE(at), WALSalt2: (b, at) => b.readUInt32BE(at), NodeID: (b, at) => b.readBigUInt64BE(at),
};

test("the header table adds up, and each field lies where it says", () => {
  const rows = table("Header");
  checkSum(rows, LTX_HEADER_SIZE);
  const header = headerOf({ commit: 3, minTxid: 5, maxTxid: 6, walSize: 8, walSalt1: 9, walSalt2: 11 });
  const bytes = encodeLtxHeader(header);
  assert.deepEqual(readLtxHeader(bytes), header);
  assert.equal(bytes.toString("latin1", 0, 4), "LTX1");
  const byName: Record<string, unknown> = { Flags: header.flags, PageSize: header.pageSize, Commit: header.commit, MinTXID: header.minTxid, MaxTXID: header.maxTxid, Timestamp: header.timestamp, PreApplyChecksum: header.preApplyChecksum, WALOffset: header.walOffset, WALSize: header.walSize, WALSalt1: header.walSalt1, WALSalt2: header.walSalt2, NodeID: header.nodeId };
  const named = rows.filter((row) => row.field !== "Magic" && row.field !== "Reserved");
  assert.deepEqual(named.map((row) => row.field), Object.keys(byName));
  for (const row of named) assert.equal(VALUES[row.field]!(bytes, row.offset), byName[row.field], row.field);
});

test("the frame table adds up, and a frame looks so", () => {
  const rows = table("Page frame");
  checkSum(rows, FRAME_PREFIX_SIZE);
  const page = pageOf(7, 512);
  const file = encodeFile(headerOf({ pageSize: 512 }), new Map([[7, page]]), { compress: false });
  const frame = file.subarray(LTX_HEADER_SIZE);
  assert.equal(frame.readUInt32BE(rows[0]!.offset), 7);
  assert.equal(frame.readUInt16BE(rows[1]!.offset), 1);
  assert.equal(frame.readUInt32BE(rows[2]!.offset), 1 + 2 + 512);
  assert.deepEqual(frame.subarray(rows[3]!.offset + 3, rows[3]!.offset + 3 + 512), page);
  assert.deepEqual(frame.subarray(FRAME_PREFIX_SIZE + 515, FRAME_PREFIX_SIZE + 515 + 6), Buffer.alloc(6));
  // Index: 7, offset 100, length 525, end; then its length.
  assert.deepEqual([...frame.subarray(FRAME_PREFIX_SIZE + 515 + 6, -16)], [7, 100, 0x8d, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
});

test("the trailer table adds up, and each field lies where it says", () => {
  const rows = table("Trailer");
  checkSum(rows, TRAILER_SIZE);
  const bytes = encodeTrailer({ postApplyChecksum: 1n, fileChecksum: 2n });
  assert.equal(bytes.readBigUInt64BE(rows[0]!.offset), 1n);
  assert.equal(bytes.readBigUInt64BE(rows[1]!.offset), 2n);
});
