/**
 * `diverged/`: what this node had committed as a primary and nobody else has, once another primary's history has gone another way.
 *
 * Always holds: an entry is complete or not there (it is made in a `.part` folder and renamed); nothing but `drop`, by the operator, removes one.
 * The LTX files in it are verified. Works on the folder alone, so that the command line can use it while no node runs.
 *
 * diverged/<db>/<time>-<epoch>/   <db>: as in log/
 *   entry.json                    what it is: see DivergedEntry
 *   <min>-<max>.ltx               the transactions after the common ancestor; a merged file that begins before it is kept whole
 *   state.db                      the whole database as it was, with all of them; see diverged-writer.ts for when it is kept
 *   seen                          an operator has looked
 */
import fs from "node:fs";
import { setImmediate as nextTick } from "node:timers/promises";
import { basename, join } from "node:path";
import { ARENA, CHECKSUM_FLAG, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { decodeLtxFile } from "../ltx/decoder.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import { AppError } from "../../proto/errors.ts";
import { formatHex16 } from "../../proto/position.ts";

export const STATE_FILE = "state.db";
export const ENTRY_FILE = "entry.json";
const SEEN_FILE = "seen";
export const PART_SUFFIX = ".part";
const DROP_SUFFIX = ".drop";
const PAGES_LISTED = 1_000;
const COPY_PAGES = 256;

export interface DivergedFile {
  readonly name: string;
  readonly minTxid: number;
  readonly maxTxid: number;
  readonly bytes: number;
  /** It was merged before the histories parted, and begins with transactions that both have. */
  readonly beginsBeforeAncestor: boolean;
  /** Why it cannot be read; kept all the same. */
  readonly damaged?: string;
}

export interface DivergedEntry {
  readonly version: 1;
  /** `<db>/<time>-<epoch>`: the folder below `diverged/`. */
  readonly id: string;
  readonly database: string;
  readonly node: { readonly name: string; readonly id: string };
  /** Epoch, TXIDs and number of the transactions that only this node had. */
  readonly epoch: number;
  readonly firstTxid: number;
  readonly lastTxid: number;
  readonly transactions: number;
  /** The state with all of them; the checksum in 16 hex digits. */
  readonly position: { readonly epoch: number; readonly txid: number; readonly checksum: string };
  readonly pageSize: number;
  readonly pageCount: number;
  /** The newest transaction that both histories have; 0 when they share none. */
  readonly ancestor: { readonly epoch: number; readonly txid: number };
  readonly time: string;
  readonly reason: string;
  /** Whose history this node took over. */
  readonly primary: { readonly name: string; readonly id: string; readonly epoch: number };
  readonly files: readonly DivergedFile[];
  /** Every transaction after the ancestor is in `files`. */
  readonly complete: boolean;
  /** `state.db` is here. */
  readonly hasState: boolean;
  /** What an operator must know: why something is missing. */
  readonly notes: readonly string[];
}

export type ListedEntry = DivergedEntry & { readonly seen: boolean };

export interface DivergedFileDetail extends DivergedFile {
  /** When it was committed, and the size of the database afterwards. */
  readonly time?: string;
  readonly databasePages?: number;
  readonly pageCount?: number;
  /** Numbers of the changed pages, at most 1,000. */
  readonly pages?: readonly number[];
}

export type Exported = { readonly kind: "database"; readonly target: string; readonly bytes: number } | { readonly kind: "files"; readonly target: string; readonly files: number };

export class Diverged {
  readonly folder: string;

  constructor(dataDir: string) {
    this.folder = join(dataDir, "diverged");
  }

  /** Removes what an earlier process left unfinished. Only for the node itself, when nothing else is at work. */
  sweep(): void {
    for (const path of this.#entryFolders()) if (path.endsWith(PART_SUFFIX) || path.endsWith(DROP_SUFFIX)) removeFolder(path);
  }

  #entryFolders(): string[] {
    if (!fs.existsSync(this.folder)) return [];
    return fs.readdirSync(this.folder).flatMap((database) => fs.readdirSync(join(this.folder, database)).map((name) => join(this.folder, database, name)));
  }

  /** All entries, oldest first. */
  list(): ListedEntry[] {
    const found: ListedEntry[] = [];
    for (const path of this.#entryFolders()) {
      if (path.endsWith(PART_SUFFIX) || path.endsWith(DROP_SUFFIX) || !fs.existsSync(join(path, ENTRY_FILE))) continue;
      const entry = JSON.parse(fs.readFileSync(join(path, ENTRY_FILE), "utf8")) as DivergedEntry;
      found.push({ ...entry, seen: fs.existsSync(join(path, SEEN_FILE)) });
    }
    return found.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : a.id < b.id ? -1 : 1));
  }

  totals(): { entries: number; transactions: number; unseen: number } {
    const all = this.list();
    return { entries: all.length, transactions: all.reduce((sum, { transactions }) => sum + transactions, 0), unseen: all.filter(({ seen }) => !seen).length };
  }

  find(id: string): ListedEntry {
    const entry = this.list().find((one) => one.id === id);
    if (entry === undefined) throw new AppError("DIVERGED_NOT_FOUND", [id]);
    return entry;
  }

  pathOf(entry: Pick<DivergedEntry, "id">): string {
    return join(this.folder, entry.id);
  }

  markSeen(id: string, nowMs: number): void {
    const path = join(this.pathOf(this.find(id)), SEEN_FILE);
    if (!fs.existsSync(path)) files.writeFile("diverged:seen", path, new Date(nowMs).toISOString());
  }

  /** What is in each file. */
  describe(id: string): { entry: ListedEntry; files: DivergedFileDetail[] } {
    const entry = this.find(id);
    const details = entry.files.map((file): DivergedFileDetail => {
      if (file.damaged !== undefined) return file;
      const pages: number[] = [];
      const fd = files.open("diverged:read", join(this.pathOf(entry), file.name), "r");
      try {
        const { header, pageCount } = decodeLtxFile((buffer, offset) => files.read("diverged:read", fd, buffer, 0, buffer.length, offset), file.bytes, (pgno) => {
          if (pages.length < PAGES_LISTED) pages.push(pgno);
        }, file.name);
        return { ...file, time: new Date(header.timestamp).toISOString(), databasePages: header.commit, pageCount, pages };
      } catch (error) {
        return { ...file, damaged: (error as Error).message };
      } finally {
        fs.closeSync(fd);
      }
    });
    return { entry, files: details };
  }

  /** Writes the whole diverged database to the file `target`, or, where it is not kept, the LTX files into a folder of that name. Neither may exist. */
  async export(id: string, target: string): Promise<Exported> {
    const entry = this.find(id);
    if (fs.existsSync(target)) throw new AppError("NOT_A_DATABASE", [target, "the target of an export exists already; it is not overwritten"]);
    const folder = this.pathOf(entry);
    if (!entry.hasState) {
      files.mkdir("diverged:export", target, 0o755);
      for (const name of [ENTRY_FILE, ...entry.files.map((file) => file.name)]) await copyFile(join(folder, name), join(target, name));
      return { kind: "files", target, files: entry.files.length };
    }
    const part = `${target}${PART_SUFFIX}`;
    try {
      await copyPages(join(folder, STATE_FILE), part, entry);
      files.rename("diverged:export", part, target);
    } catch (error) {
      files.unlink("diverged:export", part);
      throw error;
    }
    return { kind: "database", target, bytes: entry.pageSize * entry.pageCount };
  }

  /** Removes an entry for good. */
  drop(id: string): ListedEntry {
    const entry = this.find(id);
    const gone = `${this.pathOf(entry)}${DROP_SUFFIX}`;
    // First the name, so that half an entry is never listed.
    files.rename("diverged:drop", this.pathOf(entry), gone);
    removeFolder(gone);
    return entry;
  }
}

/** Removes a folder of files. */
export function removeFolder(path: string): void {
  if (!fs.existsSync(path)) return;
  for (const name of fs.readdirSync(path)) files.unlink("diverged:remove", join(path, name));
  files.rmdir("diverged:remove", path);
}

export async function copyFile(from: string, to: string): Promise<void> {
  const source = files.open("diverged:read", from, "r");
  const target = files.open("diverged:write", to, "w");
  try {
    const size = files.size(source);
    const piece = Buffer.allocUnsafe(1 << 20);
    for (let at = 0; at < size; at += piece.length) {
      const n = files.read("diverged:read", source, piece, 0, Math.min(piece.length, size - at), at);
      files.write("diverged:write", target, piece, 0, n, at);
      await nextTick();
    }
    await files.fdatasync("diverged:sync", target);
  } finally {
    fs.closeSync(source);
    fs.closeSync(target);
  }
}

/** Copies a database page by page; throws CORRUPT_FILE when it is not what the entry says. */
async function copyPages(from: string, to: string, entry: DivergedEntry): Promise<void> {
  const { pageSize, pageCount } = entry;
  const source = files.open("diverged:read", from, "r");
  const target = files.open("diverged:write", to, "w", 0o644);
  try {
    let xor = 0n;
    const lock = lockPgno(pageSize);
    const step = Math.min(COPY_PAGES, Math.floor((4 << 20) / pageSize));
    for (let first = 1; first <= pageCount; first += step) {
      const count = Math.min(step, pageCount - first + 1);
      const n = files.read("diverged:read", source, ARENA, 0, count * pageSize, (first - 1) * pageSize);
      if (n < count * pageSize) throw new AppError("CORRUPT_FILE", [from, "it is cut off"]);
      for (let i = 0; i < count; i++) if (first + i !== lock) xor ^= pageChecksumAt(first + i, i * pageSize, pageSize);
      files.write("diverged:write", target, ARENA, 0, count * pageSize, (first - 1) * pageSize);
      await nextTick();
    }
    if (formatHex16(CHECKSUM_FLAG | xor) !== entry.position.checksum) throw new AppError("CORRUPT_FILE", [basename(from), "its pages are not those that the entry names"]);
    await files.fdatasync("diverged:sync", target);
  } finally {
    fs.closeSync(source);
    fs.closeSync(target);
  }
}
