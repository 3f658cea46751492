/**
 * The bytes on which SQLite takes its POSIX locks: in the database file for all journal modes, in the `-shm` for WAL.
 *
 * Always holds: names and numbers are SQLite's own (os.h and wal.c). The bytes need not exist; a lock is only a range.
 */

/** A range of bytes for fcntl: `start` and `length` in bytes. */
export interface LockRange {
  readonly start: number;
  readonly length: number;
}

const range = (start: number, length = 1): LockRange => ({ start, length });

// In the database file.

/** Held exclusively by a writer that waits for readers to leave: no new reader starts. The page that holds it is never used. */
export const PENDING_LOCK: LockRange = range(0x40000000);
/** Held exclusively by the one connection that prepares a write; readers go on. */
export const RESERVED_LOCK: LockRange = range(0x40000001);
/** Held shared by every reader (in WAL mode for the life of a connection), exclusively by whoever changes the file with a journal. */
export const SHARED_LOCK: LockRange = range(0x40000002, 510);

// In the -shm.

/** Held exclusively by the one writer of the WAL. */
export const WAL_WRITE_LOCK: LockRange = range(120);
/** Held exclusively while a checkpoint copies frames into the database. */
export const WAL_CKPT_LOCK: LockRange = range(121);
/** Held exclusively while the wal-index is rebuilt from the WAL. */
export const WAL_RECOVER_LOCK: LockRange = range(122);
/** Held shared by readers that use only the database file; exclusively by a checkpoint that changes it. */
export const WAL_READ_LOCK0: LockRange = range(123);
/** Readers 1 to 4 use the WAL up to their read mark; exclusively: to move the mark. All four exclusively: to restart the WAL. */
export const WAL_READ_LOCK1: LockRange = range(124);
export const WAL_READ_LOCK2: LockRange = range(125);
export const WAL_READ_LOCK3: LockRange = range(126);
export const WAL_READ_LOCK4: LockRange = range(127);
/** READ1 to READ4 in one range, as a restart of the WAL takes them. */
export const WAL_READ_LOCKS_1_TO_4: LockRange = range(124, 4);
/** Dead man's switch: held shared by everyone who has the -shm open; whoever gets it exclusively is alone and truncates the -shm. */
export const WAL_DMS_LOCK: LockRange = range(128);
