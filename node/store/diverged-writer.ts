/**
 * Moves what only this node has into `diverged/`, before another primary's history takes its place.
 *
 * Always holds: nothing of the database or its log is changed here; when it fails (disk full) what was written is removed and everything is as
 * before, so the caller tries again. The same history is kept once, however often the take-over is interrupted and begun anew.
 *
 * The transactions alone do not make a readable database: their pages belong on top of the state at the ancestor, of which the new history
 * soon changes pages. So the whole database is copied beside them while that is cheap: up to 64 MiB, or a tenth of the free space. A larger one has
 * only the LTX files, each with whole pages; but where the log lacks transactions (an import, a diff of a large database) the copy is all that
 * there is of them, and it is made whatever its size.
 */
import fs from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { ARENA, CHECKSUM_FLAG, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { ltxFileName } from "../ltx/file-name.ts";
import { AppError } from "../../proto/errors.ts";
import { formatHex16 } from "../../proto/position.ts";
import type { Database } from "./database.ts";
import { ENTRY_FILE, PART_SUFFIX, STATE_FILE, copyFile, removeFolder, type Diverged, type DivergedEntry, type DivergedFile } from "./diverged.ts";
import { epochAt } from "./epoch-history.ts";
import type { Follower } from "./follower.ts";
import { encodeLogName } from "./names.ts";

const STATE_BYTES_ALWAYS = 64 << 20;
const FREE_SHARE = 0.1;

export interface DivergenceFacts {
  readonly ancestor: { readonly epoch: number; readonly txid: number };
  readonly node: { readonly name: string; readonly id: string };
  readonly primary: { readonly name: string; readonly id: string; readonly epoch: number };
  readonly reason: string;
  readonly nowMs: number;
}

/** What the diverged transactions changed, where all of them are in the log: how the ancestor can be gone back to. */
export interface DivergedPages {
  readonly numbers: readonly number[];
  /** The smallest that the database was: what lies above may have been cut off. */
  readonly smallest: number;
}

/** Whether a whole copy is made. Pure. */
export function keepsState(facts: { readonly bytes: number; readonly complete: boolean; readonly freeBytes: number }): boolean {
  return !facts.complete || facts.bytes <= STATE_BYTES_ALWAYS || facts.bytes <= facts.freeBytes * FREE_SHARE;
}

/** Keeps everything after the ancestor. Holds the follower's turn; resolves with the entry and what a rewind needs. */
export async function keepDiverged(diverged: Diverged, follower: Follower, facts: DivergenceFacts): Promise<{ entry: DivergedEntry; made: boolean; pages: DivergedPages | undefined }> {
  return follower.turn.run(async () => {
    const { database } = follower;
    const pages = changedPages(database, facts.ancestor.txid);
    const { position } = database;
    const known = diverged.list().find((entry) => entry.database === database.name && entry.lastTxid === position.txid && entry.position.epoch === position.epoch
      && entry.position.checksum === formatHex16(position.checksum) && entry.ancestor.txid === facts.ancestor.txid);
    if (known !== undefined) return { entry: known, made: false, pages };
    const epoch = epochAt(database.epochs, position.txid) ?? position.epoch;
    const folder = join(diverged.folder, encodeLogName(database.name));
    let name = `${new Date(facts.nowMs).toISOString().replaceAll(":", "")}-${epoch}`;
    for (let n = 2; fs.existsSync(join(folder, name)); n++) name = `${new Date(facts.nowMs).toISOString().replaceAll(":", "")}-${epoch}-${n}`;
    const part = join(folder, `${name}${PART_SUFFIX}`);
    try {
      files.mkdir("diverged:folder", part);
      const entry = await write(part, follower, { ...facts, id: `${encodeLogName(database.name)}/${name}`, epoch });
      files.rename("diverged:done", part, join(folder, name));
      files.syncFolder("diverged:done", folder);
      files.syncFolder("diverged:done", diverged.folder);
      return { entry, made: true, pages };
    } catch (error) {
      removeFolder(part);
      throw error;
    }
  });
}

async function write(part: string, follower: Follower, facts: DivergenceFacts & { id: string; epoch: number }): Promise<DivergedEntry> {
  const { database } = follower;
  const { position, log } = database;
  const { ancestor } = facts;
  const notes: string[] = [];
  const kept: DivergedFile[] = [];
  let covered = ancestor.txid;
  let complete = true;
  for (const entry of log.entries.filter(({ max }) => max > ancestor.txid)) {
    let damaged: string | undefined;
    try {
      log.decode(entry);
    } catch (error) {
      damaged = (error as Error).message;
    }
    const name = `${ltxFileName(entry.min, entry.max)}${damaged === undefined ? "" : ".damaged"}`;
    if (entry.place === undefined) await copyFile(log.pathOf(entry), join(part, name));
    else writeDurably(join(part, name), log.read(entry));
    const beginsBeforeAncestor = entry.min <= ancestor.txid;
    if (beginsBeforeAncestor) notes.push(`${name} was merged before the histories parted: it also holds transactions ${entry.min} to ${ancestor.txid}, which both have`);
    if (damaged !== undefined) notes.push(`${name} is damaged: ${damaged}`);
    if (damaged !== undefined || entry.min > covered + 1) complete = false;
    covered = entry.max;
    kept.push({ name, minTxid: entry.min, maxTxid: entry.max, bytes: entry.size, beginsBeforeAncestor, ...(damaged === undefined ? {} : { damaged }) });
  }
  if (covered < position.txid) complete = false;
  if (!complete) notes.push("not every transaction is in the log (an import, or a change of a large database without a journal): the state has them all together");
  const { pageSize } = database;
  const bytes = database.sums.pageCount * pageSize;
  const { bavail, bsize } = fs.statfsSync(part);
  let hasState = false;
  if (database.deleted) notes.push("the last of them deleted the database");
  else if (!keepsState({ bytes, complete, freeBytes: bavail * bsize })) notes.push(`the whole database, ${bytes} bytes, was not copied: it is larger than 64 MiB and than a tenth of the free space`);
  else {
    const missing = await copyState(follower, join(part, STATE_FILE));
    hasState = missing === undefined;
    if (missing !== undefined) notes.push(`the whole database could not be copied: ${missing}`);
  }
  const entry: DivergedEntry = {
    version: 1, id: facts.id, database: database.name, node: facts.node, epoch: facts.epoch, firstTxid: ancestor.txid + 1, lastTxid: position.txid, transactions: position.txid - ancestor.txid,
    position: { epoch: position.epoch, txid: position.txid, checksum: formatHex16(position.checksum) }, pageSize, pageCount: database.sums.pageCount,
    ancestor, time: new Date(facts.nowMs).toISOString(), reason: facts.reason, primary: facts.primary, files: kept, complete, hasState, notes,
  };
  writeDurably(join(part, ENTRY_FILE), Buffer.from(JSON.stringify(entry, undefined, 1)));
  files.syncFolder("diverged:sync", part);
  return entry;
}

function writeDurably(path: string, content: Buffer): void {
  const fd = files.open("diverged:write", path, "w");
  try {
    files.write("diverged:write", fd, content, 0, content.length, 0);
    files.fdatasyncNow("diverged:sync", fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Copies what readers see. Says why when it is not the state of the position; then there is no copy. */
async function copyState(follower: Follower, path: string): Promise<string | undefined> {
  const { database, replica } = follower;
  if (replica === undefined) return "there is no database file";
  if (database.distrust !== undefined) return database.distrust;
  const { pageSize } = replica;
  const fd = files.open("diverged:write", path, "w");
  try {
    let xor = 0n;
    let done = 0;
    files.truncate("diverged:write", fd, replica.pageCount * pageSize);
    for (const pgno of database.allPages(replica.pageCount, pageSize)) {
      replica.readPage(pgno, 0);
      xor ^= pageChecksumAt(pgno, 0, pageSize);
      files.write("diverged:write", fd, ARENA, 0, pageSize, (pgno - 1) * pageSize);
      if (++done % 512 === 0) await nextTick();
    }
    if ((CHECKSUM_FLAG | xor) !== database.position.checksum) {
      files.unlink("diverged:undo", path);
      return "its pages are not what their checksums say";
    }
    await files.fdatasync("diverged:sync", fd);
    return undefined;
  } finally {
    fs.closeSync(fd);
  }
}

/** The pages that the transactions after the ancestor changed; undefined when the log cannot tell, or the page size changed. */
function changedPages(database: Database, ancestor: number): DivergedPages | undefined {
  const { log, position } = database;
  if (ancestor === 0 || database.distrust !== undefined || log.newest?.max !== position.txid || !log.coversFrom(ancestor + 1)) return undefined;
  const numbers = new Set<number>();
  let smallest = Infinity;
  try {
    for (const entry of log.entries.filter(({ max }) => max > ancestor)) {
      const { header } = log.decode(entry, (pgno) => numbers.add(pgno));
      if (header.pageSize !== database.pageSize || header.commit === 0) return undefined;
      smallest = Math.min(smallest, header.commit);
    }
  } catch (error) {
    if (error instanceof AppError && error.code === "CORRUPT_FILE") return undefined;
    throw error;
  }
  return { numbers: [...numbers].sort((a, b) => a - b), smallest };
}
