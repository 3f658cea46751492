/**
 * Who holds SQLite's locks on a file of the mount, asked without taking one.
 *
 * POSIX and OFD locks of a passthrough file live on its FUSE inode, and /proc/locks lists every lock of the machine by device and inode. The
 * primary must never make an application see SQLITE_BUSY, so it asks here rather than trying a lock.
 */
import { readFileSync } from "node:fs";
import { PENDING_BYTE } from "../sqlite/database-header.ts";

export interface HeldLock {
  readonly kind: "read" | "write";
  readonly start: number;
  readonly end: number;
}

/** Locks on inode `inode` of any device. Inode numbers are those of the backing files, which the mount shows too. */
export function locksOf(inode: number, text = readFileSync("/proc/locks", "latin1")): HeldLock[] {
  const held: HeldLock[] = [];
  for (const line of text.split("\n")) {
    // "1: POSIX  ADVISORY  WRITE 1234 00:2f:5678 1073741826 1073742335"; a waiter has "->" after the number.
    const fields = line.trim().split(/\s+/);
    if (fields[1] === "->" || fields.length < 8) continue;
    if (Number(fields[5]!.slice(fields[5]!.lastIndexOf(":") + 1)) !== inode) continue;
    held.push({ kind: fields[3] === "WRITE" ? "write" : "read", start: Number(fields[6]), end: fields[7] === "EOF" ? Infinity : Number(fields[7]) });
  }
  return held;
}

/** Whether somebody may be changing the pages of a rollback-mode database now: PENDING or EXCLUSIVE is held. */
export function isWriting(inode: number): boolean {
  return locksOf(inode).some(({ kind, start, end }) => kind === "write" && start <= PENDING_BYTE + 511 && end >= PENDING_BYTE && !(start === PENDING_BYTE + 1 && end === PENDING_BYTE + 1));
}
