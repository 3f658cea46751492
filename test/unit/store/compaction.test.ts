/** Which entries of a log are merged: a decision of sizes, places and positions alone. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { COMPACT_FILES, COMPACT_FILES_MAX, COMPACT_RECORD_BYTES_MAX, SEGMENT_RECORD_BYTES_MAX } from "../../../node/core/limits.ts";
import { findRun } from "../../../node/store/compaction.ts";
import type { LogSegment } from "../../../node/store/log-segment.ts";
import { TxLog, type LogEntry } from "../../../node/store/tx-log.ts";

const place = { segment: {} as LogSegment, at: 0 };

/** One entry a letter: f a file, s a record in a segment, F a large file; each of one transaction. */
function log(letters: string): LogEntry[] {
  return [...letters].map((letter, index) => ({ min: index + 1, max: index + 1, size: letter === "F" ? 1 << 20 : 100, writtenMs: 0, place: letter === "s" ? place : undefined }));
}

const many = COMPACT_FILES;
const rows: [what: string, letters: string, upTo: number, expected: ReturnType<typeof findRun>][] = [
  ["nothing", "", 0, undefined],
  ["many small records", "s".repeat(many), many, { first: 0, count: many }],
  ["no more at once than the bound", "s".repeat(100), 100, { first: 0, count: COMPACT_FILES_MAX }],
  ["not beyond what the sidecar has passed", "s".repeat(many), many - 1, { first: 0, count: many - 1 }],
  ["a few small records too, because that gives them a file", "s", 100, { first: 0, count: 1 }],
  ["a few small files are left alone", "f".repeat(many - 1), 100, undefined],
  ["many small files", "f".repeat(many), 100, { first: 0, count: many }],
  ["a file is not written again because records follow it", `f${"s".repeat(many)}`, 100, { first: 1, count: many }],
  ["nor because they come before it", `${"s".repeat(many)}f`, 100, { first: 0, count: many }],
  ["nor do both together make many", `${"f".repeat(many - 1)}ss`, 100, { first: many - 1, count: 2 }],
  ["a large file is never merged", `F${"f".repeat(many - 1)}`, 100, undefined],
  ["what lies behind a large file is", `F${"s".repeat(many)}`, 100, { first: 1, count: many }],
];

for (const [what, letters, upTo, expected] of rows) {
  test(`compaction: ${what}`, () => assert.deepEqual(findRun(log(letters), upTo), expected));
}

test("a busy log is written a few times over, however long it grows", () => {
  let entries: LogEntry[] = [];
  let written = 0;
  for (let txid = 1; txid <= 20_000; txid++) {
    entries.push({ min: txid, max: txid, size: 100, writtenMs: 0, place });
    if (txid % 500 !== 0) continue;
    for (let run = findRun(entries, txid); run !== undefined; run = findRun(entries, txid)) {
      const parts = entries.slice(run.first, run.first + run.count);
      // As if no page were in two transactions: the worst case.
      const size = parts.reduce((sum, part) => sum + part.size, 0);
      written += size;
      entries = [...entries.slice(0, run.first), { min: parts[0]!.min, max: parts.at(-1)!.max, size, writtenMs: 0, place: undefined }, ...entries.slice(run.first + run.count)];
    }
  }
  assert.ok(written < 5 * 20_000 * 100, `${written} bytes were written for ${20_000 * 100}`);
});

test("what is merged soon and what stays until retention never share a segment, so merging gives back the space of all that it merged", (t) => {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-segments-"));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const log = new TxLog(folder, () => assert.fail("nothing goes aside"));
  log.open();
  t.after(() => log.close());
  const sizes = [200, COMPACT_RECORD_BYTES_MAX, COMPACT_RECORD_BYTES_MAX + 1, SEGMENT_RECORD_BYTES_MAX, SEGMENT_RECORD_BYTES_MAX + 1];
  for (let txid = 1; txid <= 100; txid++) log.append(txid, txid, Buffer.alloc(sizes[txid % sizes.length]!));
  const kinds = new Map<LogSegment, Set<boolean>>();
  for (const { place, size } of log.entries) {
    assert.equal(place === undefined, size > SEGMENT_RECORD_BYTES_MAX, `${size} bytes`);
    if (place !== undefined) kinds.set(place.segment, (kinds.get(place.segment) ?? new Set()).add(size <= COMPACT_RECORD_BYTES_MAX));
  }
  assert.deepEqual([...kinds.values()].map((kind) => kind.size), [...kinds].map(() => 1));
  assert.ok([...kinds.values()].some((kind) => kind.has(true)) && [...kinds.values()].some((kind) => kind.has(false)));
});
