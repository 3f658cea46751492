/**
 * One page frame of an LTX file: page header, size, and the page as an LZ4 block. FORMAT.md has the table.
 *
 * Always holds: frames are made in and taken from ARENA, and a page goes through there once. The lock page has no frame.
 */
import { ARENA, DECODE_PAGE, FRAME } from "../core/checksums-memory.ts";
import { lz4Bound, lz4CompressAt, lz4DecompressAt } from "./lz4.ts";

export const PAGE_HEADER_SIZE = 6;
/** Page header and the size of the block, which always follows it here. */
export const FRAME_PREFIX_SIZE = 10;
/** Page header flag: a 4-byte size follows, then an LZ4 block. Without it an older encoding follows, which nobody writes any more. */
export const FLAG_SIZE = 1;

/** Bytes that a frame can have at most. */
export function frameSizeMax(pageSize: number): number {
  return FRAME_PREFIX_SIZE + lz4Bound(pageSize);
}

/** Makes the frame of the page at ARENA[offset, offset + pageSize) at FRAME. Returns its length. */
export function encodeFrame(pgno: number, offset: number, pageSize: number, compress: boolean): number {
  const size = lz4CompressAt(offset, pageSize, FRAME + FRAME_PREFIX_SIZE, compress);
  ARENA.writeUInt32BE(pgno, FRAME);
  ARENA.writeUInt16BE(FLAG_SIZE, FRAME + 4);
  ARENA.writeUInt32BE(size, FRAME + 6);
  return FRAME_PREFIX_SIZE + size;
}

/**
 * Decodes the frame at ARENA[offset, offset + available) to DECODE_PAGE. Returns its length; the page number is its first four bytes.
 * Calls `fail`, which throws, with what is wrong.
 */
export function decodeFrame(offset: number, available: number, pageSize: number, fail: (reason: string) => never): number {
  if (available < FRAME_PREFIX_SIZE) fail("a page frame is cut off");
  const pgno = ARENA.readUInt32BE(offset);
  const flags = ARENA.readUInt16BE(offset + 4);
  if (pgno === 0) fail("the page block ends before the page index begins");
  if (flags === 0) fail(`page ${pgno} is in the old encoding without a size`);
  if (flags !== FLAG_SIZE) fail(`page ${pgno} has unknown flags 0x${flags.toString(16)}`);
  const size = ARENA.readUInt32BE(offset + 6);
  if (size > lz4Bound(pageSize)) fail(`page ${pgno} claims ${size} compressed bytes`);
  if (FRAME_PREFIX_SIZE + size > available) fail(`page ${pgno} is cut off`);
  if (lz4DecompressAt(offset + FRAME_PREFIX_SIZE, size, DECODE_PAGE, pageSize) !== pageSize) fail(`page ${pgno} does not decompress to ${pageSize} bytes`);
  return FRAME_PREFIX_SIZE + size;
}
