/**
 * A snapshot on its way in: pages into a file beside the log, then the transactions after its base, then the comparison with the position that
 * the primary names. Only then does anything take its place.
 *
 * Always holds: what has arrived survives a broken connection and a restart: the file, and beside it a note with base and page size; pages are
 * checked again when it is taken up. A wrong result is set aside and begun anew.
 */
import fs from "node:fs";
import { join } from "node:path";
import { ARENA, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { decodeLtx } from "../ltx/decoder.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import { AppError } from "../../proto/errors.ts";
import { formatPosition, parsePosition, type Position } from "../../proto/position.ts";
import { BackgroundSync } from "./background-sync.ts";
import { DirectFile } from "./direct-file.ts";
import { giveOwnership, type Ownership } from "./ownership.ts";
import { PageSums } from "./page-sums.ts";
import { scanFile } from "./primary.ts";

interface Note {
  readonly base: string;
  readonly pageSize: number;
  readonly nextPage: number;
  /** Pages before nextPage that the primary keeps for the end, because they were just being written. */
  readonly missing: readonly number[];
}

/** How often the note is brought up to date, in pages. */
const NOTE_PAGES = 4_096;

export class SnapshotTarget {
  readonly path: string;
  readonly #notePath: string;
  readonly base: Position;
  readonly pageSize: number;
  readonly #sums: PageSums;
  readonly #fd: number;
  readonly #sync: BackgroundSync;
  #nextPage: number;
  readonly #missing: Set<number>;
  #sinceNote = 0;
  readonly #pageCount: number;
  /** How many pages `addWritten` has taken. */
  writtenPages = 0;
  /** For pages in bulk; opened with the first. */
  #bulk: DirectFile | undefined;

  private constructor(folder: string, begin: { base: Position; pageSize: number; pageCount: number; fromPage: number }, fd: number, sums: PageSums, missing: readonly number[]) {
    this.path = join(folder, "snapshot.part");
    this.#notePath = join(folder, "snapshot.json");
    this.base = begin.base;
    this.pageSize = begin.pageSize;
    this.#fd = fd;
    this.#sync = new BackgroundSync("snapshot:sync", fd);
    this.#sums = sums;
    this.#nextPage = begin.fromPage;
    this.#pageCount = begin.pageCount;
    this.#missing = new Set(missing);
  }

  /** Where an interrupted snapshot can go on: its base and the first page wanted. */
  static interrupted(folder: string): { base: Position; nextPage: number; missing: readonly number[] } | undefined {
    try {
      const note = JSON.parse(fs.readFileSync(join(folder, "snapshot.json"), "utf8")) as Note;
      const base = parsePosition(note.base);
      return base === undefined || !fs.existsSync(join(folder, "snapshot.part")) ? undefined : { base, nextPage: note.nextPage, missing: note.missing };
    } catch {
      return undefined; // None, or its note was lost: begin anew.
    }
  }

  static async open(folder: string, begin: { base: Position; pageSize: number; pageCount: number; fromPage: number; ownership: Ownership | undefined }): Promise<SnapshotTarget> {
    files.mkdir("snapshot:folder", folder);
    const resume = begin.fromPage > 1;
    const fd = files.open("snapshot:file", join(folder, "snapshot.part"), resume ? "r+" : "w+", 0o600);
    if (begin.ownership !== undefined) giveOwnership(join(folder, "snapshot.part"), begin.ownership);
    const sums = resume ? await scanFile(fd, Math.min(files.size(fd), (begin.fromPage - 1) * begin.pageSize), begin.pageSize) : new PageSums();
    // A page that never arrived reads as zeroes and must not count.
    const missing = resume ? (SnapshotTarget.interrupted(folder)?.missing ?? []) : [];
    for (const pgno of missing) sums.set(pgno, 0n);
    const target = new SnapshotTarget(folder, begin, fd, sums, missing);
    target.#note();
    return target;
  }

  #note(): void {
    const note: Note = { base: formatPosition(this.base), pageSize: this.pageSize, nextPage: this.#nextPage, missing: [...this.#missing] };
    files.writeFile("snapshot:note", this.#notePath, JSON.stringify(note));
    this.#sinceNote = 0;
  }

  /** Takes pages, in any order. `data` may be a part of ARENA; it is not needed afterwards. */
  addPages(numbers: readonly number[], data: Buffer): void {
    const { pageSize } = this;
    if (data.length !== numbers.length * pageSize) throw new AppError("INVALID_MESSAGE", ["SnapshotPages", `${data.length} bytes for ${numbers.length} pages`]);
    for (let at = 0; at < numbers.length; ) {
      let end = at + 1;
      while (end < numbers.length && numbers[end] === numbers[end - 1]! + 1) end++;
      files.write("snapshot:pages", this.#fd, data, at * pageSize, (end - at) * pageSize, (numbers[at]! - 1) * pageSize);
      at = end;
    }
    const step = Math.max(1, Math.floor((1 << 20) / pageSize));
    for (let at = 0; at < numbers.length; at += step) {
      const n = Math.min(step, numbers.length - at);
      ARENA.set(data.subarray(at * pageSize, (at + n) * pageSize), 0);
      for (let i = 0; i < n; i++) this.#sums.set(numbers[at + i]!, pageChecksumAt(numbers[at + i]!, i * pageSize, pageSize));
    }
    this.#sync.wrote(data.length);
    this.#track(numbers);
    this.#sinceNote += numbers.length;
    if (this.#sinceNote >= NOTE_PAGES) this.#note();
  }

  /**
   * Writes consecutive pages beside whatever else goes on; they do not count until `addWritten` names them. The memory is in use until this has
   * resolved or rejected.
   */
  writeRun(first: number, count: number, memory: Uint8Array, offset: number): Promise<void> {
    this.#bulk ??= new DirectFile("snapshot:pages", this.path, this.pageSize, this.#pageCount * this.pageSize);
    return this.#bulk.write(memory, offset, count * this.pageSize, (first - 1) * this.pageSize);
  }

  /** Consecutive pages that lie in the file now, by `writeRun`, with their checksums; 0: that page is missing, whatever lies there. */
  addWritten(first: number, sums: BigUint64Array): void {
    const last = first + sums.length - 1;
    this.#sums.setRun(first, sums);
    this.#sync.wrote(sums.length * this.pageSize);
    if (!sums.includes(0n) && this.#missing.size === 0 && first === this.#nextPage) {
      this.#nextPage = last + 1;
      this.writtenPages += sums.length;
    } else {
      const numbers = Array.from(sums, (sum, i) => (sum === 0n ? 0 : first + i)).filter((pgno) => pgno > 0);
      this.#track(numbers, last);
      this.writtenPages += numbers.length;
    }
    this.#sinceNote += sums.length;
    if (this.#sinceNote >= NOTE_PAGES) this.#note();
  }

  #track(numbers: readonly number[], last = numbers.at(-1) ?? 0): void {
    if (this.#missing.size === 0 && numbers[0] === this.#nextPage && last === this.#nextPage + numbers.length - 1) {
      this.#nextPage += numbers.length;
      return;
    }
    const here = new Set(numbers);
    const lock = lockPgno(this.pageSize);
    for (const pgno of numbers) this.#missing.delete(pgno);
    for (; this.#nextPage <= last; this.#nextPage++) if (!here.has(this.#nextPage) && this.#nextPage !== lock) this.#missing.add(this.#nextPage);
  }

  addTransaction(ltx: Buffer): void {
    const { header } = decodeLtx(ltx, (pgno, page, offset) => {
      this.#sums.set(pgno, pageChecksumAt(pgno, offset, page.length));
      files.write("snapshot:pages", this.#fd, page, 0, page.length, (pgno - 1) * page.length);
    });
    if (header.commit > 0 && header.pageSize !== this.pageSize) throw new AppError("INVALID_MESSAGE", ["Transactions", "the page size changed during the snapshot"]);
    this.#sums.resize(header.commit);
  }

  /** Compares with the position at which the snapshot ends; durable afterwards. Throws, and begins anew next time, when it does not match. */
  async finish(end: Position): Promise<{ path: string; sums: PageSums; pageSize: number; position: Position }> {
    if (this.#sums.checksum !== end.checksum) {
      await this.discard();
      throw new AppError("CORRUPT_FILE", [this.path, `the snapshot has checksum ${this.#sums.checksum.toString(16)} instead of ${end.checksum.toString(16)}`]);
    }
    try {
      files.truncate("snapshot:file", this.#fd, this.#sums.pageCount * this.pageSize);
      await this.#sync.finish();
    } finally {
      // Where the disk is full, what has arrived stays for the next attempt.
      await this.suspend();
    }
    files.unlink("snapshot:note", this.#notePath);
    return { path: this.path, sums: this.#sums, pageSize: this.pageSize, position: end };
  }

  /** The connection broke: what arrived stays for the next attempt. */
  async suspend(): Promise<void> {
    await this.#bulk?.close();
    await this.#sync.settled();
    fs.closeSync(this.#fd);
  }

  async discard(): Promise<void> {
    await this.suspend();
    files.unlink("snapshot:discard", this.path);
    files.unlink("snapshot:note", this.#notePath);
  }
}
