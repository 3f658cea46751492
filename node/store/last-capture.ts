/**
 * What a node does with a database that it wrote last as the primary, before it follows somebody else: what its applications committed gets
 * into the log, so that it is compared with the new primary's history like everything else.
 *
 * Always holds: nobody writes to the database meanwhile: the mount does not serve yet, or (`live`) the fence is held. A transaction that was
 * under way when its program died is rolled back first, as SQLite does it at the next open: on a follower no SQLite may.
 */
import fs from "node:fs";
import { files } from "../io/files.ts";
import { forEachSavedPage, decodeJournalHeader, JOURNAL_HEADER_SIZE } from "../sqlite/journal.ts";
import type { Database } from "./database.ts";
import { Primary } from "./primary.ts";

export async function captureLast(database: Database, live: boolean, report: (message: string, error: unknown) => void): Promise<void> {
  const { paths } = database;
  if (database.deleted || !fs.existsSync(paths.database)) return;
  if (live) {
    // Programs have it open, and may be reading: what a dead writer left is for the follower's side to judge.
    if ((files.sizeOf(paths.journal) ?? 0) > 0) return;
  } else {
    rollBack(database);
    // A wal-index is a cache that any SQLite rebuilds; one that was left behind may be older than the WAL.
    files.unlink("store:shm", paths.shm);
  }
  const primary = new Primary(database, report);
  try {
    primary.resume(live);
    if (database.distrust === undefined) await primary.flush();
    else await primary.diff(database.distrust);
  } finally {
    primary.close();
  }
}

/** Puts back the pages that a hot journal saved, and the size. The journal goes aside: what is in it was never committed, but nothing is deleted on doubt. */
function rollBack(owner: Database): void {
  const { paths } = owner;
  const size = files.sizeOf(paths.journal) ?? 0;
  if (size === 0) return;
  const journal = files.open("rollback:journal", paths.journal, "r");
  try {
    const read = (buffer: Buffer, offset: number): number => files.read("rollback:journal", journal, buffer, 0, buffer.length, offset);
    const head = Buffer.alloc(JOURNAL_HEADER_SIZE);
    const header = read(head, 0) === head.length ? decodeJournalHeader(head) : undefined;
    // Zeroed, or not synced yet: then nothing was written to the database. A kept journal (PERSIST) is such a one.
    if (header === undefined) return;
    const database = files.open("rollback:database", paths.database, "r+");
    try {
      forEachSavedPage(read, size, (pgno, page) => files.write("rollback:database", database, page, 0, page.length, (pgno - 1) * page.length));
      files.truncate("rollback:database", database, header.initialPages * header.pageSize);
      files.fdatasyncNow("rollback:sync", database);
    } finally {
      fs.closeSync(database);
    }
  } finally {
    fs.closeSync(journal);
  }
  owner.setAside(paths.journal, "a transaction that its program did not finish was rolled back, because this node follows another one now");
}
