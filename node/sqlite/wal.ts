/**
 * The layout of a WAL file: one header, then frames (https://www.sqlite.org/fileformat2.html, section 4).
 *
 * Always holds: encoding writes little-endian checksums (magic 0x377f0682), as SQLite does on every machine that Sluice runs on; decoding
 * takes both. Frames count from 1. Decoding is total: undefined for anything that SQLite would not take either.
 *
 * Header                                     Frame header
 * | offset | size | field                    | offset | size | field
 * | 0      | 4    | magic                    | 0      | 4    | page number
 * | 4      | 4    | version 3007000          | 4      | 4    | commit frame: pages of the database, else 0
 * | 8      | 4    | page size                | 8      | 4    | salt 1, as in the header
 * | 12     | 4    | checkpoint sequence      | 12     | 4    | salt 2
 * | 16     | 4    | salt 1, one up a restart | 16     | 8    | checksum: runs on from the header over 0..7 and the page
 * | 20     | 4    | salt 2, random           | 24     |      | the page
 * | 24     | 8    | checksum of 0..23
 */
import { walChecksum } from "../core/checksums.ts";
import type { WalChecksum } from "../core/checksums.ts";
import { assert } from "../core/assert.ts";
import { isPageSize } from "./database-header.ts";

export const WAL_HEADER_SIZE = 32;
export const FRAME_HEADER_SIZE = 24;
export const WAL_MAGIC_LITTLE_ENDIAN = 0x377f0682;
export const WAL_MAGIC_BIG_ENDIAN = 0x377f0683;
export const WAL_VERSION = 3007000;

export interface WalHeader {
  /** Word order of the checksums. */
  readonly bigEndian: boolean;
  readonly pageSize: number;
  /** Checkpoint sequence number; counts restarts, decides nothing. */
  readonly sequence: number;
  readonly salt1: number;
  readonly salt2: number;
  /** Checksum of the header: the seed of the frames' running checksum. */
  readonly checksum: Readonly<WalChecksum>;
}

export interface FrameHeader {
  readonly pgno: number;
  /** Pages of the database after this transaction, or 0 when the transaction goes on. */
  readonly commit: number;
  readonly salt1: number;
  readonly salt2: number;
  readonly checksum: Readonly<WalChecksum>;
}

/** File offset of the header of a frame, counted from 1. */
export function frameOffset(frame: number, pageSize: number): number {
  return WAL_HEADER_SIZE + (frame - 1) * (FRAME_HEADER_SIZE + pageSize);
}

/** How many whole frames a WAL of this many bytes can hold. */
export function framesIn(fileSize: number, pageSize: number): number {
  return fileSize <= WAL_HEADER_SIZE ? 0 : Math.floor((fileSize - WAL_HEADER_SIZE) / (FRAME_HEADER_SIZE + pageSize));
}

/** The 32 bytes of a WAL header, its checksum included. */
export function encodeWalHeader(fields: { pageSize: number; sequence: number; salt1: number; salt2: number }): Buffer {
  assert(isPageSize(fields.pageSize));
  const b = Buffer.alloc(WAL_HEADER_SIZE);
  b.writeUInt32BE(WAL_MAGIC_LITTLE_ENDIAN, 0);
  b.writeUInt32BE(WAL_VERSION, 4);
  b.writeUInt32BE(fields.pageSize, 8);
  b.writeUInt32BE(fields.sequence >>> 0, 12);
  b.writeUInt32BE(fields.salt1 >>> 0, 16);
  b.writeUInt32BE(fields.salt2 >>> 0, 20);
  const checksum = { s0: 0, s1: 0 };
  walChecksum(b.subarray(0, 24), checksum);
  b.writeUInt32BE(checksum.s0, 24);
  b.writeUInt32BE(checksum.s1, 28);
  return b;
}

/** The header, or undefined when magic, version, page size or checksum are wrong. */
export function decodeWalHeader(bytes: Uint8Array): WalHeader | undefined {
  if (bytes.length < WAL_HEADER_SIZE) return undefined;
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, WAL_HEADER_SIZE);
  const magic = b.readUInt32BE(0);
  const bigEndian = magic === WAL_MAGIC_BIG_ENDIAN;
  if (!bigEndian && magic !== WAL_MAGIC_LITTLE_ENDIAN) return undefined;
  if (b.readUInt32BE(4) !== WAL_VERSION) return undefined;
  const pageSize = b.readUInt32BE(8);
  if (!isPageSize(pageSize)) return undefined;
  const checksum = { s0: 0, s1: 0 };
  walChecksum(b.subarray(0, 24), checksum, bigEndian);
  if (checksum.s0 !== b.readUInt32BE(24) || checksum.s1 !== b.readUInt32BE(28)) return undefined;
  return { bigEndian, pageSize, sequence: b.readUInt32BE(12), salt1: b.readUInt32BE(16), salt2: b.readUInt32BE(20), checksum };
}

/** Writes the 24 bytes of a frame header into `target` at `offset`. The checksum is the running one, this frame included. */
export function writeFrameHeader(target: Buffer, offset: number, header: FrameHeader): void {
  target.writeUInt32BE(header.pgno, offset);
  target.writeUInt32BE(header.commit, offset + 4);
  target.writeUInt32BE(header.salt1, offset + 8);
  target.writeUInt32BE(header.salt2, offset + 12);
  target.writeUInt32BE(header.checksum.s0, offset + 16);
  target.writeUInt32BE(header.checksum.s1, offset + 20);
}

/** The fields of a frame header; whether they fit the WAL is for the caller to check. */
export function decodeFrameHeader(bytes: Buffer, offset = 0): FrameHeader {
  return {
    pgno: bytes.readUInt32BE(offset),
    commit: bytes.readUInt32BE(offset + 4),
    salt1: bytes.readUInt32BE(offset + 8),
    salt2: bytes.readUInt32BE(offset + 12),
    checksum: { s0: bytes.readUInt32BE(offset + 16), s1: bytes.readUInt32BE(offset + 20) },
  };
}
