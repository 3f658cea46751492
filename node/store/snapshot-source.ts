/**
 * A whole database as the primary sends it, without taking a lock that a writer could notice.
 *
 * Always holds: a page counts only if its checksum equals the one the log knows at that moment, so each page is a committed version, though
 * perhaps newer than the base. `pages` compares here; `readUnproven` gives the checksum along, and the receiver compares. Pages that are just being rewritten wait for the end. The transactions after the base, which the
 * caller sends after the pages, make one state of it. The log is kept from the base on while a snapshot runs.
 */
import fs from "node:fs";
import { setImmediate as nextTick, setTimeout as sleep } from "node:timers/promises";
import { ARENA, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import { AppError } from "../../proto/errors.ts";
import type { Position } from "../../proto/position.ts";
import { ownershipOf, type Ownership } from "./ownership.ts";
import type { Primary } from "./primary.ts";

/** Takes pages out of the ARENA, at once: `numbers` are ascending, `data` holds the pages one after the other and is written over afterwards. */
export type Pack<T> = (numbers: readonly number[], data: Buffer) => T;

/** Bytes of pages in one message. */
const RUN_BYTES = 256 << 10;
const RETRIES_MAX = 4_000;
/** Looks at a page before a mere check calls it wrong: two seconds. */
const LOST_AFTER = 100;

export class SnapshotSource {
  readonly base: Position;
  readonly pageSize: number;
  readonly pageCount: number;
  readonly ownership: Ownership | undefined;
  readonly #primary: Primary;

  get path(): string {
    return this.#primary.database.paths.database;
  }

  private constructor(primary: Primary) {
    this.#primary = primary;
    const { database } = primary;
    this.base = database.position;
    this.pageSize = database.pageSize;
    this.pageCount = database.sums.pageCount;
    this.ownership = ownershipOf(database.paths.database);
  }

  static async begin(primary: Primary): Promise<SnapshotSource> {
    await primary.flush();
    return new SnapshotSource(primary);
  }

  /**
   * The pages in `numbers`, then (with fromPage > 0) all from `fromPage` on. The lock page is left out. `lost` gets the pages that never become right;
   * without it they end the snapshot by CORRUPT_FILE.
   */
  async *pages<T>(options: { fromPage: number; numbers: readonly number[]; lost?: (pgnos: readonly number[]) => void }, pack: Pack<T>): AsyncGenerator<T> {
    const { database } = this.#primary;
    if (this.pageCount === 0) return;
    const fd = files.open("snapshot:read", database.paths.database, "r");
    try {
      const late: number[] = [];
      const perRun = Math.max(1, Math.floor(RUN_BYTES / this.pageSize));
      let numbers: number[] = [];
      for (const pgno of this.#wanted(options)) {
        numbers.push(pgno);
        if (numbers.length < perRun) continue;
        const good = this.#read(fd, numbers, late);
        if (good.length > 0) yield pack(good, ARENA.subarray(0, good.length * this.pageSize));
        numbers = [];
        await nextTick();
      }
      const good = this.#read(fd, numbers, late);
      if (good.length > 0) yield pack(good, ARENA.subarray(0, good.length * this.pageSize));
      yield* this.#late(fd, late, pack, options.lost);
    } finally {
      fs.closeSync(fd);
    }
  }

  *#wanted(options: { fromPage: number; numbers: readonly number[] }): Generator<number> {
    const lock = lockPgno(this.pageSize);
    yield* options.numbers.filter((pgno) => pgno >= 1 && pgno <= this.pageCount && pgno !== lock);
    if (options.fromPage > 0) for (let pgno = options.fromPage; pgno <= this.pageCount; pgno++) if (pgno !== lock) yield pgno;
  }

  /** All pages from `fromPage` on, but the lock page, in runs of at most `bytes`. */
  *runs(fromPage: number, bytes: number): Generator<{ readonly first: number; readonly count: number }> {
    const lock = lockPgno(this.pageSize);
    const perRun = Math.max(1, Math.floor(bytes / this.pageSize));
    for (let first = Math.max(1, fromPage); first <= this.pageCount; ) {
      if (first === lock) {
        first++;
        continue;
      }
      const limit = first < lock ? lock - first : perRun;
      const count = Math.min(perRun, limit, this.pageCount - first + 1);
      yield { first, count };
      first += count;
    }
  }

  /**
   * Reads a run as it is in the file, in another thread, and answers the checksums that the log knows now: who takes a page must compare. What
   * the file does not have (yet) reads as zeroes.
   */
  async readUnproven(fd: number, run: { readonly first: number; readonly count: number }, into: Buffer): Promise<Buffer> {
    const length = run.count * this.pageSize;
    const n = await files.readLater("snapshot:read", fd, into, 0, length, (run.first - 1) * this.pageSize);
    into.fill(0, n, length);
    return this.#primary.database.sums.copyOut(run.first, run.count);
  }

  /** Reads pages of the database file into the ARENA, from 0 on; closes the gaps of those that are not right, which are added to `late`. */
  #read(fd: number, numbers: readonly number[], late: number[]): number[] {
    const { pageSize } = this;
    const { sums } = this.#primary.database;
    const good: number[] = [];
    for (let at = 0; at < numbers.length; ) {
      let end = at + 1;
      while (end < numbers.length && numbers[end] === numbers[end - 1]! + 1) end++;
      const from = good.length * pageSize;
      const n = files.read("snapshot:read", fd, ARENA, from, (end - at) * pageSize, (numbers[at]! - 1) * pageSize);
      for (let i = at; i < end; i++) {
        const offset = from + (i - at) * pageSize;
        const pgno = numbers[i]!;
        if (offset + pageSize <= from + n && pageChecksumAt(pgno, offset, pageSize) === sums.get(pgno)) {
          if (offset !== good.length * pageSize) ARENA.copyWithin(good.length * pageSize, offset, offset + pageSize);
          good.push(pgno);
        } else {
          late.push(pgno);
        }
      }
      at = end;
    }
    return good;
  }

  /** Pages whose newest version is in the WAL, or that were just being written: tried until they are right or were changed by the log. */
  async *#late<T>(fd: number, late: number[], pack: Pack<T>, lost?: (pgnos: readonly number[]) => void): AsyncGenerator<T> {
    const { database, wal } = this.#primary;
    let waiting = late;
    for (let attempt = 0; waiting.length > 0; attempt++) {
      if (lost !== undefined && attempt > LOST_AFTER) return lost(waiting);
      if (attempt > RETRIES_MAX) throw new AppError("CORRUPT_FILE", [database.paths.database, `page ${waiting[0]!} is not what its checksum says`]);
      await this.#primary.flush();
      const view = wal.view();
      let good: number[] = [];
      const again: number[] = [];
      for (const pgno of waiting) {
        // Cut off meanwhile: the log says so.
        if (pgno > database.sums.pageCount) continue;
        const frame = view?.frames.get(pgno);
        const at = good.length * this.pageSize;
        const read = frame !== undefined && wal.readPage(frame, this.pageSize, ARENA, at)
          || files.read("snapshot:read", fd, ARENA, at, this.pageSize, (pgno - 1) * this.pageSize) === this.pageSize;
        if (read && pageChecksumAt(pgno, at, this.pageSize) === database.sums.get(pgno)) {
          good.push(pgno);
          if (good.length * this.pageSize < RUN_BYTES) continue;
          const packed = pack(good, ARENA.subarray(0, good.length * this.pageSize));
          good = [];
          yield packed;
        } else {
          again.push(pgno);
        }
      }
      if (good.length > 0) yield pack(good, ARENA.subarray(0, good.length * this.pageSize));
      waiting = again;
      if (waiting.length > 0) await sleep(Math.min(20, 1 + attempt));
    }
  }

  /** The position at which the snapshot ends: everything up to here is in the log. Throws LOG_GONE when it is not (a break came between). */
  async end(): Promise<Position> {
    await this.#primary.flush();
    const { database } = this.#primary;
    const end = database.position;
    if (end.txid !== this.base.txid && !database.log.coversFrom(this.base.txid + 1)) {
      throw new AppError("LOG_GONE", [database.name, this.base.txid + 1, database.log.entries[0]?.min ?? 0]);
    }
    return end;
  }
}
