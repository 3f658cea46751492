/**
 * The first frame of a WAL that an application has just created: page 1, as it is.
 *
 * Always holds: it is written before the application's system call returns, into a file that nobody else can have open, so no lock is needed and
 * none is taken; the frame says what the database file says already, so it is no transaction and may be lost. It exists because SQLite asks
 * for the size of the database file in every read transaction while a WAL holds nothing; on a mount that is a request, and reads right
 * after opening would be twenty times slower than on any other file system. With a frame in it the size stands in the wal-index.
 */
import fs from "node:fs";
import { randomBytes } from "node:crypto";
import { pageChecksum, walChecksum } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { databasePageCount, readDatabaseHeader } from "../sqlite/database-header.ts";
import { FRAME_HEADER_SIZE, WAL_HEADER_SIZE, decodeWalHeader, encodeWalHeader, writeFrameHeader } from "../sqlite/wal.ts";
import type { Database } from "./database.ts";
import type { WalPoint } from "./wal-capture.ts";

/** `writeVersion` and `readVersion` of the header (offsets 18 and 19) of a database in WAL mode. */
const IN_WAL_MODE = 2;

/**
 * Puts page 1 into the empty `-wal` of a database that is in the log as it is on disk, and returns where capture goes on: behind it, for it is no
 * transaction. Undefined, and nothing done, where any of that is not so.
 */
export function openWithFirstPage({ paths, position, pageSize, sums }: Pick<Database, "paths" | "position" | "pageSize" | "sums">): WalPoint | undefined {
  if (position.txid === 0 || pageSize === 0 || files.sizeOf(paths.wal) !== 0) return undefined;
  // A wal-index or a journal beside it: this is not the first opener's doing, or not what it seems.
  if ((files.sizeOf(paths.shm) ?? 0) > 0 || (files.sizeOf(paths.journal) ?? 0) > 0) return undefined;
  const page = Buffer.alloc(pageSize);
  let size: number;
  const database = files.open("open-wal:database", paths.database, "r");
  try {
    size = files.size(database);
    if (files.read("open-wal:database", database, page, 0, pageSize, 0) < pageSize) return undefined;
  } finally {
    fs.closeSync(database);
  }
  const header = readDatabaseHeader(page.subarray(0, 100));
  if (header === undefined || header.pageSize !== pageSize || page[18] !== IN_WAL_MODE || page[19] !== IN_WAL_MODE) return undefined;
  const pageCount = databasePageCount(header, size);
  if (pageCount !== sums.pageCount || size !== pageCount * pageSize || pageChecksum(1, page) !== sums.get(1)) return undefined;
  const wal = files.open("open-wal:wal", paths.wal, "r+");
  try {
    const { bytes, point } = walOfPage(page, pageCount);
    files.write("open-wal:wal", wal, bytes, 0, bytes.length, 0);
    return point;
  } catch (error) {
    // Without space for one page SQLite would not get far either; it will say so itself.
    files.truncate("open-wal:wal", wal, 0);
    throw error;
  } finally {
    fs.closeSync(wal);
  }
}

/** A WAL of one committed frame. */
function walOfPage(page: Buffer, pageCount: number): { bytes: Buffer; point: WalPoint } {
  const salts = randomBytes(8);
  const head = decodeWalHeader(encodeWalHeader({ pageSize: page.length, sequence: 0, salt1: salts.readUInt32BE(0), salt2: salts.readUInt32BE(4) }))!;
  const bytes = Buffer.alloc(WAL_HEADER_SIZE + FRAME_HEADER_SIZE + page.length);
  encodeWalHeader(head).copy(bytes);
  const checksum = { ...head.checksum };
  const frame = { pgno: 1, commit: pageCount, salt1: head.salt1, salt2: head.salt2, checksum };
  writeFrameHeader(bytes, WAL_HEADER_SIZE, frame);
  walChecksum(bytes.subarray(WAL_HEADER_SIZE, WAL_HEADER_SIZE + 8), checksum);
  walChecksum(page, checksum);
  writeFrameHeader(bytes, WAL_HEADER_SIZE, frame);
  page.copy(bytes, WAL_HEADER_SIZE + FRAME_HEADER_SIZE);
  return { bytes, point: { salt1: head.salt1, salt2: head.salt2, frame: 1, checksum, iChange: undefined } };
}
