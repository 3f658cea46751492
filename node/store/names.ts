/**
 * Where the parts of a database lie in the data folder.
 *
 * Always holds: a database is named by its path below the mount ("app.db", "sub/app.db"); its backing file has the same path below
 * `files/`; its log folder is that path percent-encoded into one name, so that any name that the mount allows maps to exactly one folder.
 */
import { join } from "node:path";

export interface DatabasePaths {
  readonly name: string;
  readonly database: string;
  readonly wal: string;
  readonly shm: string;
  readonly journal: string;
  /** Folder of LTX files, `state.json` and `checksums`. */
  readonly log: string;
}

export function databasePaths(dataDir: string, name: string): DatabasePaths {
  const database = join(dataDir, "files", name);
  return { name, database, wal: `${database}-wal`, shm: `${database}-shm`, journal: `${database}-journal`, log: join(dataDir, "log", encodeLogName(name)) };
}

/** One path component for any path: "sub/app.db" → "sub%2Fapp.db"; "." and ".." cannot occur because a dot at the start is encoded. */
export function encodeLogName(name: string): string {
  return encodeURIComponent(name).replace(/^\./, "%2E");
}

export function decodeLogName(folder: string): string {
  return decodeURIComponent(folder);
}
