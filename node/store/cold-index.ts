/**
 * Spares readers a system call: while `nPage` in the wal-index is 0 (a database just opened, its WAL empty), SQLite asks for the size of the
 * database file in every read transaction, and on a FUSE mount that is a request, twenty times the cost of the read itself.
 *
 * Always holds: what is published is the state that SQLite itself leaves after it has restarted a WAL: no frames, and the size of the database.
 * It is written under the WRITE lock, which is asked for once and given back within microseconds; if anybody holds it, nothing happens. DMS is
 * held shared meanwhile, so that nobody begins the wal-index anew under our hands.
 */
import fs from "node:fs";
import { files } from "../io/files.ts";
import { ofdTryLock } from "../native/libc.ts";
import { readDatabaseHeader } from "../sqlite/database-header.ts";
import { WAL_DMS_LOCK, WAL_WRITE_LOCK } from "../sqlite/lock-bytes.ts";
import { WAL_INDEX_HEADER_B, WAL_INDEX_PREFIX_SIZE, decodeWalIndexHeader, encodeWalIndexHeader } from "../sqlite/wal-index.ts";
import type { DatabasePaths } from "./names.ts";

/** "done": there is nothing (more) to do. "later": no valid wal-index yet, or a writer was in the way. */
export type ColdIndexOutcome = "done" | "later";

/** `lockFd`: the `-shm` opened on the mount, for writing. The caller closes it. */
export function publishSize(paths: DatabasePaths, lockFd: number): ColdIndexOutcome {
  // Where the kernel keeps pages of the mount's file of its own, only these are the wal-index.
  const shm = paths.mount === undefined ? files.open("cold:shm", paths.shm, "r+") : lockFd;
  try {
    const prefix = Buffer.alloc(WAL_INDEX_PREFIX_SIZE);
    const read = (): ReturnType<typeof decodeWalIndexHeader> | undefined =>
      files.read("cold:shm", shm, prefix, 0, prefix.length, 0) === prefix.length ? decodeWalIndexHeader(prefix) : undefined;
    const before = read();
    if (before === undefined || !before.valid) return "later";
    if (before.mxFrame !== 0 || before.nPage !== 0) return "done";
    if (!ofdTryLock(lockFd, "read", WAL_DMS_LOCK.start, WAL_DMS_LOCK.length)) return "later";
    try {
      if (!ofdTryLock(lockFd, "write", WAL_WRITE_LOCK.start, WAL_WRITE_LOCK.length)) return "later";
      try {
        return write(paths, shm, read());
      } finally {
        ofdTryLock(lockFd, "unlock", WAL_WRITE_LOCK.start, WAL_WRITE_LOCK.length);
      }
    } finally {
      ofdTryLock(lockFd, "unlock", WAL_DMS_LOCK.start, WAL_DMS_LOCK.length);
    }
  } finally {
    if (shm !== lockFd) fs.closeSync(shm);
  }
}

function write(paths: DatabasePaths, shm: number, index: ReturnType<typeof decodeWalIndexHeader> | undefined): ColdIndexOutcome {
  if (index === undefined || !index.valid) return "later";
  if (index.mxFrame !== 0 || index.nPage !== 0) return "done";
  const database = files.open("cold:database", paths.database, "r");
  try {
    const head = Buffer.alloc(100);
    files.read("cold:database", database, head, 0, 100, 0);
    const header = readDatabaseHeader(head);
    if (header === undefined) return "done";
    // What SQLite works out from fstat in this state.
    const nPage = Math.floor(files.size(database) / header.pageSize);
    const bytes = encodeWalIndexHeader({ ...index, nPage });
    files.write("cold:shm", shm, bytes, 0, bytes.length, WAL_INDEX_HEADER_B);
    files.write("cold:shm", shm, bytes, 0, bytes.length, 0);
    return "done";
  } finally {
    fs.closeSync(database);
  }
}
