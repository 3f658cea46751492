/**
 * One replicated database of this node: where it lies, what it holds (position, page checksums), and its transaction log.
 *
 * Always holds: `position` is what the newest log entry (or, after a break, `state.json`) says; the page checksums are those of that state;
 * both move together in `record`, and only after the log has taken the transaction. Capture (primary) and Replica (follower) both end here.
 */
import { closeSync, statSync } from "node:fs";
import { join } from "node:path";
import { ARENA, CHECKSUM_FLAG, pageChecksumAt } from "../core/checksums.ts";
import { assert } from "../core/assert.ts";
import { DIFF_LOG_BYTES_MAX, IMPORT_LOG_BYTES_MAX } from "../core/limits.ts";
import { files } from "../io/files.ts";
import { LtxEncoder } from "../ltx/encoder.ts";
import type { LtxHeader } from "../ltx/header.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import { formatHex16, ZERO_POSITION, type Position } from "../../proto/position.ts";
import { changedAtRest, noteAtRest } from "./at-rest.ts";
import { beginEpoch, epochAt, epochReached, historyUpTo, type EpochHistory } from "./epoch-history.ts";
import type { DatabasePaths } from "./names.ts";
import { PageSums } from "./page-sums.ts";
import { Sidecar, loadState, saveState, type DatabaseState } from "./sidecar.ts";
import { Tail } from "./tail.ts";
import { LogOutput, TxLog, type LogEntry } from "./tx-log.ts";

/** What the whole store shares: who writes, in which epoch, on which boot of the machine. */
export interface StoreContext {
  /** 64-bit id of this node, for LTX headers. */
  readonly nodeId: bigint;
  readonly nodeName: string;
  readonly boot: Buffer;
  /** Moves a file that must not be used into `aside/` and notes why. */
  setAside(path: string, reason: string): void;
  /** Copies a file that goes on to be used into `aside/` and notes why. */
  keepCopy(path: string, reason: string): Promise<void>;
}

/** A transaction (or several that were merged) on its way into the log. */
export interface Change {
  readonly commits: number;
  readonly pageSize: number;
  /** Pages of the database afterwards. */
  readonly pageCount: number;
  /** Pages that may have changed, ascending, without the lock page, none above pageCount. */
  readonly candidates: Iterable<number>;
  /** Puts a page's new content into ARENA at `offset`. */
  readPage(pgno: number, offset: number): void;
  /** Where in the WAL the frames lay; absent for rollback journals and diffs. */
  readonly wal?: { readonly offset: number; readonly size: number; readonly salt1: number; readonly salt2: number };
  /** Asked last, before anything is kept, with the checksum of the database afterwards: false gives the attempt up (the content moved meanwhile). */
  readonly stillValid?: (checksum: bigint) => boolean;
  /** A change of more bytes than the log takes becomes a break. */
  readonly candidateCount: number;
}

/** A change that is ready for the log. */
export interface Draft {
  /** Holds the whole LTX file; undefined when it is too big for the log. */
  readonly output: LogOutput | undefined;
  readonly position: Position;
  readonly pgnos: readonly number[];
  readonly sums: readonly bigint[];
  readonly pageSize: number;
  readonly pageCount: number;
  readonly resized: boolean;
  readonly first: boolean;
  readonly changeCounter: number | undefined;
  readonly loggedAsWal: boolean;
}

export type RecordOutcome = "recorded" | "unchanged" | "invalid";

/** Pages between two yields of a long `record`. */
const SLICE_PAGES = 256;
const PAGE_AT = 0;
/** How much of the log `newestPages` looks at. */
const NEWEST_ENTRIES = 32;
const NEWEST_BYTES_MAX = 4 << 20;
const NEWEST_PAGES_MAX = 1_000;

export class Database {
  readonly paths: DatabasePaths;
  readonly sums = new PageSums();
  readonly log: TxLog;
  /** What is stored behind the position and not committed yet. */
  readonly tail: Tail;
  readonly #context: StoreContext;
  readonly #sidecar: Sidecar;
  readonly #listeners = new Set<(database: Database) => void>();
  #position: Position = ZERO_POSITION;
  #state: DatabaseState | undefined;
  #writing = false;
  pageSize = 0;
  /** File change counter (header offset 24) of the newest page 1 in the log; undefined until one was recorded by this process. */
  changeCounter: number | undefined;
  /** Whether that page 1 says journal_mode=WAL; false while it is not known. */
  loggedAsWal = false;
  deleted = false;
  /** Why the content is not known yet: a scan must come first. Undefined in normal life. */
  distrust: string | undefined;

  constructor(paths: DatabasePaths, context: StoreContext) {
    this.paths = paths;
    this.#context = context;
    this.log = new TxLog(paths.log, (path, reason) => context.setAside(path, reason));
    this.tail = new Tail(paths.log, (path, reason) => context.setAside(path, reason));
    this.#sidecar = new Sidecar(paths.log);
  }

  get name(): string {
    return this.paths.name;
  }

  get position(): Position {
    return this.#position;
  }

  get epochs(): EpochHistory {
    return this.#state?.epochs ?? [];
  }

  /** Keeps a copy of a file whose content is about to be replaced, with the reason. */
  async keepCopy(path: string, reason: string): Promise<void> {
    await this.#context.keepCopy(path, reason);
  }

  /** Keeps a file that must not be used any more, with the reason. */
  setAside(path: string, reason: string): void {
    this.#context.setAside(path, reason);
  }

  /** The newest transaction without an LTX file: the log may begin anew behind it. */
  get baseTxid(): number {
    return this.#state?.base.txid ?? 0;
  }

  /** This node was the one that writes when it last had this database: what is committed may lie in the files alone. */
  get wasWrittenHere(): boolean {
    return this.#state?.writing ?? false;
  }

  /** Everything that was committed here is in the log, and nobody writes here from now on. */
  stopWriting(): void {
    this.#writing = false;
    if (this.#state?.writing === true) this.saveState({ pending: this.#state.pending });
  }

  /** Calls back after every change of the position. Returns the call that ends it. */
  onChange(listener: (database: Database) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Reads log, state and sidecar. Afterwards `position` is where this node stood; `distrust` says if the content must be read to be sure
   * (the machine went down, or a file is missing or damaged).
   */
  open(): void {
    this.log.open();
    this.tail.open();
    const state = loadState(this.paths.log, (path, reason) => this.#context.setAside(path, reason));
    this.#state = state;
    this.#writing = state?.writing ?? false;
    const header = this.#sidecar.load(this.sums);
    const newest = this.log.newest;
    const base = state === undefined ? ZERO_POSITION : { epoch: state.base.epoch, txid: state.base.txid, checksum: BigInt(`0x${state.base.checksum}`) };
    const epochOf = (txid: number): number => epochReached(state?.epochs ?? [], txid) ?? base.epoch;
    this.pageSize = header?.pageSize ?? state?.pageSize ?? 0;
    this.deleted = state?.deleted ?? false;
    // A first transaction announces its epoch before it is stored.
    if (newest === undefined && (state === undefined || (base.txid === 0 && state.pending === null))) return;
    if (newest !== undefined && newest.max > base.txid) {
      const { header: ltx, trailer } = this.log.decode(newest);
      this.#position = { epoch: epochOf(newest.max), txid: newest.max, checksum: trailer.postApplyChecksum };
      this.pageSize = ltx.pageSize;
      this.deleted = ltx.commit === 0;
    } else {
      this.#position = { ...base, epoch: epochOf(base.txid) };
    }
    // The log has lost its end (damaged, or never on the disk): the TXIDs that the page checksums have seen must not be given out again.
    if (header !== undefined && header.txid > this.#position.txid) {
      this.#position = { epoch: epochOf(header.txid), txid: header.txid, checksum: header.checksum };
      this.pageSize = header.pageSize;
      this.deleted = header.pageCount === 0;
    }
    if (state?.pending !== undefined && state.pending !== null) {
      this.pendingInstall = { epoch: state.pending.epoch, txid: state.pending.txid, checksum: BigInt(`0x${state.pending.checksum}`) };
      this.pageSize = state.pending.pageSize;
      this.distrust = "a snapshot was being installed when the node stopped";
    } else if (header === undefined) this.distrust = "the page checksums are missing or damaged";
    else if (!header.boot.equals(this.#context.boot) && !header.clean) this.distrust = "the machine went down without a clean stop";
    else this.distrust = this.#replay(header.txid) ?? (header.clean ? changedAtRest(this.paths) : undefined);
    if (this.distrust === undefined && this.sums.checksum !== this.#position.checksum) this.distrust = "the page checksums do not add up to the position";
  }

  /** Brings the checksums from `txid` to the newest entry by the pages in the log. Returns what stands against it. */
  #replay(txid: number): string | undefined {
    const newest = this.log.newest;
    if (newest === undefined || newest.max <= txid || this.#position.txid <= txid) return undefined;
    if (!this.log.coversFrom(txid + 1)) return "the log does not reach back to the page checksums";
    for (const entry of this.log.entries) {
      if (entry.max <= txid) continue;
      const pages: [number, bigint][] = [];
      let header: LtxHeader;
      try {
        ({ header } = this.log.decode(entry, (pgno, page, offset) => pages.push([pgno, pageChecksumAt(pgno, offset, page.length)])));
      } catch (error) {
        this.log.dropDamaged(entry, (error as Error).message);
        return "a file of the log between the page checksums and now is damaged";
      }
      if (header.pageSize !== this.pageSize) this.sums.clear();
      this.pageSize = header.pageSize;
      for (const [pgno, sum] of pages) this.sums.set(pgno, sum);
      this.sums.resize(header.commit);
    }
    return undefined;
  }

  /** Notes that transactions from now on belong to `epoch`, in which this node writes. Earlier ones keep theirs in the epoch history. */
  enterEpoch(epoch: number): void {
    const { txid } = this.#position;
    this.#writing = true;
    if (txid === 0 || this.#position.epoch === epoch) {
      this.#position = { ...this.#position, epoch };
      if (this.#state?.writing === false) this.saveState({ pending: this.#state.pending });
      return;
    }
    this.#position = { ...this.#position, epoch };
    this.saveState({ epochs: beginEpoch(historyUpTo(this.epochs, txid), { epoch, firstTxid: txid + 1, node: this.#context.nodeName }) });
    this.#announce();
  }

  /**
   * Follower: takes over from the primary's history what leads up to `txid`. On the disk before the transactions themselves: an epoch that has
   * been begun and holds nothing does no harm, a transaction under the wrong epoch would.
   */
  adoptHistory(history: EpochHistory, txid: number): void {
    const next = historyUpTo(history, txid);
    if (next.length === 0 || (next.length === this.epochs.length && next.at(-1)!.epoch === this.epochs.at(-1)?.epoch)) return;
    this.saveState({ epochs: next });
  }

  /** Follower: the primary is where this node is, in an epoch that it has begun since; nothing will be sent for that. */
  followEpoch(history: EpochHistory): void {
    this.adoptHistory(history, this.#position.txid);
    const epoch = epochReached(this.epochs, this.#position.txid) ?? this.#position.epoch;
    if (epoch === this.#position.epoch) return;
    this.#position = { ...this.#position, epoch };
    this.#announce();
  }

  saveState(changes: { base?: Position; epochs?: EpochHistory; pending?: DatabaseState["pending"] } = {}): void {
    const base = changes.base ?? (this.#state === undefined ? this.#position : undefined);
    const epochs = changes.epochs ?? (this.epochs.length === 0 && this.#position.txid > 0 ? [{ epoch: this.#position.epoch, firstTxid: 1, node: this.#context.nodeName }] : this.epochs);
    this.#state = {
      base: base === undefined ? this.#state!.base : { epoch: base.epoch, txid: base.txid, checksum: base.checksum.toString(16) },
      pageSize: this.pageSize, pageCount: this.sums.pageCount, epochs, writing: this.#writing, deleted: this.deleted, pending: changes.pending ?? null,
    };
    saveState(this.paths.log, this.#state);
  }

  /** Brings the sidecar up to date; `clean` when the node stops in order and the content of the database is fsynced. */
  saveSidecar(clean = false): void {
    if (this.#position.txid === 0 || this.distrust !== undefined) return;
    this.#sidecar.save(this.sums, { pageSize: this.pageSize, txid: this.#position.txid, boot: this.#context.boot, clean });
    this.sidecarTxid = this.#position.txid;
  }

  /** Retention keeps the log from here on, because start-up needs it to bring the sidecar up to date. */
  sidecarTxid = 0;

  /** After a clean `close`, when nothing of it is under way any more. */
  rest(): void {
    if (this.#position.txid > 0 && this.distrust === undefined) noteAtRest(this.paths);
  }

  close(clean: boolean): void {
    this.saveSidecar(clean);
    this.#sidecar.close();
    this.tail.close();
    this.log.close();
  }

  /** Runs `recordSteps` to its end at once. */
  record(change: Change): RecordOutcome {
    const steps = this.recordSteps(change);
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
    }
  }

  /**
   * Takes a change into the log: reads the candidate pages, keeps those whose checksum differs, writes the LTX file, moves the position.
   * Yields now and then so that a long one can let other work through; the caller keeps others off this database meanwhile.
   */
  *recordSteps(change: Change): Generator<void, RecordOutcome> {
    const draft = yield* this.draftSteps(change);
    if (typeof draft === "string") return draft;
    this.commit(draft);
    return "recorded";
  }

  /** The first half of `recordSteps`: everything but the log entry and the new position, which `commit` makes. Ended by `commit` or `abandon`. */
  *draftSteps(change: Change): Generator<void, Draft | Exclude<RecordOutcome, "recorded">> {
    const { pageSize, pageCount } = change;
    const first = this.#position.txid === 0;
    const resized = this.pageSize !== 0 && this.pageSize !== pageSize;
    const min = this.#position.txid + 1;
    const max = this.#position.txid + change.commits;
    const isBreak = change.candidateCount * pageSize > DIFF_LOG_BYTES_MAX;
    const output = isBreak ? undefined : new LogOutput(this.log, min, max);
    const encoder = output === undefined ? undefined : new LtxEncoder((chunk) => output.add(chunk), {
      flags: 0, pageSize, commit: pageCount, minTxid: min, maxTxid: max, timestamp: Date.now(), preApplyChecksum: min === 1 ? 0n : this.#position.checksum,
      walOffset: change.wal?.offset ?? 0, walSize: change.wal?.size ?? 0, walSalt1: change.wal?.salt1 ?? 0, walSalt2: change.wal?.salt2 ?? 0, nodeId: this.#context.nodeId,
    });
    const pgnos: number[] = [];
    const sums: bigint[] = [];
    let xor = this.sums.checksum;
    for (let pgno = pageCount + 1; pgno <= this.sums.pageCount; pgno++) xor ^= this.sums.get(pgno);
    if (resized) xor = CHECKSUM_FLAG;
    let { changeCounter, loggedAsWal } = this;
    let sliced = 0;
    for (const pgno of change.candidates) {
      change.readPage(pgno, PAGE_AT);
      const sum = pageChecksumAt(pgno, PAGE_AT, pageSize);
      const old = resized ? 0n : this.sums.get(pgno);
      if (sum !== old || first) {
        encoder?.pageAt(pgno, PAGE_AT);
        pgnos.push(pgno);
        sums.push(sum);
        if (pgno === 1) {
          changeCounter = ARENA.readUInt32BE(PAGE_AT + 24);
          loggedAsWal = ARENA[PAGE_AT + 18] === 2;
        }
        xor ^= old ^ sum;
      }
      if (++sliced % SLICE_PAGES === 0) yield;
    }
    const checksum = CHECKSUM_FLAG | xor;
    let drafted = false;
    try {
      if (change.stillValid?.(checksum) === false) return "invalid";
      if (pgnos.length === 0 && pageCount === this.sums.pageCount && !resized) return "unchanged";
      encoder?.finish(checksum);
      drafted = true;
    } finally {
      if (!drafted) output?.abandon();
    }
    return { output, position: { epoch: this.#position.epoch, txid: max, checksum }, pgnos, sums, pageSize, pageCount, resized, first, changeCounter, loggedAsWal };
  }

  /** Takes a draft into the log and moves the position. */
  commit(draft: Draft): void {
    const { output, position, pgnos, sums, pageSize, pageCount, resized, first, changeCounter, loggedAsWal } = draft;
    const { checksum } = position;
    const isBreak = output === undefined;
    try {
      // Its epoch is known before it is: else a start after a crash would not know whose it is.
      if (first) this.saveState({ epochs: [{ epoch: this.#position.epoch, firstTxid: 1, node: this.#context.nodeName }] });
      output?.commit();
    } finally {
      output?.abandon();
    }
    if (resized) this.sums.clear();
    pgnos.forEach((pgno, index) => this.sums.set(pgno, sums[index]!));
    this.sums.resize(pageCount);
    assert(this.sums.checksum === checksum, "page checksums and database checksum disagree");
    this.pageSize = pageSize;
    this.changeCounter = changeCounter;
    this.loggedAsWal = loggedAsWal;
    this.deleted = false;
    this.#position = position;
    if (isBreak) {
      this.saveState({ base: this.#position });
      this.saveSidecar();
    } else if (first) {
      this.saveState();
      // From now on: an engine that dies before the next turn of maintenance must not have to read the database to know it again.
      this.saveSidecar();
    }
    this.#announce();
  }

  /** Records a database whose pages have just been copied into place: in the log while it is small, else as a break. */
  async recordImport(copied: { sums: PageSums; pageSize: number }): Promise<void> {
    const { sums, pageSize } = copied;
    if (sums.pageCount * pageSize <= IMPORT_LOG_BYTES_MAX) {
      const fd = files.open("import:record", this.paths.database, "r");
      try {
        this.record({
          commits: 1, pageSize, pageCount: sums.pageCount, candidates: this.allPages(sums.pageCount, pageSize), candidateCount: sums.pageCount,
          readPage: (pgno, offset) => readDatabasePage(fd, pgno, pageSize, offset),
        });
      } finally {
        closeSync(fd);
      }
      return;
    }
    this.pageSize = pageSize;
    this.sums.replaceWith(sums);
    this.deleted = false;
    this.#position = { epoch: this.#position.epoch, txid: this.#position.txid + 1, checksum: sums.checksum };
    this.saveState({ base: this.#position });
    this.saveSidecar();
    this.#announce();
  }

  /** Records that the database was deleted. */
  recordDeletion(): void {
    if (this.#position.txid === 0 || this.deleted) return;
    const txid = this.#position.txid + 1;
    const output = new LogOutput(this.log, txid, txid);
    const encoder = new LtxEncoder((chunk) => output.add(chunk), {
      flags: 0, pageSize: this.pageSize, commit: 0, minTxid: txid, maxTxid: txid, timestamp: Date.now(), preApplyChecksum: this.#position.checksum,
      walOffset: 0, walSize: 0, walSalt1: 0, walSalt2: 0, nodeId: this.#context.nodeId,
    });
    encoder.finish(CHECKSUM_FLAG);
    output.commit();
    this.sums.clear();
    this.deleted = true;
    this.#position = { ...this.#position, txid, checksum: CHECKSUM_FLAG };
    this.saveState();
    this.saveSidecar();
    this.#announce();
  }

  /** Follower: a received transaction has been stored; its pages' checksums take effect with the position. `history` is the primary's, where known. */
  adopt(position: Position, change: { pageSize: number; pageCount: number; pages: Iterable<readonly [number, bigint]> }, history: EpochHistory = []): void {
    if (this.pageSize !== 0 && this.pageSize !== change.pageSize) this.sums.clear();
    this.pageSize = change.pageSize;
    for (const [pgno, sum] of change.pages) this.sums.set(pgno, sum);
    this.sums.resize(change.pageCount);
    this.deleted = change.pageCount === 0;
    const first = this.#position.txid === 0;
    const known = historyUpTo(history, position.txid);
    const epoch = known.at(-1)?.epoch ?? position.epoch;
    const newEpoch = epoch !== this.#position.epoch && !first;
    this.#position = { ...position, epoch };
    if (first) {
      this.saveState({ epochs: known.length > 0 ? known : [{ epoch, firstTxid: 1, node: "" }] });
      this.saveSidecar();
    } else if (known.length > 0) {
      this.adoptHistory(known, position.txid);
    } else if (newEpoch) {
      this.saveState({ epochs: beginEpoch(this.epochs, { epoch, firstTxid: position.txid, node: "" }) });
    }
    this.#passTail();
    this.#announce();
  }

  /**
   * Follower: a snapshot is about to take effect. If the node dies before it has, the content is read to find out which state it is in.
   * `keepLogTo`: the log up to there is history of the new state too, and what lies after it is kept elsewhere; -1: all of it goes aside.
   */
  beginInstall(position: Position, pageSize: number, history: EpochHistory = [], keepLogTo = -1): void {
    this.pendingInstall = position;
    const epochs = history.length > 0 ? historyUpTo(history, position.txid) : beginEpoch(this.epochs.filter(({ epoch }) => epoch < position.epoch), { epoch: position.epoch, firstTxid: position.txid, node: "" });
    this.saveState({ pending: { epoch: position.epoch, txid: position.txid, checksum: position.checksum.toString(16), pageSize, epochs, keepLogTo } });
  }

  /** The snapshot that was being installed when the node died. */
  pendingInstall: Position | undefined;

  /** Follower, after `beginInstall`: everything about the database is replaced at once. */
  adoptSnapshot(position: Position, pageSize: number, sums: PageSums): void {
    const pending = this.#state?.pending;
    assert(pending !== null && pending !== undefined, "a snapshot takes effect that was not begun");
    // In this order: until state.json says otherwise, a start reads the database and finds the state that is pending.
    this.#sidecar.remove();
    if (pending.keepLogTo >= 0) this.log.cutAfter(pending.keepLogTo);
    else this.log.reset("replaced by a snapshot");
    this.pageSize = pageSize;
    if (sums !== this.sums) this.sums.replaceWith(sums);
    this.deleted = sums.pageCount === 0;
    this.#position = { ...position, epoch: epochReached(pending.epochs, position.txid) ?? position.epoch };
    this.distrust = undefined;
    this.pendingInstall = undefined;
    this.saveState({ base: this.#position, epochs: pending.epochs });
    this.saveSidecar();
    this.#passTail();
    this.#announce();
  }

  /** The content has been read anew (after distrust): what it is, at the position it must be. */
  adoptScan(sums: PageSums, pageSize: number, position: Position): void {
    this.sums.replaceWith(sums);
    this.pageSize = pageSize;
    this.#position = position;
    this.distrust = undefined;
    this.pendingInstall = undefined;
    this.saveState({ base: position });
    this.saveSidecar();
    this.#announce();
  }

  /**
   * Keeps a proposal that an election has passed over: its primary may have acknowledged it, and the history that counts now has it not. One that its own
   * primary has replaced was refused, and is nobody's loss. `epoch`: of the history that goes on without it.
   */
  keepOvertaken(epoch: number): void {
    const proposed = this.tail.undecided;
    if (proposed === undefined || proposed.epoch >= epoch) return;
    const path = join(this.paths.log, `undecided-${formatHex16(proposed.txid)}.ltx`);
    files.replace("tail:keep", path, proposed.ltx);
    this.setAside(path, `transaction ${proposed.txid} of "${this.name}" was proposed under durability sync in epoch ${proposed.epoch} and perhaps acknowledged; epoch ${epoch} goes on without it`);
    this.tail.rewind(proposed.serial);
  }

  /** The position has moved: what was stored for its TXID is part of it, or of nothing. */
  #passTail(): void {
    const proposed = this.tail.undecided;
    if (proposed === undefined || proposed.txid > this.#position.txid) return;
    const epoch = epochAt(this.epochs, proposed.txid);
    if (epoch !== undefined && epoch !== proposed.epoch) this.keepOvertaken(epoch);
  }

  #announce(): void {
    for (const listener of this.#listeners) listener(this);
  }

  /** Bytes of the database file and of its log, for status. */
  sizes(): { databaseBytes: number; logBytes: number } {
    return { databaseBytes: statSync(this.paths.database, { throwIfNoEntry: false })?.size ?? 0, logBytes: this.log.bytes };
  }

  /** Newest log entry, for callers that send it on. */
  get newest(): LogEntry | undefined {
    return this.log.newest;
  }

  /** Page 1 and the pages of the newest log entries, without repeats: a sample by which a start sees whether the files hold what the log says. */
  newestPages(): Set<number> {
    const pages = new Set<number>(this.sums.pageCount > 0 ? [1] : []);
    let bytes = 0;
    for (const entry of this.log.entries.slice(-NEWEST_ENTRIES).reverse()) {
      bytes += entry.size;
      if (bytes > NEWEST_BYTES_MAX) break;
      try {
        this.log.decode(entry, (pgno) => {
          if (pages.size < NEWEST_PAGES_MAX) pages.add(pgno);
        });
      } catch {
        break; // A damaged file is dealt with where its content is wanted.
      }
    }
    for (const pgno of pages) if (pgno > this.sums.pageCount) pages.delete(pgno);
    return pages;
  }

  /** Pages that exist, without the lock page. */
  *allPages(pageCount: number, pageSize: number): Generator<number> {
    const lock = lockPgno(pageSize);
    for (let pgno = 1; pgno <= pageCount; pgno++) if (pgno !== lock) yield pgno;
  }
}

/** Reads a page of the database file into ARENA; bytes past the end of the file read as zero, as in SQLite. */
export function readDatabasePage(fd: number, pgno: number, pageSize: number, offset: number): void {
  const n = files.read("capture:database", fd, ARENA, offset, pageSize, (pgno - 1) * pageSize);
  if (n < pageSize) ARENA.fill(0, offset + n, offset + pageSize);
}
