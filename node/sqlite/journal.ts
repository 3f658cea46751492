/**
 * The rollback journal: the old content of every page that a transaction changes, saved before the page is overwritten
 * (https://www.sqlite.org/fileformat2.html, section 3).
 *
 * Always holds: the pages found are all that the journal saves, perhaps more, never fewer; where that cannot be said the answer is
 * undefined. More is harmless, because checksums decide afterwards what really changed. Nothing here judges whether a journal is hot.
 *
 * Segment header, padded to a whole sector          Record
 * | offset | size | field                           | offset | size     | field
 * | 0      | 8    | magic; zero until first synced  | 0      | 4        | page number
 * | 8      | 4    | records, 0xffffffff: to the end | 4      | pageSize | the page as it was
 * | 12     | 4    | nonce of the checksums          | +4     | 4        | checksum
 * | 16     | 4    | pages of the database before
 * | 20     | 4    | sector size
 * | 24     | 4    | page size
 *
 * A transaction that outgrows the cache begins a new segment at the next sector boundary each time it syncs the journal. With
 * synchronous=OFF there is one segment, which goes on to the end of the file. At the end there may be the name of a super-journal; its
 * first four bytes are the number of the lock page, which no record has.
 */
import { isPageSize, lockPgno } from "./database-header.ts";
import type { ReadAt } from "./read-at.ts";

export const JOURNAL_MAGIC: Buffer = Buffer.from("d9d505f920a163d7", "hex");
export const JOURNAL_HEADER_SIZE = 28;
/** nRec of a journal that is not synced: count by the size of the file. */
export const RECORDS_TO_END = 0xffffffff;

export interface JournalHeader {
  readonly nRec: number;
  readonly nonce: number;
  /** Pages of the database when the transaction began. */
  readonly initialPages: number;
  readonly sectorSize: number;
  readonly pageSize: number;
}

/** The header of a segment, or undefined when the magic or a size is wrong: a finished, an empty, or a not yet synced journal. */
export function decodeJournalHeader(bytes: Buffer): JournalHeader | undefined {
  if (bytes.length < JOURNAL_HEADER_SIZE || bytes.compare(JOURNAL_MAGIC, 0, 8, 0, 8) !== 0) return undefined;
  return decodeFields(bytes);
}

/** Page numbers of all records of all segments. `header` stands in for a first header that the end of a transaction has zeroed. */
export function journalPages(read: ReadAt, fileSize: number, header?: JournalHeader): Set<number> | undefined {
  const pages = new Set<number>();
  const complete = forEachRecord(read, fileSize, header, (pgno) => {
    pages.add(pgno);
    return true;
  });
  return complete ? pages : undefined;
}

/**
 * The page as it was before the transaction: the first record that saves it. Undefined when none does. A record with a wrong checksum is left over from
 * another transaction, in a journal that is kept (PERSIST) and now goes on to the end of the file (synchronous=OFF): what it saved is older.
 */
export function originalPage(read: ReadAt, fileSize: number, pgno: number, header?: JournalHeader): Buffer | undefined {
  let found: Buffer | undefined;
  forEachRecord(read, fileSize, header, (recordPgno, offset, pageSize, nonce) => {
    if (recordPgno !== pgno) return true;
    const record = Buffer.alloc(pageSize + 4);
    if (read(record, offset + 4) < record.length || record.readUInt32BE(pageSize) !== recordChecksum(nonce, record.subarray(0, pageSize))) return true;
    found = record.subarray(0, pageSize);
    return false;
  });
  return found;
}

/**
 * Calls `restore` with the original of every page that a rollback must put back: records whose checksum is not right were not written whole,
 * and SQLite ends there, because the database was not touched before the journal was synced.
 */
export function forEachSavedPage(read: ReadAt, fileSize: number, restore: (pgno: number, page: Buffer) => void): void {
  const first = headerAt(read, 0, fileSize);
  if (first === undefined) return;
  const seen = new Set<number>();
  const record = Buffer.alloc(first.pageSize + 4);
  forEachRecord(read, fileSize, undefined, (pgno, offset, pageSize, nonce) => {
    if (read(record, offset + 4) < record.length || record.readUInt32BE(pageSize) !== recordChecksum(nonce, record.subarray(0, pageSize))) return false;
    // The first record is the oldest, as SQLite plays back each page once.
    if (!seen.has(pgno)) restore(pgno, record.subarray(0, pageSize));
    seen.add(pgno);
    return true;
  });
}

/** Every 200th byte from the end, added to the nonce: SQLite's pager_cksum(). */
function recordChecksum(nonce: number, page: Buffer): number {
  let sum = nonce;
  for (let at = page.length - 200; at > 0; at -= 200) sum = (sum + page[at]!) >>> 0;
  return sum;
}

const WINDOW_SIZE = 65536;

/** Calls `visit` for each record until it says false. False when the journal could not be read to its end. */
function forEachRecord(
  read: ReadAt, fileSize: number, standIn: JournalHeader | undefined, visit: (pgno: number, offset: number, pageSize: number, nonce: number) => boolean,
): boolean {
  const first = headerAt(read, 0, fileSize) ?? standIn;
  if (first === undefined) return false;
  const recordSize = first.pageSize + 8;
  const lockPage = lockPgno(first.pageSize);
  // Only the page numbers are of interest; with large pages four bytes at a time are cheaper than everything between them.
  const perWindow = Math.max(1, Math.floor(WINDOW_SIZE / recordSize));
  const window = Buffer.allocUnsafe(perWindow === 1 ? 4 : perWindow * recordSize);

  let segment: JournalHeader | undefined = first;
  for (let offset = 0; segment !== undefined; ) {
    const start: number = offset + first.sectorSize;
    const room = Math.max(0, Math.floor((fileSize - start) / recordSize));
    let count: number = segment.nRec;
    // A segment that was begun and not yet synced has 0 records on paper; so has one that saves nothing, which is followed by the next.
    if (count === RECORDS_TO_END || (count === 0 && nextSegment(read, start, fileSize, first) === undefined)) count = room;
    if (count > room) return false;

    for (let done = 0; done < count; ) {
      const n = Math.min(perWindow, count - done);
      const at = start + done * recordSize;
      const wanted = perWindow === 1 ? 4 : n * recordSize;
      if (read(window.subarray(0, wanted), at) < wanted) return false;
      for (let i = 0; i < n; i++) {
        const pgno = window.readUInt32BE(i * recordSize);
        if (pgno === 0 || pgno === lockPage) return true;
        // What lies behind the end of this transaction in a journal that is kept (PERSIST) may be anything.
        if (pgno <= first.initialPages && !visit(pgno, at + i * recordSize, first.pageSize, segment.nonce)) return true;
      }
      done += n;
    }
    offset = Math.ceil((start + count * recordSize) / first.sectorSize) * first.sectorSize;
    segment = nextSegment(read, offset, fileSize, first);
  }
  return true;
}

/** The header of a further segment at `offset`: one with its magic, or one that was not synced yet and agrees with the first. */
function nextSegment(read: ReadAt, offset: number, fileSize: number, first: JournalHeader): JournalHeader | undefined {
  const bytes = bytesAt(read, offset, fileSize);
  if (bytes === undefined) return undefined;
  const header = decodeJournalHeader(bytes) ?? (bytes.readBigUInt64BE(0) === 0n && bytes.readUInt32BE(8) === 0 ? decodeFields(bytes) : undefined);
  const fits = header !== undefined && header.pageSize === first.pageSize && header.sectorSize === first.sectorSize && header.initialPages === first.initialPages;
  return fits ? header : undefined;
}

function headerAt(read: ReadAt, offset: number, fileSize: number): JournalHeader | undefined {
  const bytes = bytesAt(read, offset, fileSize);
  return bytes === undefined ? undefined : decodeJournalHeader(bytes);
}

function bytesAt(read: ReadAt, offset: number, fileSize: number): Buffer | undefined {
  const bytes = Buffer.alloc(JOURNAL_HEADER_SIZE);
  return offset + JOURNAL_HEADER_SIZE <= fileSize && read(bytes, offset) === JOURNAL_HEADER_SIZE ? bytes : undefined;
}

function decodeFields(bytes: Buffer): JournalHeader | undefined {
  const header: JournalHeader = {
    nRec: bytes.readUInt32BE(8),
    nonce: bytes.readUInt32BE(12),
    initialPages: bytes.readUInt32BE(16),
    sectorSize: bytes.readUInt32BE(20),
    pageSize: bytes.readUInt32BE(24),
  };
  const { sectorSize, pageSize } = header;
  const sane = isPageSize(pageSize) && sectorSize >= 32 && sectorSize <= 65536 && (sectorSize & (sectorSize - 1)) === 0;
  return sane ? header : undefined;
}
