/**
 * One database on a follower: transactions are appended to its own WAL and published in the wal-index as a SQLite writer does it.
 *
 * Always holds: readers see whole transactions and are never blocked; the guardian's fence keeps every other writer and checkpointer out, so
 * this is the only one that changes the database, its WAL and its wal-index. A non-empty `-wal` is always there, so that SQLite reads through
 * it whatever the journal mode in the header. Every applied transaction is in the log first: after a crash the newest one is applied
 * again, which changes nothing if it had been applied. Frame checksums, both header copies and the order of stores are SQLite's own.
 */
import fs from "node:fs";
import { randomBytes } from "node:crypto";
import { setImmediate as nextTick } from "node:timers/promises";
import { assert } from "../core/assert.ts";
import { ARENA, walChecksumAt, type WalChecksum } from "../core/checksums.ts";
import { REPLICA_CHECKPOINT_BYTES, REPLICA_CHECKPOINT_FRAMES_MIN } from "../core/limits.ts";
import { files } from "../io/files.ts";
import { ofdTryLock } from "../native/libc.ts";
import { WAL_READ_LOCK0, WAL_READ_LOCKS_1_TO_4 } from "../sqlite/lock-bytes.ts";
import { FRAME_HEADER_SIZE, WAL_HEADER_SIZE, encodeWalHeader, frameOffset } from "../sqlite/wal.ts";
import { READMARK_NOT_USED, READ_MARK_COUNT } from "../sqlite/wal-index.ts";
import { scanWal } from "../sqlite/wal-scanner.ts";
import type { DatabasePaths } from "./names.ts";
import { giveOwnership, ownershipOf } from "./ownership.ts";
import type { WalPoint } from "./wal-capture.ts";
import { WalIndexMap } from "./wal-index-map.ts";

/** Where frames are built in ARENA; below lie pages that a caller passes in. */
const BUILD_AT = 2 << 20;
const BUILD_BYTES = 4 << 20;
/** A larger WAL gives its blocks back when it begins anew; below, the file is written over. */
const WAL_KEPT_BYTES = 2 * REPLICA_CHECKPOINT_BYTES;
/** Pages that a checkpoint copies before it lets transactions through again: a millisecond at most. */
const COPY_SLICE_PAGES = 64;

export interface PageSource {
  readonly count: number;
  /** Number of the i-th page, any order without repeats. */
  pgno(index: number): number;
  /** Copies the i-th page to ARENA at `offset`. */
  copy(index: number, offset: number): void;
}

export class Replica {
  /** Files of the mount that are just being closed: a node that stops waits for them, because they hold the mount. */
  static readonly closing = new Set<Promise<void>>();
  readonly paths: DatabasePaths;
  pageSize: number;
  pageCount = 0;
  readonly #walFd: number;
  readonly #databaseFd: number;
  readonly #index: WalIndexMap;
  /** Newest frame of each page that lies in the WAL. */
  #frames = new Map<number, number>();
  #lockFd: number | undefined;
  #checkpointing = false;
  #checkpoint: Promise<unknown> = Promise.resolve();
  #appending = false;
  #closed = false;
  /** A checkpoint that was started by an append failed (disk full): it is tried again with the next one. */
  onError: ((error: unknown) => void) | undefined;
  /** After each change of the database file by this class: size changes must reach the kernel's attribute cache. */
  onFileChange: (() => void) | undefined;
  /** Frames lie in the `-wal` and are published when what this answers has resolved. */
  onFrames: ((data: { readonly offset: number; readonly length: number; readonly last: number }) => Promise<void> | undefined) | undefined;
  // mtimes after our own last writes; other values mean that somebody wrote past SQLite's locks.
  #knownMtimeNs = -1n;
  #knownWalMtimeNs = -1n;
  /** Somebody did, and what it was has not been looked for yet: our own writes since must not hide it. */
  #databaseTouched = false;
  #walTouched = false;
  checkpoints = 0;

  private constructor(paths: DatabasePaths, pageSize: number, fds: { wal: number; database: number }, index: WalIndexMap) {
    this.paths = paths;
    this.pageSize = pageSize;
    this.#walFd = fds.wal;
    this.#databaseFd = fds.database;
    this.#index = index;
  }

  /**
   * Opens a database that exists. Cold (nobody else has it open): the wal-index is rebuilt from the WAL. Live (the engine was restarted under
   * running readers, the guardian kept the fence): the wal-index is the truth and is taken over.
   */
  static open(paths: DatabasePaths, options: { pageSize: number; live: boolean }): Replica {
    const { mount } = paths;
    const onMount = (suffix: string): number => files.open("replica:mount", mount!.path(`${paths.name}${suffix}`), mount!.openFlags);
    // Made in the backing folder first: to make a file on the mount is a question to this very process.
    let wal = files.open("replica:wal", paths.wal, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
    giveOwnership(paths.wal, ownershipOf(paths.database)!);
    if (mount !== undefined) {
      fs.closeSync(wal);
      wal = onMount("-wal");
    }
    const database = mount === undefined ? files.open("replica:database", paths.database, "r+") : onMount("");
    const index = WalIndexMap.open(paths.shm, { rebuild: !options.live, ...(mount === undefined ? {} : { openMapped: () => onMount("-shm") }) });
    giveOwnership(paths.shm, ownershipOf(paths.database)!);
    const replica = new Replica(paths, options.pageSize, { wal, database }, index);
    if (options.live && index.isValid()) replica.#takeOver();
    else replica.#recover();
    replica.#noteMtime();
    return replica;
  }

  /** Rebuilds the wal-index from the committed frames, or begins a new WAL. */
  #recover(): void {
    const found = scanWal((buffer, offset) => files.read("replica:wal", this.#walFd, buffer, 0, buffer.length, offset));
    const filePages = Math.floor(files.size(this.#databaseFd) / this.pageSize);
    this.#index.reset();
    if (found !== undefined && found.mxFrame > 0 && found.header.pageSize === this.pageSize) {
      this.pageCount = found.pageCount;
      this.#index.begin({ pageSize: this.pageSize, salt1: found.header.salt1, salt2: found.header.salt2, pageCount: found.pageCount });
      found.pages.forEach((pgno, i) => this.#put(i + 1, pgno));
      this.#index.publish({ mxFrame: found.mxFrame, pageCount: found.pageCount, checksum: found.checksum });
      // Frames behind a lost one would be valid again once the same transaction is appended in its place: same salts, same running checksum.
      const end = frameOffset(found.mxFrame + 1, this.pageSize);
      if (files.size(this.#walFd) > end) files.truncate("replica:wal", this.#walFd, end);
    } else {
      this.pageCount = filePages;
      const salt1 = randomBytes(4).readUInt32BE();
      const salt2 = randomBytes(4).readUInt32BE();
      // A header at least: SQLite looks into a WAL only if the file is not empty.
      const header = encodeWalHeader({ pageSize: this.pageSize, sequence: 0, salt1, salt2 });
      files.write("replica:wal", this.#walFd, header, 0, header.length, 0);
      this.#index.begin({ pageSize: this.pageSize, salt1, salt2, pageCount: filePages });
    }
  }

  #takeOver(): void {
    const { mxFrame, nPage, pageSize } = this.#index.header();
    this.pageSize = pageSize;
    this.pageCount = nPage;
    for (let frame = 1; frame <= mxFrame; frame++) this.#frames.set(this.#index.pageOfFrame(frame), frame);
    this.#index.clearAfter(mxFrame);
  }

  /** The descriptor of the `-shm` on the mount, on which read locks are asked during a checkpoint. Owned by this object from now on. */
  setLockFd(fd: number): void {
    this.#lockFd = fd;
  }

  get mxFrame(): number {
    return this.#index.mxFrame;
  }

  #put(frame: number, pgno: number): void {
    this.#index.put(frame, pgno);
    this.#frames.set(pgno, frame);
  }

  /**
   * Appends pages as one transaction and publishes it: readers that begin afterwards see it, readers in a snapshot keep theirs.
   * `pageSize` other than before needs all pages in the source and no reader in the way (see canResize).
   */
  *appendSteps(source: PageSource, pageCount: number): Generator<Promise<void> | void, void> {
    assert(!this.#closed && !this.#appending, "one transaction at a time");
    if (source.count === 0 && pageCount === this.pageCount) return;
    this.#appending = true;
    try {
      yield* this.#appendFrames(source, pageCount);
    } finally {
      this.#appending = false;
    }
    if (this.mxFrame >= Math.max(REPLICA_CHECKPOINT_FRAMES_MIN, REPLICA_CHECKPOINT_BYTES / this.pageSize)) void this.checkpoint().catch((error: unknown) => this.onError?.(error));
  }

  *#appendFrames(source: PageSource, pageCount: number): Generator<Promise<void> | void, void> {
    const index = this.#index;
    const { salt1, salt2 } = index.salts();
    let frame = index.mxFrame;
    const state: WalChecksum = { ...index.frameChecksum() };
    this.#noticeWal();
    if (frame === 0) {
      const header = encodeWalHeader({ pageSize: this.pageSize, sequence: index.sequence, salt1, salt2 });
      files.write("replica:wal", this.#walFd, header, 0, WAL_HEADER_SIZE, 0);
      // The checksum of the header seeds that of the first frame.
      state.s0 = header.readUInt32BE(24);
      state.s1 = header.readUInt32BE(28);
    }
    const step = FRAME_HEADER_SIZE + this.pageSize;
    const perChunk = Math.max(1, Math.floor(BUILD_BYTES / step));
    const first = frame + 1;
    // A size change without pages is committed by writing page 1 again.
    const count = source.count === 0 ? 1 : source.count;
    const pgnos = new Uint32Array(count);
    for (let at = 0; at < count; at += perChunk) {
      const n = Math.min(perChunk, count - at);
      for (let i = 0; i < n; i++) {
        const offset = BUILD_AT + i * step;
        const pgno = source.count === 0 ? 1 : source.pgno(at + i);
        pgnos[at + i] = pgno;
        if (source.count === 0) this.readPage(1, offset + FRAME_HEADER_SIZE);
        else source.copy(at + i, offset + FRAME_HEADER_SIZE);
        ARENA.writeUInt32BE(pgno, offset);
        ARENA.writeUInt32BE(at + i === count - 1 ? pageCount : 0, offset + 4);
        ARENA.writeUInt32BE(salt1, offset + 8);
        ARENA.writeUInt32BE(salt2, offset + 12);
        walChecksumAt(offset, 8, state);
        walChecksumAt(offset + FRAME_HEADER_SIZE, this.pageSize, state);
        ARENA.writeUInt32BE(state.s0, offset + 16);
        ARENA.writeUInt32BE(state.s1, offset + 20);
      }
      files.write("replica:wal", this.#walFd, ARENA, BUILD_AT, n * step, frameOffset(first + at, this.pageSize));
      if (at + n < count) yield;
    }
    const from = first === 1 ? 0 : frameOffset(first, this.pageSize);
    const dropped = this.onFrames?.({ offset: from, length: frameOffset(first + count, this.pageSize) - from, last: ARENA[BUILD_AT + (((count - 1) % perChunk) + 1) * step - 1]! });
    if (dropped !== undefined) yield dropped;
    index.ensure(first + count - 1);
    for (let i = 0; i < count; i++) this.#put(++frame, pgnos[i]!);
    this.pageCount = pageCount;
    index.publish({ mxFrame: frame, pageCount, checksum: state });
    this.#knownWalMtimeNs = fs.fstatSync(this.#walFd, { bigint: true }).mtimeNs;
  }

  /** The current content of a page, into ARENA at `offset`: its newest frame, else the database file. */
  readPage(pgno: number, offset: number): void {
    const frame = this.#frames.get(pgno);
    const n = frame !== undefined
      ? files.read("replica:wal", this.#walFd, ARENA, offset, this.pageSize, frameOffset(frame, this.pageSize) + FRAME_HEADER_SIZE)
      : files.read("replica:database", this.#databaseFd, ARENA, offset, this.pageSize, (pgno - 1) * this.pageSize);
    if (n < this.pageSize) ARENA.fill(0, offset + n, offset + this.pageSize);
  }

  /**
   * Copies WAL frames into the database file and, if no reader is in the way, begins the WAL anew: SQLite's rules (walCheckpoint, walRestartHdr).
   * The WAL is durable before the database changes, the database before the WAL is reused. Returns whether the WAL is empty afterwards.
   */
  checkpoint(): Promise<boolean> {
    if (this.#checkpointing || this.#closed || this.#lockFd === undefined) return Promise.resolve(false);
    this.#checkpointing = true;
    const done = this.#runCheckpoint();
    this.#checkpoint = done.catch(() => undefined);
    return done;
  }

  async #runCheckpoint(): Promise<boolean> {
    try {
      const index = this.#index;
      const lockFd = this.#lockFd!;
      const mxFrame = index.mxFrame;
      if (mxFrame > index.backfill) {
        await files.fdatasync("replica:wal-sync", this.#walFd);
        if (this.#closed) return false;
        let safe = mxFrame;
        for (let mark = 1; mark < READ_MARK_COUNT; mark++) {
          if (index.readMark(mark) >= safe) continue;
          if (ofdTryLock(lockFd, "write", WAL_READ_LOCK0.start + mark, 1)) {
            index.setReadMark(mark, mark === 1 ? safe : READMARK_NOT_USED);
            ofdTryLock(lockFd, "unlock", WAL_READ_LOCK0.start + mark, 1);
          } else {
            safe = index.readMark(mark);
          }
        }
        if (safe > index.backfill && ofdTryLock(lockFd, "write", WAL_READ_LOCK0.start, 1)) {
          try {
            index.setBackfillAttempted(safe);
            this.#noticeDatabase();
            if (!this.#appending) this.#noticeWal();
            await this.#copyFrames(index.backfill, safe);
            if (safe === index.mxFrame) files.truncate("replica:database", this.#databaseFd, this.pageCount * this.pageSize);
            this.#noteMtime();
            this.onFileChange?.();
            await files.fdatasync("replica:database-sync", this.#databaseFd);
            if (this.#closed) return false;
            index.setBackfill(safe);
            this.checkpoints++;
          } finally {
            if (!this.#closed) ofdTryLock(lockFd, "unlock", WAL_READ_LOCK0.start, 1);
          }
        }
      }
      return this.#restart();
    } finally {
      this.#checkpointing = false;
    }
  }

  async #copyFrames(after: number, upTo: number): Promise<void> {
    const newest = new Map<number, number>();
    for (let frame = after + 1; frame <= upTo; frame++) newest.set(this.#index.pageOfFrame(frame), frame);
    const pages = [...newest].filter(([pgno]) => pgno <= this.pageCount).sort((a, b) => a[0] - b[0]);
    let done = 0;
    for (const [pgno, frame] of pages) {
      files.read("replica:wal", this.#walFd, ARENA, 0, this.pageSize, frameOffset(frame, this.pageSize) + FRAME_HEADER_SIZE);
      files.write("replica:database", this.#databaseFd, ARENA, 0, this.pageSize, (pgno - 1) * this.pageSize);
      if (++done % COPY_SLICE_PAGES === 0) await nextTick();
    }
    this.#noteMtime();
  }

  /** Begins the WAL anew when all of it is in the database and nobody reads from it. */
  #restart(newPageSize?: number): boolean {
    const index = this.#index;
    if (index.mxFrame === 0 && newPageSize === undefined) return true;
    // A transaction that is being appended continues the frames that are there.
    if (this.#appending || index.backfill !== index.mxFrame || this.#lockFd === undefined) return false;
    if (!ofdTryLock(this.#lockFd, "write", WAL_READ_LOCKS_1_TO_4.start, WAL_READ_LOCKS_1_TO_4.length)) return false;
    this.#noticeWal();
    this.#frames.clear();
    if (newPageSize !== undefined) this.pageSize = newPageSize;
    index.restart({ pageSize: this.pageSize, salt2: randomBytes(4).readUInt32BE() });
    // The old frames end here and now: a start after this must neither read nor believe them (one in the middle may have been damaged).
    const { salt1, salt2 } = index.salts();
    const header = encodeWalHeader({ pageSize: this.pageSize, sequence: index.sequence, salt1, salt2 });
    if (files.size(this.#walFd) > WAL_KEPT_BYTES) files.truncate("replica:wal", this.#walFd, WAL_HEADER_SIZE);
    files.write("replica:wal", this.#walFd, header, 0, WAL_HEADER_SIZE, 0);
    this.#knownWalMtimeNs = fs.fstatSync(this.#walFd, { bigint: true }).mtimeNs;
    ofdTryLock(this.#lockFd, "unlock", WAL_READ_LOCKS_1_TO_4.start, WAL_READ_LOCKS_1_TO_4.length);
    return true;
  }

  /**
   * Prepares for pages of another size: everything is checkpointed, then the WAL restarts with the new size. Only the next append, which must
   * hold every page, makes the database whole again. False while a reader is in the way.
   */
  async resize(pageSize: number): Promise<boolean> {
    if (!(await this.checkpoint())) return false;
    return this.#restart(pageSize);
  }

  /** Rewrites the wal-index from what this object knows: a program has damaged it. */
  repairIndex(): void {
    this.#index.republish();
  }

  indexIsIntact(): boolean {
    return this.#index.matchesOwn();
  }

  #noteMtime(): void {
    this.#knownMtimeNs = fs.fstatSync(this.#databaseFd, { bigint: true }).mtimeNs;
    this.#knownWalMtimeNs = fs.fstatSync(this.#walFd, { bigint: true }).mtimeNs;
  }

  /** Before a write of our own to the database file. */
  #noticeDatabase(): void {
    if (fs.fstatSync(this.#databaseFd, { bigint: true }).mtimeNs !== this.#knownMtimeNs) this.#databaseTouched = true;
  }

  /** Before a write of our own to the `-wal`. */
  #noticeWal(): void {
    if (fs.fstatSync(this.#walFd, { bigint: true }).mtimeNs !== this.#knownWalMtimeNs) this.#walTouched = true;
  }

  /** Whether somebody else has written to one of the three files since they were looked at. False while a checkpoint of our own runs. */
  wasTouched(): boolean {
    if (this.#checkpointing || this.#appending || this.#closed) return false;
    this.#noticeDatabase();
    this.#noticeWal();
    return this.#databaseTouched || this.#walTouched || !this.#index.headerMatchesOwn();
  }

  /** Whether somebody else has written to the `-wal` since it was looked at. */
  walWasTouched(): boolean {
    if (!this.#closed && !this.#checkpointing && !this.#appending) this.#noticeWal();
    return this.#walTouched;
  }

  /**
   * Makes a WAL that somebody has written into harmless: everything goes into the database, the WAL begins anew, with a header of its own. False
   * while a reader is in the way.
   */
  async renewWal(): Promise<boolean> {
    if (!(await this.checkpoint())) return false;
    const { salt1, salt2 } = this.#index.salts();
    const header = encodeWalHeader({ pageSize: this.pageSize, sequence: this.#index.sequence, salt1, salt2 });
    files.write("replica:wal", this.#walFd, header, 0, header.length, 0);
    this.#noteMtime();
    return true;
  }

  /** The files as they are now have been looked at. */
  acceptTouch(): void {
    this.#databaseTouched = this.#walTouched = false;
    this.#noteMtime();
  }

  /**
   * Ends this object in order, for a node that is about to write itself: resolves, when no checkpoint runs any more, with where the WAL stands.
   * The caller keeps appends away, and the fence is still held.
   */
  async release(): Promise<WalPoint> {
    assert(!this.#appending, "a transaction is being appended");
    await this.#checkpoint;
    const { salt1, salt2, mxFrame, frameChecksum, iChange } = this.#index.header();
    this.close();
    return { salt1, salt2, frame: mxFrame, checksum: mxFrame === 0 ? undefined : { ...frameChecksum }, iChange };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#index.close();
    fs.closeSync(this.#walFd);
    fs.closeSync(this.#databaseFd);
    // A close on the mount is a request to our own FUSE thread: never synchronously.
    const fd = this.#lockFd;
    if (fd === undefined) return;
    const closing = new Promise<void>((resolve) => fs.close(fd, () => resolve())).finally(() => Replica.closing.delete(closing));
    Replica.closing.add(closing);
  }
}
