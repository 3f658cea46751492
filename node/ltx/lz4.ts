/**
 * LZ4 blocks (no frame, no size prefix) from ARENA to ARENA.
 *
 * Always holds: no input makes decoding read decisions from outside the source or write outside the target.
 *
 * The codec is our own, in the WebAssembly module of core/checksums-memory.ts, and not the package lz4-napi, because that one puts a length
 * in front of each block, allocates a buffer for each result and needs its input in a buffer of its own. Measured in one run on pages of
 * 4 KiB of a table with text, ns per page: compress 7,000 here and 9,400 there, decompress 1,700 and 4,500; to 49 and 48 % of the size.
 */
import { assert } from "../core/assert.ts";
import { ARENA, ARENA_BASE, wasm } from "../core/checksums-memory.ts";

/** No block of `size` bytes is longer than this. */
export function lz4Bound(size: number): number {
  return size + Math.floor(size / 255) + 16;
}

/**
 * Compresses ARENA[source, source + size), less than 16 MiB, to ARENA[target, target + lz4Bound(size)), which must not overlap. Returns the
 * length of the block. `compress: false` makes a block of literals: as valid, and as fast as a copy.
 */
export function lz4CompressAt(source: number, size: number, target: number, compress = true): number {
  const bound = lz4Bound(size);
  assert(source >= 0 && size >= 0 && size < 16 << 20 && target >= 0 && source + size <= ARENA.length && target + bound <= ARENA.length);
  assert(source + size <= target || target + bound <= source);
  return wasm.lz4Compress(ARENA_BASE + source, size, ARENA_BASE + target, compress);
}

/**
 * Decodes the block ARENA[source, source + sourceSize) to ARENA[target, target + targetSize). Returns the number of bytes it holds, or -1
 * when it is malformed or holds more than targetSize.
 */
export function lz4DecompressAt(source: number, sourceSize: number, target: number, targetSize: number): number {
  assert(source >= 0 && sourceSize >= 0 && target >= 0 && targetSize >= 0);
  assert(source + sourceSize <= ARENA.length && target + targetSize <= ARENA.length);
  const length = wasm.lz4Decompress(ARENA_BASE + source, sourceSize, ARENA_BASE + target, targetSize) >>> 0;
  return length === 0xffffffff ? -1 : length;
}
