/** The LZ4 block codec: round trips, an independent implementation at the other end, hostile blocks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compressSync, uncompressSync } from "lz4-napi";
import { ARENA, ARENA_SIZE } from "../../../node/core/checksums.ts";
import { lz4Bound, lz4CompressAt, lz4DecompressAt } from "../../../node/ltx/lz4.ts";

const BLOCK = 2 << 20, PLAIN = 5 << 20;

function compress(bytes: Uint8Array, really = true): Buffer {
  ARENA.set(bytes, 0);
  ARENA.fill(0xa5, BLOCK + lz4Bound(bytes.length), BLOCK + lz4Bound(bytes.length) + 64);
  const length = lz4CompressAt(0, bytes.length, BLOCK, really);
  assert.ok(length <= lz4Bound(bytes.length));
  assert.ok(ARENA.subarray(BLOCK + lz4Bound(bytes.length), BLOCK + lz4Bound(bytes.length) + 64).every((byte) => byte === 0xa5), "wrote beyond the bound");
  return Buffer.from(ARENA.subarray(BLOCK, BLOCK + length));
}

/** Undefined when the block is refused. Fails if anything around the target changed. */
function decompress(block: Uint8Array, size: number): Buffer | undefined {
  ARENA.set(block, BLOCK);
  ARENA.fill(0xa5, PLAIN - 64, PLAIN + size + 64);
  const length = lz4DecompressAt(BLOCK, block.length, PLAIN, size);
  for (let i = 1; i <= 64; i++) assert.ok(ARENA[PLAIN - i] === 0xa5 && ARENA[PLAIN + size + i - 1] === 0xa5, "wrote outside the target");
  return length < 0 ? undefined : Buffer.from(ARENA.subarray(PLAIN, PLAIN + length));
}

const prefixed = (block: Buffer, size: number): Buffer => Buffer.concat([Uint8Array.of(size & 255, (size >> 8) & 255, (size >> 16) & 255, size >>> 24), block]);

/** Text with repeats of all distances and lengths, as pages have. */
const repetitive = fc.array(fc.record({ bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }), times: fc.integer({ min: 1, max: 60 }) }), { maxLength: 60 })
  .map((parts) => Buffer.concat(parts.flatMap(({ bytes, times }) => Array.from({ length: times }, () => bytes))));

test("what is compressed decompresses to the same, here and in another implementation", () => {
  fc.assert(fc.property(fc.oneof(repetitive, fc.uint8Array({ maxLength: 5000 })), fc.boolean(), (bytes, really) => {
    const block = compress(bytes, really);
    assert.deepEqual(decompress(block, bytes.length), Buffer.from(bytes));
    if (bytes.length > 0) assert.deepEqual(uncompressSync(prefixed(block, bytes.length)), Buffer.from(bytes));
  }), { numRuns: 300 });
});

test("blocks of another implementation decompress", () => {
  fc.assert(fc.property(repetitive, (bytes) => {
    const block = compressSync(bytes).subarray(4);
    assert.deepEqual(decompress(block, bytes.length), bytes);
  }), { numRuns: 300 });
});

test("two mebibytes with repeats farther apart than 64 KiB round trip", () => {
  const far = Buffer.alloc(1 << 20);
  for (let i = 0; i < far.length; i += 4) far.writeUInt32LE(Math.imul(i % 70_000, 2654435761) >>> 0, i);
  assert.deepEqual(decompress(compress(far), far.length), far);
  const zeros = Buffer.alloc(2 << 20);
  assert.ok(compress(zeros).length < 10_000);
  assert.deepEqual(decompress(compress(zeros), zeros.length), zeros);
});

test("text shrinks, and noise grows by no more than the bound", () => {
  assert.ok(compress(Buffer.from("all work and no play ".repeat(200))).length < 200);
  assert.equal(compress(Buffer.alloc(4096, 1), false).length, 4096 + 1 + 17);
});

test("a damaged or invented block is refused or decodes, and never touches anything else", () => {
  let refused = 0;
  fc.assert(fc.property(repetitive, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 }), fc.nat(), (bytes, changes, cut) => {
    const block = compress(bytes);
    for (const [at, value] of changes) block[at % block.length] = value;
    if (decompress(block.subarray(0, block.length - (cut % block.length)), bytes.length) === undefined) refused += 1;
  }), { numRuns: 1000 });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), fc.integer({ min: 0, max: 4096 }), (block, size) => {
    if (decompress(block, size) === undefined) refused += 1;
  }), { numRuns: 1000 });
  assert.ok(refused > 500, `only ${refused} were refused`);
});

test("the shortest malformed blocks are refused", () => {
  for (const block of [[], [0x10], [0xf0], [0xf0, 255], [0x00, 0, 0], [0x00, 1, 0], [0x10, 65, 2, 0, 0], [0x10, 65, 1], [0x1f, 65, 1, 0, 255, 255]]) {
    assert.equal(decompress(Uint8Array.from(block), 4096), undefined, `block ${block.join(" ")}`);
  }
  assert.deepEqual(decompress(Uint8Array.of(0x00), 0), Buffer.alloc(0));
});

test("a range outside the ARENA is a programmer error", () => {
  assert.throws(() => lz4CompressAt(0, 4096, ARENA.length - 4096));
  assert.throws(() => lz4DecompressAt(ARENA.length - 10, 11, 0, 10));
  assert.throws(() => lz4CompressAt(0, 4096, 4095));
  assert.ok(ARENA_SIZE > PLAIN + (2 << 20));
});
