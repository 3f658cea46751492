/**
 * Whole databases in and out of a node: `sluice import` and `sluice export`.
 *
 * Always holds: an import is one transaction, visible at once and complete; what it replaces stays open for programs that have it open, as with
 * any rename. An export is one committed state, proven by its checksum before it gets its name. Neither is left half done under its name.
 */
import fs from "node:fs";
import { setImmediate as nextTick } from "node:timers/promises";
import { BulkArena, SLOT_BYTES, SLOTS } from "../core/bulk-arena.ts";
import { ARENA, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { isDatabaseHeader, lockPgno, readDatabaseHeader } from "../sqlite/database-header.ts";
import { AppError } from "../../proto/errors.ts";
import type { Position } from "../../proto/position.ts";
import type { StoredDatabase } from "./stored-database.ts";
import { PageSums } from "./page-sums.ts";
import { BackgroundSync } from "./background-sync.ts";
import { DirectFile, openToReadOnce } from "./direct-file.ts";
import { SnapshotSource } from "./snapshot-source.ts";
import { SnapshotTarget } from "./snapshot-target.ts";

export interface Copied {
  readonly sums: PageSums;
  readonly pageSize: number;
}

/** Copies a database file that nobody writes to `target`, with the checksums of its pages; durable afterwards. Throws NOT_A_DATABASE. */
export async function copyDatabase(source: string, target: string): Promise<Copied> {
  const from = files.open("import:read", source, "r");
  const to = files.open("import:write", target, "w", 0o644);
  let file: DirectFile | undefined;
  try {
    const head = Buffer.alloc(100);
    const size = files.size(from);
    files.read("import:read", from, head, 0, 100, 0);
    const header = readDatabaseHeader(head);
    if (!isDatabaseHeader(head) || header === undefined) throw new AppError("NOT_A_DATABASE", [source, "it does not begin with a SQLite header"]);
    const { pageSize } = header;
    if (size % pageSize !== 0) throw new AppError("NOT_A_DATABASE", [source, `its size ${size} is no multiple of its page size ${pageSize}: it is cut off or still being written`]);
    if (header.pageCount * pageSize > size) throw new AppError("NOT_A_DATABASE", [source, `its header counts ${header.pageCount} pages, the file has ${size / pageSize}`]);
    file = new DirectFile("import:write", target, pageSize, size);
    const sums = await copyPages(file, { source, size, pageSize, sync: new BackgroundSync("import:sync", to) });
    return { sums, pageSize };
  } finally {
    await file?.close();
    fs.closeSync(from);
    fs.closeSync(to);
  }
}

/** Several pieces are on their way at once: while one is checked here, others are read and written by other threads. */
async function copyPages(file: DirectFile, copy: { source: string; size: number; pageSize: number; sync: BackgroundSync }): Promise<PageSums> {
  const { size, pageSize, sync } = copy;
  const arena = new BulkArena();
  const from = openToReadOnce("import:read", copy.source, pageSize, arena.memory);
  const sums = new PageSums();
  const lock = lockPgno(pageSize);
  sums.resize(size / pageSize);
  let next = 0;
  const lane = async (slot: number): Promise<void> => {
    const offset = slot * SLOT_BYTES;
    while (next < size) {
      const at = next;
      const length = Math.min(SLOT_BYTES, size - at);
      next += length;
      if (await files.readLater("import:read", from, arena.memory, offset, length, at) !== length) throw new AppError("NOT_A_DATABASE", [copy.source, "it became shorter while it was read"]);
      const written = file.write(arena.memory, offset, length, at);
      const first = at / pageSize + 1;
      const count = length / pageSize;
      sums.setRun(first, arena.checksumsAt(first, count, offset, pageSize));
      if (lock >= first && lock < first + count) sums.set(lock, 0n);
      await written;
      sync.wrote(length);
    }
  };
  try {
    // All of them end before the descriptors are closed.
    const lanes = await Promise.allSettled(Array.from({ length: SLOTS }, (_, slot) => lane(slot).catch((error: unknown) => {
      next = size;
      throw error;
    })));
    for (const result of lanes) if (result.status === "rejected") throw result.reason;
    await sync.finish();
  } finally {
    fs.closeSync(from);
    await sync.settled();
  }
  return sums;
}

/** Writes one committed state of a database to `target`, which must not exist. Returns its position. */
export async function exportDatabase(entry: StoredDatabase, target: string): Promise<{ position: Position; pages: number; bytes: number }> {
  if (fs.existsSync(target)) throw new AppError("NOT_A_DATABASE", [target, "the target of an export exists already; it is not overwritten"]);
  const { database } = entry;
  if (database.deleted || database.position.txid === 0) throw new AppError("DATABASE_NOT_FOUND", [database.name]);
  return entry.primary === undefined ? exportReplica(entry, target) : exportPrimary(entry, target);
}

async function exportReplica({ follower, database }: StoredDatabase, target: string): Promise<{ position: Position; pages: number; bytes: number }> {
  const replica = follower?.replica;
  if (follower === undefined || replica === undefined || database.distrust !== undefined) throw new AppError("DATABASE_NOT_FOUND", [database.name]);
  return follower.turn.run(async () => {
    const part = `${target}.part`;
    const fd = files.open("export:write", part, "w", 0o644);
    try {
      const sums = new PageSums();
      let done = 0;
      files.truncate("export:write", fd, replica.pageCount * replica.pageSize);
      for (const pgno of database.allPages(replica.pageCount, replica.pageSize)) {
        replica.readPage(pgno, 0);
        sums.set(pgno, pageChecksumAt(pgno, 0, replica.pageSize));
        files.write("export:write", fd, ARENA, 0, replica.pageSize, (pgno - 1) * replica.pageSize);
        if (++done % 512 === 0) await nextTick();
      }
      if (sums.checksum !== database.position.checksum) throw new AppError("CORRUPT_FILE", [database.paths.database, "pages are not what their checksums say; the node is healing them, try again"]);
      files.fdatasyncNow("export:sync", fd);
    } catch (error) {
      files.unlink("export:undo", part);
      throw error;
    } finally {
      fs.closeSync(fd);
    }
    files.rename("export:done", part, target);
    return { position: database.position, pages: replica.pageCount, bytes: replica.pageCount * replica.pageSize };
  });
}

async function exportPrimary({ primary, database }: StoredDatabase, target: string): Promise<{ position: Position; pages: number; bytes: number }> {
  const source = await SnapshotSource.begin(primary!);
  const folder = `${target}.part`;
  const copy = await SnapshotTarget.open(folder, { ...source, fromPage: 1 });
  try {
    for await (const _ of source.pages({ fromPage: 1, numbers: [] }, (numbers, data) => copy.addPages(numbers, data)));
    const end = await source.end();
    for (let next = source.base.txid + 1; next <= end.txid; ) {
      const entry = database.log.entryAt(next);
      if (entry === undefined) throw new AppError("LOG_GONE", [database.name, next, database.log.entries[0]?.min ?? 0]);
      copy.addTransaction(database.log.read(entry));
      next = entry.max + 1;
    }
    const finished = await copy.finish(end);
    files.rename("export:done", finished.path, target);
    return { position: end, pages: finished.sums.pageCount, bytes: finished.sums.pageCount * finished.pageSize };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
