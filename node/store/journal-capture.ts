/**
 * Which pages a transaction with a rollback journal may have changed.
 *
 * SQLite saves the original of a page in the journal before it changes it, with two exceptions: pages past the old end of the database have
 * no original, and leaves of the freelist hold nothing worth saving, so a transaction may reuse them unjournaled. The candidates are
 * therefore: the pages in the journal, the pages past the old end, and the leaves of the freelist as it was before (whose trunks are read
 * from the journal where it has them). Too many candidates cost time; too few would lose data, so doubt ends in a diff.
 */
import fs from "node:fs";
import { pageChecksum } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { freelistLeaves } from "../sqlite/freelist.ts";
import { journalPages, originalPage, type JournalHeader } from "../sqlite/journal.ts";
import { databasePageCount, lockPgno, readDatabaseHeader } from "../sqlite/database-header.ts";
import type { Database } from "./database.ts";

export interface Candidates {
  readonly pageSize: number;
  readonly pageCount: number;
  /** Ascending, without the lock page, none above pageCount. */
  readonly pages: readonly number[];
}

/** The candidates at the moment a journal ends; undefined when only a diff can tell. */
export function journalCandidates(database: Database, zeroedHeader: JournalHeader | undefined): Candidates | undefined {
  const { paths } = database;
  const size = files.sizeOf(paths.journal);
  if (size === undefined || !fs.existsSync(paths.database)) return { pageSize: database.pageSize, pageCount: database.sums.pageCount, pages: [] };
  const databaseFd = files.open("capture:database", paths.database, "r");
  const journalFd = files.open("capture:journal", paths.journal, "r");
  try {
    const head = Buffer.alloc(100);
    files.read("capture:database", databaseFd, head, 0, 100, 0);
    const header = readDatabaseHeader(head);
    const fileSize = files.size(databaseFd);
    if (fileSize === 0) return database.sums.pageCount === 0 ? { pageSize: database.pageSize, pageCount: 0, pages: [] } : undefined;
    if (header === undefined || (database.pageSize !== 0 && header.pageSize !== database.pageSize)) return undefined;
    const { pageSize } = header;
    const pageCount = databasePageCount(header, fileSize);
    const lock = lockPgno(pageSize);
    const read = (buffer: Buffer, offset: number): number => files.read("capture:journal", journalFd, buffer, 0, buffer.length, offset);
    if (database.position.txid === 0) return { pageSize, pageCount, pages: [...database.allPages(pageCount, pageSize)] };
    // A journal without any header was created and never written: nothing was changed.
    if (size === 0) return { pageSize, pageCount, pages: [] };
    const journaled = journalPages(read, size, zeroedHeader);
    if (journaled === undefined) return undefined;
    const pages = new Set<number>([1, ...journaled]);
    for (let pgno = database.sums.pageCount + 1; pgno <= pageCount; pgno++) pages.add(pgno);
    const before = (pgno: number): Buffer => originalPage(read, size, pgno, zeroedHeader) ?? pageOfFile(databaseFd, pgno, pageSize);
    // Every transaction changes page 1. If the journal saved another one than the log has, a commit came before that gave no signal
    // (PERSIST with synchronous=OFF, MEMORY, OFF), and its pages are not among these.
    const oldFirst = before(1);
    if (journaled.size > 0 && pageChecksum(1, oldFirst) !== database.sums.get(1)) return undefined;
    const oldHeader = readDatabaseHeader(oldFirst.subarray(0, 100));
    if (oldHeader !== undefined && oldHeader.freelistCount > 0) {
      const leaves = freelistLeaves(before, oldHeader.freelistTrunk, oldHeader.freelistCount, database.sums.pageCount);
      if (leaves === undefined) return undefined;
      for (const pgno of leaves) pages.add(pgno);
    }
    const usable = [...pages].filter((pgno) => pgno >= 1 && pgno <= pageCount && pgno !== lock);
    return { pageSize, pageCount, pages: usable.sort((a, b) => a - b) };
  } finally {
    fs.closeSync(journalFd);
    fs.closeSync(databaseFd);
  }
}

function pageOfFile(fd: number, pgno: number, pageSize: number): Buffer {
  const page = Buffer.alloc(pageSize);
  files.read("capture:database", fd, page, 0, pageSize, (pgno - 1) * pageSize);
  return page;
}
