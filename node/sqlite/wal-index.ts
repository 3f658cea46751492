/**
 * The wal-index, that is the `-shm` file: which page each frame of the WAL holds, and where the WAL ends
 * (https://www.sqlite.org/walformat.html, section 2).
 *
 * Always holds: pure functions over bytes; who may read or write them when is for the store to know. Numbers are in the byte order of the
 * machine, which is little-endian wherever Sluice runs; the salts are the raw bytes of the WAL header, so big-endian.
 *
 * | offset   | size | field                                                                            |
 * | 0        | 48   | header, copy A (writers write copy B first, readers want both equal)              |
 * |  +0      | 4    |   iVersion 3007000                                                               |
 * |  +4      | 4    |   unused                                                                         |
 * |  +8      | 4    |   iChange, one up with each transaction                                          |
 * |  +12     | 1    |   isInit                                                                         |
 * |  +13     | 1    |   bigEndCksum: word order of the WAL's checksums                                 |
 * |  +14     | 2    |   page size, 65536 as 1                                                          |
 * |  +16     | 4    |   mxFrame, last committed frame                                                  |
 * |  +20     | 4    |   nPage, pages of the database                                                   |
 * |  +24     | 8    |   running checksum after frame mxFrame                                           |
 * |  +32     | 8    |   salts                                                                          |
 * |  +40     | 8    |   checksum of +0..39                                                             |
 * | 48       | 48   | header, copy B                                                                   |
 * | 96       | 4    | nBackfill: frames that are in the database file already                          |
 * | 100      | 20   | five read marks                                                                  |
 * | 120      | 8    | lock bytes, see lock-bytes.ts                                                    |
 * | 128      | 4    | nBackfillAttempted                                                               |
 * | 132      | 4    | unused                                                                           |
 * | 136      |      | blocks of 32 KiB: aPgno (u32 a frame), then the hash table (u16 a slot) at 16384; |
 * |          |      | block 0 begins at offset 0, so it lacks the first 34 entries of aPgno             |
 */
import { assert } from "../core/assert.ts";
import { walChecksum } from "../core/checksums.ts";
import type { WalChecksum } from "../core/checksums.ts";
import type { ReadAt } from "./read-at.ts";
import { WAL_VERSION } from "./wal.ts";

export const WAL_INDEX_HEADER_SIZE = 48;
/** Both headers and the checkpoint information. */
export const WAL_INDEX_PREFIX_SIZE = 136;
export const WAL_INDEX_HEADER_A = 0;
export const WAL_INDEX_HEADER_B = 48;
export const BACKFILL_OFFSET = 96;
export const READ_MARKS_OFFSET = 100;
export const BACKFILL_ATTEMPTED_OFFSET = 128;
export const READ_MARK_COUNT = 5;
export const READMARK_NOT_USED = 0xffffffff;
export const BLOCK_SIZE = 32768;
/** Offset of the hash table in a block. */
export const HASH_OFFSET = 16384;
export const HASH_SLOT_COUNT = 8192;
/** Frames in each block but block 0. */
export const BLOCK_FRAMES = 4096;
/** Frames in block 0. */
export const BLOCK0_FRAMES: number = BLOCK_FRAMES - WAL_INDEX_PREFIX_SIZE / 4;

/** What a writer puts into the header. */
export interface WalIndexFields {
  readonly iChange: number;
  readonly bigEndChecksum: boolean;
  readonly pageSize: number;
  readonly mxFrame: number;
  readonly nPage: number;
  /** Running checksum after frame mxFrame. */
  readonly frameChecksum: Readonly<WalChecksum>;
  readonly salt1: number;
  readonly salt2: number;
}

export interface WalIndexHeader extends WalIndexFields {
  /** Both copies are equal, initialised, of the known version, and their checksum is right. False while a writer is between its copies. */
  readonly valid: boolean;
  readonly iVersion: number;
  readonly isInit: boolean;
  readonly nBackfill: number;
  readonly readMarks: readonly number[];
  readonly nBackfillAttempted: number;
}

/** Reads the first 136 bytes of a `-shm`. All other fields are meaningless unless `valid`. */
export function decodeWalIndexHeader(bytes: Buffer): WalIndexHeader {
  assert(bytes.length >= WAL_INDEX_PREFIX_SIZE);
  const szPage = bytes.readUInt16LE(14);
  const isInit = bytes.readUInt8(12) !== 0;
  const iVersion = bytes.readUInt32LE(0);
  const checksum = { s0: 0, s1: 0 };
  walChecksum(bytes.subarray(0, 40), checksum);
  const valid = isInit && iVersion === WAL_VERSION
    && bytes.compare(bytes, WAL_INDEX_HEADER_B, WAL_INDEX_HEADER_B + WAL_INDEX_HEADER_SIZE, WAL_INDEX_HEADER_A, WAL_INDEX_HEADER_SIZE) === 0
    && checksum.s0 === bytes.readUInt32LE(40) && checksum.s1 === bytes.readUInt32LE(44);
  const readMarks: number[] = [];
  for (let i = 0; i < READ_MARK_COUNT; i++) readMarks.push(bytes.readUInt32LE(READ_MARKS_OFFSET + 4 * i));
  return {
    valid,
    iVersion,
    iChange: bytes.readUInt32LE(8),
    isInit,
    bigEndChecksum: bytes.readUInt8(13) !== 0,
    pageSize: (szPage & 0xfe00) | ((szPage & 1) << 16),
    mxFrame: bytes.readUInt32LE(16),
    nPage: bytes.readUInt32LE(20),
    frameChecksum: { s0: bytes.readUInt32LE(24), s1: bytes.readUInt32LE(28) },
    salt1: bytes.readUInt32BE(32),
    salt2: bytes.readUInt32BE(36),
    nBackfill: bytes.readUInt32LE(BACKFILL_OFFSET),
    readMarks,
    nBackfillAttempted: bytes.readUInt32LE(BACKFILL_ATTEMPTED_OFFSET),
  };
}

/** The 48 bytes of a header, its checksum included. Write them at WAL_INDEX_HEADER_B first, then at WAL_INDEX_HEADER_A. */
export function encodeWalIndexHeader(fields: WalIndexFields): Buffer {
  const b = Buffer.alloc(WAL_INDEX_HEADER_SIZE);
  b.writeUInt32LE(WAL_VERSION, 0);
  b.writeUInt32LE(fields.iChange >>> 0, 8);
  b.writeUInt8(1, 12);
  b.writeUInt8(fields.bigEndChecksum ? 1 : 0, 13);
  b.writeUInt16LE((fields.pageSize & 0xff00) | (fields.pageSize >>> 16), 14);
  b.writeUInt32LE(fields.mxFrame, 16);
  b.writeUInt32LE(fields.nPage, 20);
  b.writeUInt32LE(fields.frameChecksum.s0, 24);
  b.writeUInt32LE(fields.frameChecksum.s1, 28);
  b.writeUInt32BE(fields.salt1 >>> 0, 32);
  b.writeUInt32BE(fields.salt2 >>> 0, 36);
  const checksum = { s0: 0, s1: 0 };
  walChecksum(b.subarray(0, 40), checksum);
  b.writeUInt32LE(checksum.s0, 40);
  b.writeUInt32LE(checksum.s1, 44);
  return b;
}

/** The block that holds a frame, both counted as in SQLite: blocks from 0, frames from 1. */
export function blockOfFrame(frame: number): number {
  return frame <= BLOCK0_FRAMES ? 0 : 1 + Math.floor((frame - BLOCK0_FRAMES - 1) / BLOCK_FRAMES);
}

export function firstFrameOfBlock(block: number): number {
  return block === 0 ? 1 : BLOCK0_FRAMES + (block - 1) * BLOCK_FRAMES + 1;
}

export function lastFrameOfBlock(block: number): number {
  return BLOCK0_FRAMES + block * BLOCK_FRAMES;
}

/** Offset in the `-shm` of the aPgno entry of a frame. */
export function pgnoOffset(frame: number): number {
  const block = blockOfFrame(frame);
  return block * BLOCK_SIZE + (block === 0 ? WAL_INDEX_PREFIX_SIZE : 0) + (frame - firstFrameOfBlock(block)) * 4;
}

/** Offset in the `-shm` of a hash slot. A slot holds the frame's number within its block, from 1, or 0 for none. */
export function hashSlotOffset(block: number, slot: number): number {
  return block * BLOCK_SIZE + HASH_OFFSET + slot * 2;
}

/** The slot where the search for a page begins; it goes on at (slot + 1) % HASH_SLOT_COUNT. */
export function hashOf(pgno: number): number {
  // The product stays below 2^41, but SQLite computes it in 32 bits; the low 13 bits are the same.
  return Math.imul(pgno, 383) & (HASH_SLOT_COUNT - 1);
}

/**
 * Page numbers of frames `from` to `to`, both included. Entries that the file does not have read as 0.
 */
export function readFramePages(read: ReadAt, from: number, to: number): Uint32Array {
  const pages = new Uint32Array(Math.max(0, to - from + 1));
  const bytes = Buffer.from(pages.buffer);
  for (let frame = from; frame <= to; ) {
    const end = Math.min(to, lastFrameOfBlock(blockOfFrame(frame)));
    read(bytes.subarray((frame - from) * 4, (end - from + 1) * 4), pgnoOffset(frame));
    frame = end + 1;
  }
  return pages;
}
