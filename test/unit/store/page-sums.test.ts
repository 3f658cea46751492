/** A run of page checksums set at once leaves what setting each of them leaves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BulkArena, SLOT_BYTES } from "../../../node/core/bulk-arena.ts";
import { pageChecksum } from "../../../node/core/checksums.ts";
import { PageSums } from "../../../node/store/page-sums.ts";
import { Random } from "../../support/random.ts";

test("runs that overlap, leave gaps and grow the table mean the same as their pages one by one", () => {
  const random = new Random(7);
  const runs = new PageSums();
  const single = new PageSums();
  for (let round = 0; round < 200; round++) {
    const first = 1 + random.below(5_000);
    const sums = BigUint64Array.from({ length: 1 + random.below(700) }, () => (random.below(20) === 0 ? 0n : (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32))));
    runs.setRun(first, sums);
    for (const [i, sum] of sums.entries()) single.set(first + i, sum);
    assert.equal(runs.checksum, single.checksum);
    assert.equal(runs.pageCount, single.pageCount);
  }
  assert.ok(runs.copyOut(1, runs.pageCount).equals(single.copyOut(1, single.pageCount)));
  assert.deepEqual([...runs.takeDirty()], [...single.takeDirty()]);
});

test("the checksums of pages that lie in a row are those of each page", () => {
  const arena = new BulkArena();
  for (const size of [512, 4_096, 65_536]) {
    const at = SLOT_BYTES * 2;
    const count = SLOT_BYTES / size;
    for (let i = 0; i < SLOT_BYTES; i++) arena.memory[at + i] = (i * 7 + (i >>> 9) * 13 + size) & 255;
    const sums = arena.checksumsAt(1_000, count, at, size);
    assert.equal(sums.length, count);
    for (const [i, sum] of sums.entries()) assert.equal(sum, pageChecksum(1_000 + i, arena.memory.subarray(at + i * size, at + (i + 1) * size)));
  }
});
