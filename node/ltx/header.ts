/**
 * The 100 bytes at the start of an LTX file. FORMAT.md has the table.
 *
 * Always holds: TXIDs, times and offsets are safe integers; a file that names larger ones is refused. Fields are big-endian.
 */
import { assert } from "../core/assert.ts";
import { CHECKSUM_FLAG } from "../core/checksums.ts";
import { isPageSize } from "../sqlite/database-header.ts";
import { AppError } from "../../proto/errors.ts";
import type { Txid } from "../../proto/position.ts";

export const LTX_MAGIC = 0x4c545831; // "LTX1"
export const LTX_HEADER_SIZE = 100;
/** Header flag: database checksums are not tracked, both are zero. Sluice never writes it. */
export const FLAG_NO_CHECKSUM = 2;

export interface LtxHeader {
  readonly flags: number;
  readonly pageSize: number;
  /** Pages of the database after this file; 0 = the database was deleted. */
  readonly commit: number;
  readonly minTxid: Txid;
  readonly maxTxid: Txid;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** Database checksum before; 0 in a snapshot, which is what a file with minTxid 1 is: it has every page. */
  readonly preApplyChecksum: bigint;
  /** Where the frames of this file begin in the WAL; 0 for a rollback journal. */
  readonly walOffset: number;
  /** How many bytes of the WAL this file covers. */
  readonly walSize: number;
  readonly walSalt1: number;
  readonly walSalt2: number;
  /** 64-bit number of the node that made the file; 0n if unset. */
  readonly nodeId: bigint;
}

export function isSnapshot(header: LtxHeader): boolean {
  return header.minTxid === 1;
}

/** The 100 bytes. The header must be valid. */
export function encodeLtxHeader(header: LtxHeader): Buffer {
  assert(ltxHeaderFault(header) === undefined, ltxHeaderFault(header) ?? "");
  const b = Buffer.alloc(LTX_HEADER_SIZE);
  b.writeUInt32BE(LTX_MAGIC, 0);
  b.writeUInt32BE(header.flags, 4);
  b.writeUInt32BE(header.pageSize, 8);
  b.writeUInt32BE(header.commit, 12);
  b.writeBigUInt64BE(BigInt(header.minTxid), 16);
  b.writeBigUInt64BE(BigInt(header.maxTxid), 24);
  b.writeBigInt64BE(BigInt(header.timestamp), 32);
  b.writeBigUInt64BE(header.preApplyChecksum, 40);
  b.writeBigInt64BE(BigInt(header.walOffset), 48);
  b.writeBigInt64BE(BigInt(header.walSize), 56);
  b.writeUInt32BE(header.walSalt1, 64);
  b.writeUInt32BE(header.walSalt2, 68);
  b.writeBigUInt64BE(header.nodeId, 72);
  return b;
}

/**
 * Reads and validates the header; nothing else of the file is looked at. `name` is for the error.
 * Throws CORRUPT_FILE when the bytes are too few, or do not make a valid header.
 */
export function readLtxHeader(bytes: Buffer, name = "transaction file"): LtxHeader {
  const fault = (reason: string): AppError => new AppError("CORRUPT_FILE", [name, reason]);
  if (bytes.length < LTX_HEADER_SIZE) throw fault(`${bytes.length} bytes are too few for an LTX header of ${LTX_HEADER_SIZE}`);
  if (bytes.readUInt32BE(0) !== LTX_MAGIC) throw fault("it does not begin with LTX1");
  const header: LtxHeader = {
    flags: bytes.readUInt32BE(4),
    pageSize: bytes.readUInt32BE(8),
    commit: bytes.readUInt32BE(12),
    minTxid: Number(bytes.readBigUInt64BE(16)),
    maxTxid: Number(bytes.readBigUInt64BE(24)),
    timestamp: Number(bytes.readBigInt64BE(32)),
    preApplyChecksum: bytes.readBigUInt64BE(40),
    walOffset: Number(bytes.readBigInt64BE(48)),
    walSize: Number(bytes.readBigInt64BE(56)),
    walSalt1: bytes.readUInt32BE(64),
    walSalt2: bytes.readUInt32BE(68),
    nodeId: bytes.readBigUInt64BE(72),
  };
  const reason = ltxHeaderFault(header);
  if (reason !== undefined) throw fault(reason);
  return header;
}

/** What is wrong with a header, or undefined. One line a rule. */
export function ltxHeaderFault(h: LtxHeader): string | undefined {
  if ((h.flags & ~FLAG_NO_CHECKSUM) !== 0) return `header flags 0x${h.flags.toString(16)} are unknown`;
  if (!isPageSize(h.pageSize)) return `page size ${h.pageSize} is not one of SQLite's`;
  if (!isUint32(h.commit)) return `database size ${h.commit} is not a page count`;
  if (!Number.isSafeInteger(h.minTxid) || h.minTxid < 1) return `minimum TXID ${h.minTxid} is not a transaction number`;
  if (!Number.isSafeInteger(h.maxTxid) || h.maxTxid < 1) return `maximum TXID ${h.maxTxid} is not a transaction number`;
  if (h.minTxid > h.maxTxid) return `TXIDs are out of order: ${h.minTxid} to ${h.maxTxid}`;
  if (!Number.isSafeInteger(h.timestamp)) return `timestamp ${h.timestamp} is not a time`;
  if (!Number.isSafeInteger(h.walOffset) || h.walOffset < 0) return `WAL offset ${h.walOffset} is not a file offset`;
  if (!Number.isSafeInteger(h.walSize) || h.walSize < 0) return `WAL size ${h.walSize} is not a size`;
  if (!isUint32(h.walSalt1) || !isUint32(h.walSalt2)) return "a WAL salt is not a 32-bit number";
  if (h.walOffset === 0 && (h.walSalt1 !== 0 || h.walSalt2 !== 0)) return "WAL salts without a WAL offset";
  if (h.walOffset === 0 && h.walSize !== 0) return "WAL size without a WAL offset";
  if (BigInt.asUintN(64, h.nodeId) !== h.nodeId) return "the node id is not a 64-bit number";
  if (BigInt.asUintN(64, h.preApplyChecksum) !== h.preApplyChecksum) return "the pre-apply checksum is not a 64-bit number";
  if (isSnapshot(h)) return h.preApplyChecksum === 0n ? undefined : "a snapshot has a pre-apply checksum";
  if ((h.flags & FLAG_NO_CHECKSUM) !== 0) return h.preApplyChecksum === 0n ? undefined : "a pre-apply checksum although checksums are not tracked";
  if ((h.preApplyChecksum & CHECKSUM_FLAG) === 0n) return "the pre-apply checksum is missing or malformed";
  return undefined;
}

function isUint32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
}
