/**
 * Owner and permissions of a database file, as they travel with it.
 *
 * Always holds: a database that comes into being on a follower has the owner and mode that it has on the primary, and so have its `-wal` and
 * `-shm`, as SQLite makes them; otherwise an application that does not run as root could not open it there. Numbers travel, not names. A file
 * that is replaced keeps what an operator gave it on that node.
 */
import fs from "node:fs";

export interface Ownership {
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** What a file has; undefined when there is none. */
export function ownershipOf(path: string): Ownership | undefined {
  const stat = fs.statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : { mode: stat.mode & 0o777, uid: stat.uid, gid: stat.gid };
}

/** Gives a file this owner and mode. Owner first, because a change of owner clears mode bits. */
export function giveOwnership(path: string, { mode, uid, gid }: Ownership): void {
  fs.chownSync(path, uid, gid);
  fs.chmodSync(path, mode);
}
