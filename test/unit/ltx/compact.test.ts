/** Merging LTX files: the merged file has the same effect as its parts, for random histories; what does not join is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CHECKSUM_FLAG, combine, pageChecksum } from "../../../node/core/checksums.ts";
import { compactLtx } from "../../../node/ltx/compact.ts";
import type { CompactInput, CompactOptions } from "../../../node/ltx/compact.ts";
import { decodeLtx } from "../../../node/ltx/decoder.ts";
import type { DecodedLtx } from "../../../node/ltx/decoder.ts";
import { readLtxHeader } from "../../../node/ltx/header.ts";
import { isAppError } from "../../../proto/errors.ts";
import { encodeFile, headerOf, pageOf } from "./support.ts";

const inputOf = (file: Buffer, i: number): CompactInput => ({ name: `input ${i}`, size: file.length, read: (buffer, offset) => file.copy(buffer, 0, offset) });

function compact(files: readonly Buffer[], options?: CompactOptions): { file: Buffer; result: DecodedLtx } {
  const chunks: Buffer[] = [];
  const result = compactLtx(files.map(inputOf), (chunk) => chunks.push(chunk), options);
  return { file: Buffer.concat(chunks), result };
}

/** One step of a history: the new size of the database and the pages that are written. */
interface Step { commit: number; written: number[] }

/** The files of a history from the empty database on, and its last state. */
function filesOf(steps: readonly Step[], pageSize: number): { files: Buffer[]; state: Map<number, Buffer> } {
  const state = new Map<number, Buffer>();
  const files: Buffer[] = [];
  let checksum = CHECKSUM_FLAG;
  steps.forEach((step, i) => {
    const before = checksum;
    const pages = new Map<number, Buffer>();
    for (const pgno of [...state.keys()]) if (pgno > step.commit) state.delete(pgno);
    // Pages that appear are always written, as by a capture.
    for (let pgno = 1; pgno <= step.commit; pgno++) {
      if (!state.has(pgno) || step.written.includes(pgno)) pages.set(pgno, pageOf(pgno, pageSize, i + 1));
    }
    for (const [pgno, page] of pages) state.set(pgno, page);
    checksum = [...state].reduce((sum, [pgno, page]) => combine(sum, pageChecksum(pgno, page)), CHECKSUM_FLAG);
    const header = headerOf({ pageSize, commit: step.commit, minTxid: i + 1, maxTxid: i + 1, preApplyChecksum: i === 0 ? 0n : before, walOffset: 32 + i, timestamp: 1000 + i });
    files.push(encodeFile(header, pages, { postApply: checksum }));
  });
  return { files, state };
}

const step = fc.record({ commit: fc.integer({ min: 0, max: 30 }), written: fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 12 }) });

test("a merged history is the snapshot of its last state", () => {
  fc.assert(fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), fc.boolean(), (steps, newestFirst) => {
    const { files, state } = filesOf(steps, 512);
    const { file, result } = compact(newestFirst ? files.toReversed() : files);
    const pages = new Map<number, Buffer>();
    const decoded = decodeLtx(file, (pgno, page) => pages.set(pgno, Buffer.from(page)));
    assert.deepEqual(decoded, result);
    assert.deepEqual(pages, new Map([...state].sort(([a], [b]) => a - b)));
    const last = readLtxHeader(files.at(-1)!);
    assert.deepEqual(decoded.header, { ...last, minTxid: 1, preApplyChecksum: 0n, nodeId: 0n });
  }), { numRuns: 200 });
});

test("merging a part of a history and applying it gives the same state as its files", () => {
  fc.assert(fc.property(fc.array(step, { minLength: 3, maxLength: 12 }), fc.nat(), (steps, cut) => {
    const { files, state } = filesOf(steps, 512);
    const from = 1 + (cut % (steps.length - 1));
    const applied = filesOf(steps.slice(0, from), 512).state;
    const { file } = compact(files.slice(from), { verify: false, compress: false });
    const { header, trailer } = decodeLtx(file, (pgno, page) => applied.set(pgno, Buffer.from(page)));
    for (const pgno of [...applied.keys()]) if (pgno > header.commit) applied.delete(pgno);
    assert.deepEqual(new Map([...applied].sort(([a], [b]) => a - b)), new Map([...state].sort(([a], [b]) => a - b)));
    assert.equal(header.preApplyChecksum, readLtxHeader(files[from]!).preApplyChecksum);
    assert.equal(trailer.postApplyChecksum, decodeLtx(files.at(-1)!).trailer.postApplyChecksum);
  }), { numRuns: 200 });
});

test("a page that was cut off and not written again does not come back", () => {
  const change = (minTxid: number, commit: number, pgnos: number[], pre: bigint, post: bigint): Buffer =>
    encodeFile(headerOf({ pageSize: 512, minTxid, maxTxid: minTxid, commit, preApplyChecksum: pre }), new Map(pgnos.map((pgno) => [pgno, pageOf(pgno, 512, minTxid)])), { postApply: post });
  const [a, b, c, d] = [1n, 2n, 3n, 4n].map((n) => CHECKSUM_FLAG | n) as [bigint, bigint, bigint, bigint];
  const { file } = compact([change(5, 9, [2, 8], a, b), change(6, 4, [1], b, c), change(7, 9, [9], c, d)]);
  const pgnos: number[] = [];
  decodeLtx(file, (pgno) => pgnos.push(pgno));
  assert.deepEqual(pgnos, [1, 2, 9]);
});

test("files with a gap, another history, another page size or damage are refused by name", () => {
  const { files } = filesOf([{ commit: 3, written: [] }, { commit: 4, written: [2] }, { commit: 4, written: [1, 3] }], 512);
  const refused = (list: Buffer[], name: string, reason: RegExp, options?: CompactOptions): void => {
    assert.throws(() => compact(list, options), (error) => isAppError(error, "CORRUPT_FILE") && error.message.includes(`"${name}"`) && reason.test(error.message));
  };
  refused([files[0]!, files[2]!], "input 1", /begins with TXID 3/);
  const other = filesOf([{ commit: 3, written: [] }, { commit: 5, written: [] }], 512).files;
  refused([files[0]!, other[1]!, files[2]!], "input 2", /pre-apply checksum/);
  const before = decodeLtx(files[0]!).trailer.postApplyChecksum;
  refused([files[0]!, encodeFile(headerOf({ minTxid: 2, pageSize: 1024, commit: 1, preApplyChecksum: before }), new Map())], "input 1", /page size is 1024/);
  const damaged = Buffer.from(files[1]!);
  damaged[130]! ^= 1;
  refused([files[0]!, damaged, files[2]!], "input 1", /./);
  const cutIndex = Buffer.from(files[1]!);
  cutIndex[cutIndex.length - 26]! ^= 1;
  refused([files[0]!, cutIndex, files[2]!], "input 1", /page index|decompress|cut off/, { verify: false });
});

test("damage that is not looked for is still an error by name or a valid file, never a crash", () => {
  const { files } = filesOf([{ commit: 5, written: [] }, { commit: 6, written: [2, 4] }, { commit: 6, written: [1, 6] }], 512);
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 }), fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 4 }), (which, edits) => {
    const copies = files.map((file) => Buffer.from(file));
    for (const [at, value] of edits) copies[which]![at % copies[which]!.length] = value;
    try {
      compact(copies, { verify: false });
    } catch (error) {
      assert.ok(isAppError(error, "CORRUPT_FILE"), String(error));
    }
  }), { numRuns: 2000 });
});

test("a thousand files are merged", () => {
  const steps = Array.from({ length: 1000 }, (_, i) => ({ commit: 40, written: [1 + (i % 40), 1 + ((i * 7) % 40)] }));
  const { files, state } = filesOf(steps, 512);
  const { file, result } = compact(files);
  assert.equal(result.pageCount, 40);
  decodeLtx(file, (pgno, page) => assert.ok(page.equals(state.get(pgno)!)));
});
