/**
 * What the mount decides from a path alone: how long the kernel may remember an answer, and which names are special.
 *
 * Always holds: no I/O, no state. Paths are relative to the mount root without a leading slash; the root is "".
 */
import { splitCompanion } from "../core/mount-hooks.ts";

/** Seconds for which the kernel may keep names and attributes: all changes go through the kernel or are announced to it. */
export const KEEP_SECONDS = 3600;

/** The same for the attributes of rollback journals, which live for one transaction. */
export const JOURNAL_SECONDS = 1;

/** Registrations of files that nobody has open now, kept so that opening a database again needs no step outside the thread. */
export const IDLE_BACKINGS = 1024;

/**
 * A directory that only the guardian and the engine see. A name in it is a whole path, percent-encoded, and leads to the same inode as
 * that path (so to the same locks). It exists because a system call that waits for an answer may hold the lock of its directory: who
 * serves the answer must be able to reach files without that lock.
 */
export const TRUSTED_DIRECTORY = ".sluice";

/** Node ids from here on belong to no backing file. They stay below 2^53, far above inode numbers of real file systems. */
export const VIRTUAL_BASE = 2 ** 52;
export const TRUSTED_DIRECTORY_ID = VIRTUAL_BASE - 1;

/** The name of a path inside {@link TRUSTED_DIRECTORY}. */
export function trustedName(path: string): string {
  return encodeURIComponent(path);
}

/** Reverses {@link trustedName}; undefined for a name that leads nowhere or out of the mount. */
export function pathOfTrustedName(name: string): string | undefined {
  let path: string;
  try {
    path = decodeURIComponent(name);
  } catch {
    return undefined;
  }
  const bad = path === "" || path.includes("\0") || path.split("/").some((part) => part === "" || part === "." || part === "..");
  return bad ? undefined : path;
}

export function joinPath(parent: string, name: string): string {
  return parent === "" ? name : `${parent}/${name}`;
}

/** Whether `path` is `folder` or lies below it. */
export function isUnder(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/**
 * `-wal` and `-shm` change in ways that the kernel does not see (shared maps, the follower's apply): 0 for these. A `-journal` changes by its own
 * programs alone, and they ask for its attributes twice right after they have made it.
 */
export function attributeSeconds(path: string): number {
  const { companion } = splitCompanion(path);
  return companion === undefined ? KEEP_SECONDS : companion === "-journal" ? JOURNAL_SECONDS : 0;
}

/** How long "there is no such name" holds. Names that may become virtual are asked for each time. */
export function absenceSeconds(path: string): number {
  return path.endsWith("-pos") || path === ".primary" || path === ".lag" || path === TRUSTED_DIRECTORY ? 0 : KEEP_SECONDS;
}

export const isJournal = (path: string): boolean => splitCompanion(path).companion === "-journal";
export const isWal = (path: string): boolean => path.endsWith("-wal");
export const isSharedMemory = (path: string): boolean => splitCompanion(path).companion === "-shm";

/** Bytes at the head of a rollback journal that SQLite zeroes to commit under journal_mode=PERSIST. */
export const JOURNAL_HEADER_SIZE = 28;

/**
 * Whether these first bytes of a journal say "committed". Only all 28 zero bytes do: a journal that is being written has its magic and
 * count zero until its records are durable, but names its sector and page size already.
 */
export function isZeroedJournal(header: Buffer): boolean {
  return header.length >= JOURNAL_HEADER_SIZE && header.subarray(0, JOURNAL_HEADER_SIZE).every((byte) => byte === 0);
}

/** 32-bit FNV-1a: gives a virtual name the same node id in every engine. */
export function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
