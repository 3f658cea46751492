/**
 * The 16 bytes at the end of an LTX file. FORMAT.md has the table.
 *
 * Always holds: both checksums have bit 63 set, but for a post-apply checksum of 0 where the header says that none are tracked.
 */
import { CHECKSUM_FLAG } from "../core/checksums.ts";
import { FLAG_NO_CHECKSUM } from "./header.ts";
import type { LtxHeader } from "./header.ts";

export const TRAILER_SIZE = 16;

export interface LtxTrailer {
  /** Database checksum after this file. */
  readonly postApplyChecksum: bigint;
  /** CRC64 of the content, see FORMAT.md. */
  readonly fileChecksum: bigint;
}

export function encodeTrailer(trailer: LtxTrailer): Buffer {
  const b = Buffer.alloc(TRAILER_SIZE);
  b.writeBigUInt64BE(trailer.postApplyChecksum, 0);
  b.writeBigUInt64BE(trailer.fileChecksum, 8);
  return b;
}

export function decodeTrailer(bytes: Buffer): LtxTrailer {
  return { postApplyChecksum: bytes.readBigUInt64BE(0), fileChecksum: bytes.readBigUInt64BE(8) };
}

/** What is wrong with a trailer, given the header of its file, or undefined. */
export function trailerFault(trailer: LtxTrailer, header: LtxHeader): string | undefined {
  if ((trailer.fileChecksum & CHECKSUM_FLAG) === 0n) return "the file checksum is missing or malformed";
  if ((header.flags & FLAG_NO_CHECKSUM) !== 0) {
    return trailer.postApplyChecksum === 0n ? undefined : "a post-apply checksum although checksums are not tracked";
  }
  if ((trailer.postApplyChecksum & CHECKSUM_FLAG) === 0n) return "the post-apply checksum is missing or malformed";
  if (header.commit === 0 && trailer.postApplyChecksum !== CHECKSUM_FLAG) return "a deleted database has a checksum";
  return undefined;
}
