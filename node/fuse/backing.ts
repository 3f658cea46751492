/**
 * The operations on backing files that either thread may perform: attributes, and taking a name away without losing an open file.
 *
 * Always holds: a file that a program has open when its name goes is kept under `runDir/unlinked/<inode number>` until its last close,
 * because a new engine must be able to find it again; on a file system that refuses that, it lives on only as long as this engine. Calls
 * are synchronous and throw system errors.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import * as abi from "./abi.ts";
import { isJournal } from "./policy.ts";
import type { Request } from "./wire.ts";

/** Sets times to the nanosecond; "now" and "omit" as utimensat(2) has them. Only the main thread can. */
export type SetTimes = (path: string, atime: bigint | "now" | "omit", mtime: bigint | "now" | "omit") => void;

/** A SETATTR request, decoded. */
export interface AttributeChange {
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly size: number | undefined;
  readonly atime: bigint | "now" | undefined;
  readonly mtime: bigint | "now" | undefined;
  /** The set-user-id and set-group-id bits must go, as after any write by another. */
  readonly dropPrivileges: boolean;
}

export function readAttributeChange(request: Request): AttributeChange {
  const field = abi.fuse_setattr_in;
  const valid = request.u32(field.valid);
  const time = (bit: number, nowBit: number, seconds: number, rest: number): bigint | "now" | undefined => {
    if ((valid & bit) === 0) return undefined;
    if ((valid & nowBit) !== 0) return "now";
    return BigInt.asIntN(64, request.data(seconds, 8).readBigUInt64LE(0)) * 1_000_000_000n + BigInt(request.u32(rest));
  };
  return {
    mode: valid & abi.FATTR_MODE ? request.u32(field.mode) & 0o7777 : undefined,
    uid: valid & abi.FATTR_UID ? request.u32(field.uid) : undefined,
    gid: valid & abi.FATTR_GID ? request.u32(field.gid) : undefined,
    size: valid & abi.FATTR_SIZE ? request.u64(field.size) : undefined,
    atime: time(abi.FATTR_ATIME, abi.FATTR_ATIME_NOW, field.atime, field.atimensec),
    mtime: time(abi.FATTR_MTIME, abi.FATTR_MTIME_NOW, field.mtime, field.mtimensec),
    dropPrivileges: (valid & abi.FATTR_KILL_SUIDGID) !== 0,
  };
}

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o10;

/** What is left of a mode when a write takes its privileges away: set-group-id without group execute means locking and stays. */
export function withoutPrivileges(mode: number): number {
  return mode & ~S_ISUID & ~((mode & S_IXGRP) !== 0 ? S_ISGID : 0);
}

/** Clears the privilege bits of a file, where it has any. */
export function dropPrivileges(file: string): void {
  const mode = fs.lstatSync(file).mode & 0o7777;
  const kept = withoutPrivileges(mode);
  if (kept !== mode) fs.chmodSync(file, kept);
}

/** Performs a change on a backing file. Owner before mode, since a change of owner clears mode bits; size last, as it is what is asked for. */
export function applyAttributes(file: string, change: AttributeChange, setTimes: SetTimes | undefined): void {
  if (change.uid !== undefined || change.gid !== undefined) {
    const unchanged = 0xffffffff; // (uid_t) -1
    if (!isJournal(file) || !changesNothing(file, change)) fs.lchownSync(file, change.uid ?? unchanged, change.gid ?? unchanged);
  }
  if (change.mode !== undefined && (fs.lstatSync(file).mode & S_IFMT) !== S_IFLNK) fs.chmodSync(file, change.mode);
  if (change.size !== undefined) fs.truncateSync(file, change.size);
  if (change.dropPrivileges) dropPrivileges(file);
  if (change.atime !== undefined || change.mtime !== undefined) setTimes?.(file, change.atime ?? "omit", change.mtime ?? "omit");
}

/** Whether the owner is the one that is asked for already, and there are no privilege bits to take: SQLite under root asks so with every journal. */
function changesNothing(file: string, { uid, gid }: AttributeChange): boolean {
  const stat = fs.lstatSync(file);
  return (uid ?? stat.uid) === stat.uid && (gid ?? stat.gid) === stat.gid && withoutPrivileges(stat.mode) === stat.mode;
}

/** Where files live on that lost their name while a program had them open. */
export function unlinkedFolder(runDir: string): string {
  return join(runDir, "unlinked");
}

export function asidePath(runDir: string, id: number): string {
  return join(unlinkedFolder(runDir), String(id));
}

/** Removes a name; with `keep` the file itself lives on aside. Returns whether it does. */
export function removeName(runDir: string, file: string, id: number, keep: boolean): boolean {
  if (keep) {
    try {
      fs.renameSync(file, asidePath(runDir, id));
      return true;
    } catch (error) {
      if (!isRefusalToKeep(error)) throw error;
    }
  }
  fs.unlinkSync(file);
  return false;
}

/** rename(2), keeping the file that is replaced aside where a program has it open. Returns whether it was kept. */
export function replaceName(runDir: string, from: string, to: string, replaced: { id: number; keep: boolean } | undefined): boolean {
  let kept = false;
  if (replaced?.keep === true) {
    try {
      fs.linkSync(to, asidePath(runDir, replaced.id));
      kept = true;
    } catch (error) {
      if (!isRefusalToKeep(error)) throw error;
    }
  }
  try {
    fs.renameSync(from, to);
  } catch (error) {
    if (kept && replaced !== undefined) fs.unlinkSync(asidePath(runDir, replaced.id));
    throw error;
  }
  return kept;
}

function isRefusalToKeep(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "EXDEV" || code === "EPERM" || code === "EMLINK" || code === "EOPNOTSUPP";
}
