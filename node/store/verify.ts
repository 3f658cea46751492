/**
 * `sluice verify` on the folder of a node that does not run: what is wrong with one database, file by file.
 *
 * Always holds: nothing is changed, not even what every start would tidy up. What a crash leaves and the next start mends by itself (the table of
 * start-up recovery) is told apart from what needs another node. Commits that are in the files and not yet in the log are no fault.
 */
import fs from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { ARENA, CHECKSUM_FLAG, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { isDatabaseHeader, lockPgno } from "../sqlite/database-header.ts";
import { FRAME_HEADER_SIZE, frameOffset } from "../sqlite/wal.ts";
import { scanWal } from "../sqlite/wal-scanner.ts";
import { formatHex16, type Position } from "../../proto/position.ts";
import { soundHistory } from "./epoch-history.ts";
import { databasePaths, type DatabasePaths } from "./names.ts";
import { PageSums } from "./page-sums.ts";
import { loadState, Sidecar, type DatabaseState, type SidecarHeader } from "./sidecar.ts";
import { Tail } from "./tail.ts";
import { checkLog, listLog, type CheckedLtx, type Finding, type Found } from "./verify-log.ts";

export interface DatabaseReport {
  readonly name: string;
  readonly epoch: number;
  readonly txid: number;
  /** It was written here when the node last ran. */
  readonly writing: boolean;
  readonly findings: readonly Finding[];
}

const SLICE_PAGES = 512;
const NUMBERS_SHOWN = 8;

/** What the small files say; what is wrong with them is told. */
export function checkSmallFiles(folder: string, found: Found): { state: DatabaseState | undefined; header: SidecarHeader | undefined; sums: PageSums } {
  const path = join(folder, "state.json");
  const exists = fs.existsSync(path);
  const state = loadState(folder, (file, reason) => found(file, `it cannot be used: ${reason}`, "start"));
  if (state !== undefined && soundHistory(state.epochs).length !== state.epochs.length) found(path, "its epochs do not ascend", "peer");
  new Tail(folder, (file, reason) => found(file, reason, "start")).open();
  const sums = new PageSums();
  const header = new Sidecar(folder).load(sums);
  const began = fs.readdirSync(folder).some((name) => /\.(?:ltx|seg)$/.test(name)) || (state !== undefined && state.base.txid > 0);
  if (!exists && began) found(path, "it is missing", "start");
  if (header === undefined && began) found(join(folder, "checksums"), fs.existsSync(join(folder, "checksums")) ? "its header is damaged, or it is cut off" : "it is missing", "start");
  return { state, header, sums };
}

/** Everything that is wrong with a database of a node that does not run. */
export async function verifyDatabase(dataDir: string, name: string): Promise<DatabaseReport> {
  const paths = databasePaths(dataDir, name);
  const findings: Finding[] = [];
  const found: Found = (file, fault, mends) => void findings.push({ file, fault, mends });
  const { state, header, sums } = checkSmallFiles(paths.log, found);
  const base = { epoch: state?.base.epoch ?? 0, txid: state?.base.txid ?? 0, checksum: state === undefined ? CHECKSUM_FLAG : BigInt(`0x${state.base.checksum}`) };
  const entries = listLog(paths.log, found);
  const newest = entries.at(-1);
  const checked = await checkLog(entries, found, { wantPages: (entry) => entry === newest || (header !== undefined && entry.max > header.txid), gone: () => false, breakAt: base.txid });
  const position = positionOf(base, header, checked.at(-1), state);
  const report = (): DatabaseReport => ({ name, epoch: position.epoch, txid: position.txid, writing: state?.writing ?? false, findings });
  if (position.txid === 0) return report();
  if (state?.pending != null) {
    found(join(paths.log, "state.json"), "a snapshot was being installed when the node stopped; the next start reads the database and goes on", "note");
    return report();
  }
  const whole = header !== undefined && replay(sums, header, checked, position);
  if (header !== undefined && !whole) found(join(paths.log, "checksums"), `its page checksums and the log do not add up to transaction ${position.txid}`, "start");
  await checkContent(paths, { position, sums: whole ? sums : undefined, pageSize: checked.at(-1)?.header.pageSize ?? header?.pageSize ?? state?.pageSize ?? 0, writing: state?.writing ?? false, newest: checked.at(-1) }, found);
  return report();
}

/** As a start finds it. */
function positionOf(base: Position, header: SidecarHeader | undefined, newest: CheckedLtx | undefined, state: DatabaseState | undefined): Position {
  const logged = newest !== undefined && newest.entry.max > base.txid ? { txid: newest.entry.max, checksum: newest.checksum } : base;
  const { txid, checksum } = header !== undefined && header.txid > logged.txid ? header : logged;
  return { epoch: state?.epochs.filter(({ firstTxid }) => firstTxid <= txid + 1).at(-1)?.epoch ?? base.epoch, txid, checksum };
}

/** Brings the page checksums to the position by the pages in the log. Whether they are those of the position then. */
function replay(sums: PageSums, header: SidecarHeader, checked: readonly CheckedLtx[], position: Position): boolean {
  let { txid, pageSize } = header;
  for (const { entry, header: ltx, pages } of checked) {
    if (entry.max <= txid) continue;
    if (entry.min > txid + 1) return false;
    if (ltx.pageSize !== pageSize) sums.clear();
    ({ pageSize } = ltx);
    for (const [pgno, sum] of pages) sums.set(pgno, sum);
    sums.resize(ltx.commit);
    txid = entry.max;
  }
  return sums.checksum === position.checksum;
}

interface Expected {
  readonly position: Position;
  /** Undefined when only the checksum of the whole can be compared. */
  readonly sums: PageSums | undefined;
  readonly pageSize: number;
  readonly writing: boolean;
  readonly newest: CheckedLtx | undefined;
}

async function checkContent(paths: DatabasePaths, expected: Expected, found: Found): Promise<void> {
  const { position, sums, pageSize, writing, newest } = expected;
  const isDeleted = sums === undefined ? position.checksum === CHECKSUM_FLAG : sums.pageCount === 0;
  if (!fs.existsSync(paths.database)) {
    if (!isDeleted) found(paths.database, "it is missing", "peer");
    return;
  }
  if (isDeleted || pageSize === 0) return;
  const isHot = writing && (files.sizeOf(paths.journal) ?? 0) > 0 && fs.readFileSync(paths.journal).subarray(0, 8).equals(JOURNAL_MAGIC);
  if (isHot) return found(paths.journal, "a transaction was cut short; SQLite rolls it back at the next open, and until then the pages cannot be judged", "note");
  const view = new OfflineView(paths, pageSize, writing ? newest : undefined);
  try {
    const wrong: number[] = [];
    const newer = new Set<number>();
    const pageCount = view.pageCount;
    const lock = lockPgno(pageSize);
    let xor = 0n;
    for (let pgno = 1; pgno <= Math.max(pageCount, sums?.pageCount ?? 0); pgno++) {
      if (pgno % SLICE_PAGES === 0) await nextTick();
      if (pgno === lock) continue;
      const sum = view.checksum(pgno, true);
      if (pgno <= pageCount) xor ^= sum;
      if (sums === undefined || (pgno <= sums.pageCount && sum === sums.get(pgno))) continue;
      if (view.isNewer(pgno) || (view.hasNewer && pgno > sums.pageCount)) {
        // What the log has not got yet may lie over it: then nothing can be said of the page below, unless that is right.
        if (view.checksum(pgno, false) !== sums.get(pgno)) newer.add(pgno);
      } else {
        wrong.push(pgno);
      }
    }
    const checksum = CHECKSUM_FLAG | xor;
    if (sums === undefined) {
      if (checksum === position.checksum) return;
      if (view.hasNewer) return found(paths.wal, "it holds commits that are not in the log yet; the next start takes them", "note");
      return found(paths.database, `its content has checksum ${formatHex16(checksum)}, transaction ${position.txid} has ${formatHex16(position.checksum)}`, "peer");
    }
    if (newer.size > 0) found(paths.wal, `it holds commits that are not in the log yet (${newer.size} pages); the next start takes them`, "note");
    if (wrong.length === 0) return;
    if (!writing && newest !== undefined && newest.entry.max === position.txid && checksum === newest.header.preApplyChecksum) return found(paths.wal, `transaction ${position.txid} is stored and not applied yet; the next start does it`, "note");
    if (writing && wrong[0] === 1 && view.committedByJournal()) return found(paths.database, "it was changed after the log ended, by a program of this node; the next start takes that as a transaction", "note");
    found(paths.database, damageSentence(wrong), "peer");
  } finally {
    view.close();
  }
}

const JOURNAL_MAGIC = Buffer.from("d9d505f920a163d7", "hex");

/** What is said of pages that are not what their checksums say. */
export function damageSentence(wrong: readonly number[]): string {
  const shown = wrong.slice(0, NUMBERS_SHOWN).join(", ");
  return wrong.length === 1 ? `page ${shown} is not what its checksum says` : `${wrong.length} pages are not what their checksums say: ${shown}${wrong.length > NUMBERS_SHOWN ? ", …" : ""}`;
}

/** The database file with its WAL laid over it, with and without the frames that the log has not got. */
class OfflineView {
  readonly #pageSize: number;
  readonly #database: number;
  readonly #wal: number | undefined;
  readonly #frames = new Map<number, number>();
  readonly #captured = new Map<number, number>();
  readonly #newer = new Set<number>();
  readonly pageCount: number;

  /** `capturedBy`: the newest entry of the log, on a node that writes; its header says up to where the WAL is in the log. */
  constructor(paths: DatabasePaths, pageSize: number, capturedBy: CheckedLtx | undefined) {
    this.#pageSize = pageSize;
    this.#database = files.open("verify:database", paths.database, "r");
    this.#wal = fs.existsSync(paths.wal) ? files.open("verify:wal", paths.wal, "r") : undefined;
    const wal = this.#wal;
    const scan = wal === undefined ? undefined : scanWal((buffer, offset) => files.read("verify:wal", wal, buffer, 0, buffer.length, offset));
    const usable = scan !== undefined && scan.mxFrame > 0 && scan.header.pageSize === pageSize;
    this.pageCount = usable ? scan.pageCount : Math.ceil(files.size(this.#database) / pageSize);
    if (!usable) return;
    const same = capturedBy?.header.walSize !== 0 && capturedBy?.header.walSalt1 === scan.header.salt1 && capturedBy.header.walSalt2 === scan.header.salt2;
    const captured = capturedBy === undefined ? scan.mxFrame : same ? Math.round((capturedBy.header.walOffset + capturedBy.header.walSize - 32) / (pageSize + FRAME_HEADER_SIZE)) : 0;
    scan.pages.forEach((pgno, i) => {
      this.#frames.set(pgno, i + 1);
      if (i + 1 <= captured) this.#captured.set(pgno, i + 1);
      else this.#newer.add(pgno);
    });
  }

  /** Whether the WAL has a version of this page that the log has not got. */
  isNewer(pgno: number): boolean {
    return this.#newer.has(pgno);
  }

  get hasNewer(): boolean {
    return this.#newer.size > 0;
  }

  /** `newest`: with all frames; else with those that the log has got. */
  checksum(pgno: number, newest: boolean): bigint {
    const frame = (newest ? this.#frames : this.#captured).get(pgno);
    const n = frame === undefined
      ? files.read("verify:database", this.#database, ARENA, 0, this.#pageSize, (pgno - 1) * this.#pageSize)
      : files.read("verify:wal", this.#wal!, ARENA, 0, this.#pageSize, frameOffset(frame, this.#pageSize) + FRAME_HEADER_SIZE);
    ARENA.fill(0, n, this.#pageSize);
    return pageChecksumAt(pgno, 0, this.#pageSize);
  }

  /** Whether page 1 is that of a database with a rollback journal: its commits are in the file alone, and each changes page 1. */
  committedByJournal(): boolean {
    const head = Buffer.alloc(100);
    files.read("verify:database", this.#database, head, 0, 100, 0);
    return this.#frames.size === 0 && isDatabaseHeader(head) && head[18] === 1;
  }

  close(): void {
    fs.closeSync(this.#database);
    if (this.#wal !== undefined) fs.closeSync(this.#wal);
  }
}
