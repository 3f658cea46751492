/**
 * Capture of one database on the primary: every committed transaction gets into the log, whatever the journal mode.
 *
 * Always holds: no lock that an application could notice is taken. WAL commits are found by WalCapture; commits of rollback journals when the
 * journal is removed, truncated or zeroed, while the application waits for the reply; everything else by a diff against the page checksums.
 * All of it runs in this database's turn. A failed capture (disk full) is tried again and never skipped: until it succeeds, the request
 * that would let SQLite overwrite uncaptured frames fails.
 */
import fs from "node:fs";
import { setImmediate as nextTick, setTimeout as sleep } from "node:timers/promises";
import { ARENA, CHECKSUM_FLAG, pageChecksum, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { databasePageCount, isDatabaseHeader, lockPgno, readDatabaseHeader } from "../sqlite/database-header.ts";
import { decodeJournalHeader } from "../sqlite/journal.ts";
import { frameOffset } from "../sqlite/wal.ts";
import { assert } from "../core/assert.ts";
import type { WalCommit } from "../core/mount-hooks.ts";
import { AppError, isAppError } from "../../proto/errors.ts";
import { readDatabasePage, type Change, type Database, type Draft, type RecordOutcome } from "./database.ts";
import { journalCandidates } from "./journal-capture.ts";
import { isWriting } from "./locks.ts";
import { PageSums } from "./page-sums.ts";
import { namesSuperJournal, openCommit, restoreJournalHeader, SyncCommits, type SyncTerms } from "./sync-commit.ts";
import { Turn } from "./turn.ts";
import { openWithFirstPage } from "./wal-opening.ts";
import { WalCapture, newestFrames, type WalBatch, type WalPoint } from "./wal-capture.ts";

/**
 * Looks at a wal-index that a writer is just changing before giving the others a chance: it takes a writer less than a microsecond, unless it has lost its
 * processor, and then it gets it back sooner when nobody spins.
 */
const UNSETTLED_SPINS = 50;
/** Pages in a WAL batch that are recorded without a pause. */
const INLINE_PAGES = 1_000;
/**
 * A database whose last WALs lived for less is opened anew for every few reads; there the checkpoint of the frame at each close would cost more than
 * the frame saves.
 */
const SHORT_LIVED_MS = 250;
const SHORT_LIVES_MAX = 3;
const DIFF_SLICE_BYTES = 4 << 20;
/** File systems without fine-grained times move them once in a timer tick, of 10 ms at most. */
const MTIME_TICK_MS = 15;
/** A database whose page 1 is as the log says is compared as a whole only once nothing has written to it for so long. */
const RAW_QUIET_MS = 1_000;

export interface PrimaryStats {
  flushes: number;
  commits: number;
  diffs: number;
  gaps: number;
}

export class Primary {
  readonly database: Database;
  readonly wal: WalCapture;
  readonly turn = new Turn();
  /** Present with durability sync. */
  readonly sync: SyncCommits | undefined;
  readonly stats: PrimaryStats = { flushes: 0, commits: 0, diffs: 0, gaps: 0 };
  /** When a transaction was last captured from the WAL, on the monotonic clock. */
  capturedMs = 0;
  readonly #report: (message: string, error: unknown) => void;
  /** mtime of the database file when its content was last known to be in the log, for journal modes that give no signal. */
  #knownMtimeNs = -1n;
  #walCreatedMs: number | undefined;
  /** The `-wal` that is there was begun over a database file that was in the log. */
  #isOverLogged = false;
  #shortLives = 0;
  #gap = false;
  /** A commit waits for followers. */
  #holding = false;
  #rawWriting = false;
  /** The file was rewritten past SQLite since the last diff: whatever its change counter says, it is one transaction. */
  #rewritten = false;

  constructor(database: Database, report: (message: string, error: unknown) => void, sync?: SyncTerms) {
    this.database = database;
    this.sync = sync === undefined ? undefined : new SyncCommits(database, sync);
    this.wal = new WalCapture(database.paths);
    this.#report = report;
  }

  /**
   * Goes on where the log ends: the WAL offset and salts of the newest LTX header. `live`: applications may be at work. Else the newest
   * transactions in the log are compared with the files first. `point`: this node followed until now, and its own WAL ends there.
   */
  resume(live: boolean, point?: WalPoint): void {
    const newest = this.database.log.newest;
    if (point !== undefined) this.wal.captured = point;
    // Without a -wal there is nothing to go on with: the next one begins with salts of its own.
    if (point === undefined && newest !== undefined && newest.max === this.database.position.txid && (files.sizeOf(this.database.paths.wal) ?? 0) > 0) {
      const header = this.database.log.header(newest);
      if (header.walSize > 0) {
        const frame = Math.round((header.walOffset + header.walSize - 32) / (header.pageSize + 24));
        this.wal.captured = { salt1: header.walSalt1, salt2: header.walSalt2, frame, checksum: undefined, iChange: undefined };
      }
    }
    this.noteFile();
    if (this.database.pageSize > 0 && fs.existsSync(this.database.paths.database)) {
      const page = this.#firstPage();
      if (pageChecksum(1, page) === this.database.sums.get(1)) this.database.loggedAsWal = page[18] === 2;
    }
    if (live || this.database.distrust !== undefined || this.#journalIsHot()) return;
    const wrong = this.#newestMissing();
    if (wrong === undefined) return;
    this.#gap = true;
    this.#report(`"${this.database.name}" is not as the log says (page ${wrong}): reading it, what differs becomes a transaction`, undefined);
  }

  /**
   * A page of the newest log entries that is not in the files: a commit was made while no engine looked and the node died with it, or frames
   * at the end of the WAL were lost. Few pages tell, because either changes page 1 or leaves out whole transactions.
   */
  #newestMissing(): number | undefined {
    const { database } = this;
    if (database.pageSize === 0 || !fs.existsSync(database.paths.database)) return undefined;
    const view = this.wal.view();
    if (view !== undefined && view.pageSize !== database.pageSize) return 1;
    const fd = files.open("resume:database", database.paths.database, "r");
    try {
      for (const pgno of database.newestPages()) {
        const frame = view?.frames.get(pgno);
        if (frame === undefined || !this.wal.readPage(frame, database.pageSize, ARENA, 0)) readDatabasePage(fd, pgno, database.pageSize, 0);
        if (pageChecksumAt(pgno, 0, database.pageSize) !== database.sums.get(pgno)) return pgno;
      }
      return undefined;
    } finally {
      fs.closeSync(fd);
    }
  }

  /** The first opener of a WAL database has made its `-wal`, and its system call waits. */
  walCreated(nowMs: number): void {
    this.#walCreatedMs = nowMs;
    this.#isOverLogged = this.database.pageSize > 0 && this.#firstPageSum() === this.database.sums.get(1);
    if (this.database.paths.mount !== undefined || this.#shortLives >= SHORT_LIVES_MAX || !this.turn.idle || this.#gap || this.database.distrust !== undefined) return;
    try {
      this.wal.captured = openWithFirstPage(this.database) ?? this.wal.captured;
    } catch (error) {
      this.#report(`"${this.database.name}" is opened without a first page in its WAL`, error);
    }
  }

  /** The last program that had the database open has removed its `-wal`. */
  walRemoved(nowMs: number): void {
    const isShort = this.#walCreatedMs !== undefined && nowMs - this.#walCreatedMs < SHORT_LIVED_MS;
    this.#shortLives = isShort ? this.#shortLives + 1 : 0;
    this.#isOverLogged = false;
    this.wal.forget("wal");
  }

  /** One quick look; records what is new when that needs no waiting. True when something was recorded. */
  tryFlush(): boolean {
    if (!this.turn.idle || this.#gap || this.database.distrust !== undefined) return false;
    const look = this.#look();
    if (look === "gap") {
      this.#gap = true;
      this.flush().catch((error: unknown) => this.#report(`Capture of "${this.database.name}" failed`, error));
      return false;
    }
    if (typeof look === "string") return false;
    if (look.pages.length > INLINE_PAGES) {
      this.flush().catch((error: unknown) => this.#report(`Capture of "${this.database.name}" failed`, error));
      return false;
    }
    return this.#recordBatch(look) === "recorded";
  }

  /** Everything committed before the call is in the log when this resolves. Rejects when the log cannot take it. */
  async flush(): Promise<void> {
    // Whoever waits for followers holds SQLite's lock for writing, and everything before its commit was captured when it began to wait.
    if (this.#holding) return;
    if (this.turn.idle && !this.#gap && this.database.distrust === undefined) {
      const look = this.#settledLook();
      if (look === "none") return;
      if (typeof look === "object" && look.pages.length <= INLINE_PAGES) return void this.#recordBatch(look);
    }
    await this.turn.run(() => this.flushHeld());
  }

  /** `flush` for a caller that already holds the turn. */
  async flushHeld(options: { journalEnds?: boolean } = {}): Promise<void> {
    if (this.database.distrust !== undefined) return this.#diffHeld(this.database.distrust, options);
    for (let attempt = 0; ; attempt++) {
      const look = this.#gap ? "gap" : this.#settledLook();
      if (look === "none") return;
      if (look === "unsettled") {
        // No valid wal-index for a long time: a recovery is under way, or its writer died. Nothing can be overwritten meanwhile.
        if (attempt > 2_000) return this.#diffHeld("the wal-index stays invalid", options);
        await sleep(1);
        continue;
      }
      if (look === "gap") {
        if (!this.#gap) this.stats.gaps++;
        this.#gap = true;
        return this.#diffHeld("the WAL does not continue where the log ends", options);
      }
      await this.#recordLong(look);
      return;
    }
  }

  #settledLook(): ReturnType<WalCapture["look"]> {
    for (let spin = 0; spin < UNSETTLED_SPINS; spin++) {
      const look = this.#look();
      if (look !== "unsettled") return look;
    }
    return "unsettled";
  }

  /**
   * A look at the WAL. A WAL that begins while the database file has commits that gave no signal (a switch from journal_mode MEMORY or OFF) is
   * a gap: its frames lie over pages that the log does not have. Every such commit has changed page 1.
   */
  #look(): ReturnType<WalCapture["look"]> {
    const look = this.wal.look();
    if (typeof look === "string" || this.wal.captured !== undefined || this.database.position.txid === 0) return look;
    const sum = this.#firstPageSum();
    if (sum === this.database.sums.get(1)) return look;
    // It was as the log says when this WAL began; then it was a checkpoint that wrote page 1, from this WAL.
    return this.#isOverLogged && this.#walHolds(look, 1, sum) ? look : "gap";
  }

  #firstPageSum(): bigint {
    return pageChecksum(1, this.#firstPage());
  }

  /** Page 1 as it lies in the database file. */
  #firstPage(): Buffer {
    const page = Buffer.alloc(this.database.pageSize);
    const fd = files.open("capture:database", this.database.paths.database, "r");
    try {
      files.read("capture:database", fd, page, 0, page.length, 0);
    } finally {
      fs.closeSync(fd);
    }
    return page;
  }

  /** Whether a frame of the batch holds this version of a page. */
  #walHolds(batch: WalBatch, pgno: number, sum: bigint): boolean {
    for (let index = 0; index < batch.pages.length; index++) {
      if (batch.pages[index] !== pgno || !this.wal.readPage(batch.from + index, batch.pageSize, ARENA, 0)) continue;
      if (pageChecksumAt(pgno, 0, batch.pageSize) === sum) return true;
    }
    return false;
  }

  #walChange(batch: WalBatch, readFrame: WalCapture["readPage"] = (...args) => this.wal.readPage(...args)): Change & { databaseFd: number | undefined } {
    const { database } = this;
    const frames = newestFrames(batch);
    const { pageSize, pageCount } = batch;
    const lock = lockPgno(pageSize);
    // A first transaction is a snapshot and needs every page, also those that the WAL does not hold.
    const whole = database.position.txid === 0;
    const candidates = whole ? database.allPages(pageCount, pageSize) : [...frames.keys()].filter((pgno) => pgno <= pageCount && pgno !== lock).sort((a, b) => a - b);
    const databaseFd = whole ? files.open("capture:database", database.paths.database, "r") : undefined;
    return {
      commits: batch.commits, pageSize, pageCount, candidates, candidateCount: whole ? pageCount : frames.size, databaseFd,
      readPage: (pgno, offset) => {
        const frame = frames.get(pgno);
        if (frame === undefined) return readDatabasePage(databaseFd!, pgno, pageSize, offset);
        if (!readFrame(frame, pageSize, ARENA, offset)) throw new Error(`frame ${frame} of "${database.name}" cannot be read`);
      },
      wal: { offset: frameOffset(batch.from, pageSize), size: batch.pages.length * (pageSize + 24), salt1: batch.next.salt1, salt2: batch.next.salt2 },
    };
  }

  #recordBatch(batch: WalBatch): RecordOutcome {
    const change = this.#walChange(batch);
    try {
      return this.#advance(batch, this.database.record(change));
    } finally {
      if (change.databaseFd !== undefined) fs.closeSync(change.databaseFd);
    }
  }

  async #recordLong(batch: WalBatch): Promise<void> {
    const change = this.#walChange(batch);
    try {
      this.#advance(batch, await pausing(this.database.recordSteps(change)));
    } finally {
      if (change.databaseFd !== undefined) fs.closeSync(change.databaseFd);
    }
  }

  #advance(batch: WalBatch, outcome: RecordOutcome): RecordOutcome {
    this.wal.captured = batch.next;
    this.capturedMs = performance.now();
    this.stats.flushes++;
    if (outcome === "recorded") this.stats.commits += batch.commits;
    return outcome;
  }

  /**
   * durability sync: a writer has written all of a transaction but the last piece, and waits. Resolves once that is written, which is once enough
   * followers have stored the transaction; throws SYNC_REFUSED, and then nothing of it is left that a recovery would take.
   */
  walCommit(commit: WalCommit, write: () => void): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.turn.run(() => this.#walCommit(commit, write, resolve)).catch((error: unknown) => {
      // Without effect once the writer has its answer: then the frames are in the WAL, and capture finds them there.
      reject(error as Error);
      if (!isAppError(error, "SYNC_REFUSED")) this.#report(`Capture of "${this.database.name}" failed`, error);
    });
    return promise;
  }

  async #walCommit(commit: WalCommit, write: () => void, answer: () => void): Promise<void> {
    const { database, sync } = this;
    assert(sync !== undefined);
    const before = this.wal.publication();
    if (before === "never") this.#gap = true;
    if (before !== "only" || this.#gap || database.distrust !== undefined) await this.flushHeld();
    const { captured } = this.wal;
    const continues = captured !== undefined && captured.salt1 === commit.salt1 && captured.salt2 === commit.salt2 ? captured.frame === commit.from - 1 : commit.from === 1;
    if (!continues) {
      this.#gap = true;
      await this.flushHeld();
    }
    if (this.#gap || database.distrust !== undefined) throw new AppError("SYNC_REFUSED", [database.name, "what was committed before it is still being read"]);
    const opened = openCommit((...args) => this.wal.read(...args), commit);
    const change = this.#walChange(opened.batch, opened.readPage);
    try {
      const draft = await pausing(database.draftSteps(change));
      const undo = typeof draft === "string" ? undefined : await this.#hold(sync, draft);
      try {
        write();
      } catch (error) {
        undo?.();
        throw error;
      }
      this.capturedMs = performance.now();
      answer();
      // The writer goes on meanwhile; whoever wants the position waits for the turn.
      if (typeof draft !== "string") {
        await nextTick();
        database.commit(draft);
      }
      // Not before it is in the log: where the disk is full, the next flush finds these frames and fails, instead of telling the position before them.
      this.wal.committed(opened.batch.next);
      if (typeof draft === "string") return;
      this.stats.flushes++;
      this.stats.commits++;
    } finally {
      if (change.databaseFd !== undefined) fs.closeSync(change.databaseFd);
    }
  }

  /** A rollback journal ends: its transaction is committed or was rolled back. Called before the journal goes, the application waits. */
  async journalEnds(zeroedHeader?: Buffer): Promise<void> {
    await this.turn.run(async () => {
      const doubtful = this.#gap || this.database.distrust !== undefined;
      await this.flushHeld({ journalEnds: true });
      // A diff at this moment has seen the transaction already.
      if (doubtful) return;
      const candidates = journalCandidates(this.database, zeroedHeader === undefined ? undefined : decodeJournalHeader(zeroedHeader));
      if (candidates === undefined) return this.#diffHeld("the journal does not tell which pages changed", { journalEnds: true });
      if (candidates.pages.length === 0 && candidates.pageCount === this.database.sums.pageCount) return;
      const fd = files.open("capture:database", this.database.paths.database, "r");
      try {
        const draft = await pausing(this.database.draftSteps({
          commits: 1, pageSize: candidates.pageSize, pageCount: candidates.pageCount, candidates: candidates.pages, candidateCount: candidates.pages.length,
          readPage: (pgno, offset) => readDatabasePage(fd, pgno, candidates.pageSize, offset),
        }));
        if (typeof draft !== "string") {
          await this.#holdJournal(draft, zeroedHeader);
          this.database.commit(draft);
          this.stats.flushes++;
          this.stats.commits++;
        }
      } finally {
        fs.closeSync(fd);
      }
      this.noteFile();
    });
  }

  /** A commit waits for followers, or has just been decided. */
  get isHolding(): boolean {
    return this.#holding;
  }

  async #hold(sync: SyncCommits, draft: Draft): Promise<() => void> {
    this.#holding = true;
    try {
      return await sync.hold(draft);
    } finally {
      this.#holding = false;
    }
  }

  /** durability sync: the journal stays, or becomes hot again, unless enough followers have stored the transaction. */
  async #holdJournal(draft: Draft, zeroedHeader: Buffer | undefined): Promise<void> {
    if (this.sync === undefined) return;
    const { journal } = this.database.paths;
    if (namesSuperJournal(journal)) return this.#noteUnheld("it is part of a transaction over several databases");
    try {
      await this.#hold(this.sync, draft);
    } catch (error) {
      if (zeroedHeader !== undefined) restoreJournalHeader(journal, zeroedHeader);
      throw error;
    }
  }

  /** A commit that could not be held is at least no secret. */
  #noteUnheld(reason: string): void {
    if (this.sync === undefined) return;
    this.sync.unheld++;
    this.#report(`A commit to "${this.database.name}" did not wait for followers as durability sync asks for: ${reason}`, undefined);
  }

  /** A program begins to rewrite the file past SQLite (it emptied it): nothing is captured until it is done. */
  beginRewrite(): void {
    this.#rawWriting = true;
    this.#rewritten = true;
  }

  /** Whoever may have been rewriting the file has closed it. */
  endRewrite(): void {
    this.#rawWriting = false;
  }

  /** A whole file was put here past SQLite: it becomes one transaction. */
  async captureRewritten(): Promise<void> {
    this.#rawWriting = false;
    this.#rewritten = true;
    await this.diff("written past SQLite");
  }

  /**
   * The file may have changed without a signal (journal_mode MEMORY or OFF, a program past SQLite): look, and compare if it did. "later": that
   * cannot be told now at a bearable price, so look again in a while.
   * `closed`: nobody has the file open any more.
   */
  async checkFile(options: { closed?: boolean } = {}): Promise<"settled" | "later"> {
    if (this.#rawWriting) return "settled";
    const stat = fs.statSync(this.database.paths.database, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined || stat.mtimeNs === this.#knownMtimeNs || (files.sizeOf(this.database.paths.wal) ?? 0) > 0) return "settled";
    // A transaction with a journal is under way: its end is a signal, and the diff would only read what that captures anyway.
    if (this.#journalIsHot()) return "later";
    if (this.database.pageSize > 0 && this.turn.idle && this.#firstPageSum() === this.database.sums.get(1)) {
      if (this.database.loggedAsWal) {
        // A checkpoint wrote it: every commit that gives no signal would have changed page 1.
        this.#knownMtimeNs = stat.mtimeNs;
        return "settled";
      }
      // No commit either; only a program that writes past SQLite leaves page 1 alone. While the file keeps changing it is a busy database.
      if (options.closed !== true && Date.now() - Number(stat.mtimeNs / 1_000_000n) < RAW_QUIET_MS) return "later";
    }
    await this.diff("the file changed without a journal");
    return "settled";
  }

  /** The database file as it is now is in the log. */
  noteFile(): void {
    const stat = fs.statSync(this.database.paths.database, { bigint: true, throwIfNoEntry: false });
    this.#knownMtimeNs = stat?.mtimeNs ?? -1n;
  }

  /**
   * Diff capture: reads the whole database as one consistent state, compares every page with its known checksum and records what differs.
   * For a WAL the database file is read first and the committed frames are laid over it: pages outside the WAL cannot change meanwhile,
   * since the checkpoint that would let the WAL restart waits for this. For a rollback journal the state is taken when nobody was writing
   * before and after and the file's times did not move; else it is tried again. It is tried again as well when what was recorded is not what was
   * read: the pages are read once more for it, when a checkpoint may have written newer ones, from frames that came after those laid over.
   */
  async diff(reason: string, options: { journalEnds?: boolean; first?: boolean } = {}): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      // Between attempts the turn is free: a writer that is waited for may itself wait for its commit to be captured.
      if (await this.turn.run(() => this.#attemptDiff(options))) return;
      if (attempt % 100 === 0) this.#report(`Diff of "${this.database.name}" (${reason}) waits for a writer to finish`, undefined);
      await sleep(Math.min(100, attempt * 5));
    }
  }

  /**
   * A database has just been found: as it is, it becomes the first transaction. Where that was captured while this waited, nothing is compared: what came
   * after it has signals of its own, and a diff would make one transaction of several.
   */
  async captureFirst(): Promise<void> {
    await this.diff("a database that appeared", { first: true });
    await this.flush();
    await this.checkFile();
  }

  /** A diff inside somebody's turn. Where a writer is in the way it is left for later, because the writer may be waiting for this very turn. */
  async #diffHeld(reason: string, options: { journalEnds?: boolean }): Promise<void> {
    if (await this.#attemptDiff(options)) return;
    setImmediate(() => {
      this.diff(reason).catch((error: unknown) => this.#report(`Capture of "${this.database.name}" failed`, error));
    });
  }

  /** True when the database is in the log as it is. */
  async #attemptDiff(options: { journalEnds?: boolean; first?: boolean }): Promise<boolean> {
    const { distrust, deleted, position, paths: { database: path } } = this.database;
    if (!fs.existsSync(path)) return true;
    if (options.first === true && position.txid > 0 && !deleted && !this.#gap && distrust === undefined) return true;
    // In a moment the index says what the log says.
    if (this.wal.awaitsPublication) return false;
    this.stats.diffs++;
    const fd = files.open("diff:database", path, "r");
    try {
      if ((await this.#diffOnce(fd, options.journalEnds === true)) === "again") return false;
      this.#gap = false;
      return true;
    } finally {
      fs.closeSync(fd);
    }
  }

  async #diffOnce(fd: number, journalEnds: boolean): Promise<"done" | "again"> {
    const { database } = this;
    // Half a file is nobody's transaction: the end of the rewriting is the next point to look.
    if (this.#rawWriting) return "again";
    const before = fs.fstatSync(fd, { bigint: true });
    const hasWal = (files.sizeOf(database.paths.wal) ?? 0) > 0;
    if (!hasWal && !journalEnds && (isWriting(Number(before.ino)) || this.#journalIsHot())) return "again";
    const head = Buffer.alloc(100);
    files.read("diff:database", fd, head, 0, 100, 0);
    if (before.size > 0n && !isDatabaseHeader(head) && !hasWal) return "done"; // Not a database (any more): nothing to record.
    const view = hasWal ? this.wal.view() : undefined;
    const header = readDatabaseHeader(head);
    const pageSize = view?.pageSize ?? header?.pageSize;
    if (pageSize === undefined) return "done";
    const sums = await scanFile(fd, Number(before.size), pageSize);
    // Laid over at the end: whatever a checkpoint wrote during the scan is in the WAL too.
    const overlay = hasWal ? this.wal.view() : undefined;
    if (hasWal && view !== undefined && overlay === undefined) return "again";
    const pageCount = overlay?.pageCount ?? (header === undefined ? Math.floor(Number(before.size) / pageSize) : databasePageCount(header, Number(before.size)));
    for (const [pgno, frame] of overlay?.frames ?? []) {
      if (pgno > pageCount) continue;
      if (!this.wal.readPage(frame, pageSize, ARENA, 0)) return "again";
      sums.set(pgno, pageChecksumAt(pgno, 0, pageSize));
    }
    sums.resize(pageCount);
    addZeroPages(sums, pageSize);
    const unmoved = (): boolean => {
      if (this.#rawWriting || (overlay !== undefined && !this.wal.stillHolds(overlay.next))) return false;
      return hasWal || journalEnds || (fs.fstatSync(fd, { bigint: true }).mtimeNs === before.mtimeNs && !isWriting(Number(before.ino)));
    };
    if (!unmoved()) return "again";
    const resized = database.pageSize !== 0 && database.pageSize !== pageSize;
    const whole = resized || database.position.txid === 0 || database.distrust !== undefined;
    const changed: number[] = [];
    for (const pgno of database.allPages(pageCount, pageSize)) if (whole || sums.get(pgno) !== database.sums.get(pgno)) changed.push(pgno);
    const finish = (): "done" => {
      if (overlay !== undefined) this.wal.captured = overlay.next;
      // The file as it was read, not as it is now: a commit without a journal may have come since. One that came within the same tick of the
      // file system's clock would not show in the time, so a time that is too fresh is no proof.
      this.#knownMtimeNs = Date.now() - Number(before.mtimeNs / 1_000_000n) < MTIME_TICK_MS ? -1n : before.mtimeNs;
      this.#rewritten = false;
      return "done";
    };
    if (database.distrust !== undefined) {
      // After a machine crash: the same state as the position names needs no transaction; another one is a new one.
      if (sums.checksum === database.position.checksum) {
        database.adoptScan(sums, pageSize, database.position);
      } else {
        database.adoptScan(sums, pageSize, { epoch: database.position.epoch, txid: database.position.txid + 1, checksum: sums.checksum | CHECKSUM_FLAG });
      }
      return finish();
    }
    if (changed.length === 0 && pageCount === database.sums.pageCount) return finish();
    // Every commit with a rollback journal, whatever its mode, has raised the change counter by one.
    const counter = header?.changeCounter;
    const known = database.changeCounter;
    const commits = !this.#rewritten && overlay === undefined && counter !== undefined && known !== undefined && counter > known ? counter - known : 1;
    const first = database.position.txid === 0;
    const outcome = await pausing(database.recordSteps({
      commits, pageSize, pageCount, candidates: changed, candidateCount: changed.length,
      readPage: (pgno, offset) => {
        const frame = overlay?.frames.get(pgno);
        if (frame === undefined || !this.wal.readPage(frame, pageSize, ARENA, offset)) readDatabasePage(fd, pgno, pageSize, offset);
      },
      stillValid: (checksum) => checksum === sums.checksum && unmoved(),
    }));
    if (outcome === "invalid") return "again";
    if (outcome === "recorded") {
      this.stats.flushes++;
      this.stats.commits += commits;
      if (!first) this.#noteUnheld("it was found by comparing the database with the log (journal_mode MEMORY or OFF, PERSIST with synchronous=OFF, or a program past SQLite)");
    }
    return finish();
  }

  /** A journal with a header stands beside the database: a transaction is under way, or its writer died. */
  #journalIsHot(): boolean {
    try {
      const fd = files.open("diff:journal", this.database.paths.journal, "r");
      try {
        const head = Buffer.alloc(8);
        return files.read("diff:journal", fd, head, 0, 8, 0) === 8 && head.some((byte) => byte !== 0);
      } finally {
        fs.closeSync(fd);
      }
    } catch {
      return false; // No journal.
    }
  }

  close(): void {
    this.wal.close();
  }
}

/** Runs steps with pauses, so that requests, other databases and the network are served meanwhile. A step may have to be waited for. */
export async function pausing<T>(steps: Generator<Promise<void> | void, T>): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await (step.value ?? nextTick());
  }
}

/** A page that is neither in the file nor in the WAL, within the size of the database, is one of zeroes, as in SQLite. */
function addZeroPages(sums: PageSums, pageSize: number): void {
  const lock = lockPgno(pageSize);
  for (let pgno = sums.pageCount; pgno > 0 && sums.get(pgno) === 0n; pgno--) {
    ARENA.fill(0, 0, pageSize);
    if (pgno !== lock) sums.set(pgno, pageChecksumAt(pgno, 0, pageSize));
  }
}

/** The checksums of all pages of a database file as it lies on disk. */
export async function scanFile(fd: number, size: number, pageSize: number): Promise<PageSums> {
  const sums = new PageSums();
  const lock = lockPgno(pageSize);
  const slice = Math.min(DIFF_SLICE_BYTES, ARENA.length >> 1);
  const pageCount = Math.floor(size / pageSize);
  for (let at = 0; at < pageCount * pageSize; at += slice) {
    const n = files.read("scan:database", fd, ARENA, 0, Math.min(slice, pageCount * pageSize - at), at);
    for (let offset = 0; offset + pageSize <= n; offset += pageSize) {
      const pgno = (at + offset) / pageSize + 1;
      if (pgno !== lock) sums.set(pgno, pageChecksumAt(pgno, offset, pageSize));
    }
    await nextTick();
  }
  sums.resize(pageCount);
  return sums;
}
