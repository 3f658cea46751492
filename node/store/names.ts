/**
 * Where the parts of a database lie in the data folder.
 *
 * Always holds: a database is named by its path below the mount ("app.db", "sub/app.db"); its backing file has the same path below
 * `files/`; its log folder is that path percent-encoded into one name, so that any name that the mount allows maps to exactly one folder.
 */
import { join } from "node:path";

/**
 * How a database's files are reached through the mount, with a driver under which the kernel keeps pages of the mount's files of its own: what
 * is written to a backing file would not be seen by programs, and what they store in a map of the `-shm` is not in the backing file.
 */
export interface MountAccess {
  /** The path of a file on the mount, from its path below it. */
  path(name: string): string;
  /** Flags for open(2) that mark the node's own descriptors. */
  readonly openFlags: number;
  /** A descriptor of the database's `-shm` on the mount, the caller's from now on; undefined while there is none. Never blocks. */
  openIndex(name: string): number | undefined;
}

export interface DatabasePaths {
  readonly name: string;
  readonly database: string;
  readonly wal: string;
  readonly shm: string;
  readonly journal: string;
  /** Folder of LTX files, `state.json` and `checksums`. */
  readonly log: string;
  /** Absent where the backing files are the mount's files (passthrough). Names are made and removed in the backing folder in any case. */
  readonly mount?: MountAccess;
}

export function databasePaths(dataDir: string, name: string): DatabasePaths {
  const database = join(dataDir, "files", name);
  return { name, database, wal: `${database}-wal`, shm: `${database}-shm`, journal: `${database}-journal`, log: join(dataDir, "log", encodeLogName(name)) };
}

/** One path component for any path: "sub/app.db" → "sub%2Fapp.db"; "." and ".." cannot occur because a dot at the start is encoded. */
export function encodeLogName(name: string): string {
  return encodeURIComponent(name).replace(/^\./, "%2E");
}

/** The database whose log folder has this name; undefined when none can. */
export function databaseOfFolder(folder: string): string | undefined {
  try {
    const name = decodeURIComponent(folder);
    return encodeLogName(name) === folder ? name : undefined;
  } catch {
    return undefined;
  }
}
