/**
 * The 100 bytes at the start of a SQLite database file (https://www.sqlite.org/fileformat2.html, section 1.3).
 *
 * Always holds: reading is total: any bytes give a header or undefined, never an error. Fields are big-endian.
 */

export const DATABASE_HEADER_SIZE = 100;
/** The first byte of the lock range; the page that holds it is never written by SQLite. */
export const PENDING_BYTE = 0x40000000;
const MAGIC = Buffer.from("SQLite format 3\0", "latin1");

export interface DatabaseHeader {
  /** Bytes: 512 to 65536, a power of two. */
  readonly pageSize: number;
  /** 1 rollback journal, 2 WAL. */
  readonly writeVersion: number;
  readonly readVersion: number;
  /** Unused bytes at the end of each page. */
  readonly reservedBytes: number;
  /** Raised by each transaction in rollback mode. */
  readonly changeCounter: number;
  /** Size of the database in pages; to be believed only when changeCounter equals versionValidFor. */
  readonly pageCount: number;
  /** First trunk page of the freelist, 0 for none. */
  readonly freelistTrunk: number;
  /** Pages in the freelist, trunks included. */
  readonly freelistCount: number;
  readonly schemaCookie: number;
  /** Not 0 for a database with auto_vacuum. */
  readonly largestRootPage: number;
  readonly textEncoding: number;
  readonly userVersion: number;
  readonly applicationId: number;
  readonly versionValidFor: number;
  readonly sqliteVersion: number;
}

/** Whether `size` is a page size of SQLite. */
export function isPageSize(size: number): boolean {
  return size >= 512 && size <= 65536 && (size & (size - 1)) === 0;
}

/** The page that holds PENDING_BYTE; it is in no transaction file and in no checksum. */
export function lockPgno(pageSize: number): number {
  return PENDING_BYTE / pageSize + 1;
}

/** Whether these are the first bytes (100 or more) of a SQLite database. An empty file is a database too, but not for this function. */
export function isDatabaseHeader(bytes: Uint8Array): boolean {
  return readDatabaseHeader(bytes) !== undefined;
}

/** The header, or undefined when the bytes are too few, or are not those of a SQLite database. */
export function readDatabaseHeader(bytes: Uint8Array): DatabaseHeader | undefined {
  if (bytes.length < DATABASE_HEADER_SIZE) return undefined;
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, DATABASE_HEADER_SIZE);
  if (b.compare(MAGIC, 0, 16, 0, 16) !== 0) return undefined;
  const raw = b.readUInt16BE(16);
  const header: DatabaseHeader = {
    pageSize: raw === 1 ? 65536 : raw,
    writeVersion: b.readUInt8(18),
    readVersion: b.readUInt8(19),
    reservedBytes: b.readUInt8(20),
    changeCounter: b.readUInt32BE(24),
    pageCount: b.readUInt32BE(28),
    freelistTrunk: b.readUInt32BE(32),
    freelistCount: b.readUInt32BE(36),
    schemaCookie: b.readUInt32BE(40),
    largestRootPage: b.readUInt32BE(52),
    textEncoding: b.readUInt32BE(56),
    userVersion: b.readUInt32BE(60),
    applicationId: b.readUInt32BE(68),
    versionValidFor: b.readUInt32BE(92),
    sqliteVersion: b.readUInt32BE(96),
  };
  // The payload fractions are fixed by the format: three more bytes by which a text file with the right first line is told apart.
  if (!isPageSize(header.pageSize) || b.readUInt8(21) !== 64 || b.readUInt8(22) !== 32 || b.readUInt8(23) !== 32) return undefined;
  return header;
}

/** Whether the file holds as many pages as its header says, where that can be believed: a copy that has only begun does not. */
export function isComplete(header: DatabaseHeader, fileSize: number): boolean {
  return header.changeCounter !== header.versionValidFor || header.pageCount * header.pageSize <= fileSize;
}

/**
 * Pages of a database that is not in WAL mode: what its header says, where the header can be believed (written by a SQLite that keeps the
 * count, and not more than the file has), else what the file has. The two differ after a commit that shrinks the database: the
 * rollback journal ends, which is the commit, before the file is cut (pager_end_transaction).
 */
export function databasePageCount(header: DatabaseHeader, fileSize: number): number {
  const inFile = Math.floor(fileSize / header.pageSize);
  return header.pageCount > 0 && header.changeCounter === header.versionValidFor && header.pageCount <= inFile ? header.pageCount : inFile;
}
