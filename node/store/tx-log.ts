/**
 * The transaction log of one database: LTX files in its log folder, oldest first. Small new ones lie in a segment, one file for many, until
 * maintenance merges them into files of their own.
 *
 * Always holds: entries do not overlap and each begins where the one before it ended, or after a break (a transaction whose pages are not in
 * the log because they were too many: an import, a diff of a large database). A break is where a follower takes a snapshot. A file that
 * cannot be read is moved to `aside/`, never deleted. The newest entry stays in memory, so that a follower that keeps up costs no read; more of
 * them would outlive the young generation, and then the whole heap must be looked through for what they leave, several times a second.
 */
import fs from "node:fs";
import { join } from "node:path";
import { passedBy } from "../core/garbage.ts";
import { files } from "../io/files.ts";
import { decodeLtx, decodeLtxFile, readLtxHeader, type DecodedLtx, type OnPage } from "../ltx/decoder.ts";
import type { LtxHeader } from "../ltx/header.ts";
import { ltxFileName, parseLtxFileName } from "../ltx/file-name.ts";
import { COMPACT_RECORD_BYTES_MAX, LOG_MEMORY_BYTES_MAX, LOG_NEWEST_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_RECORD_BYTES_MAX } from "../core/limits.ts";
import { LogSegment, SEGMENT_SUFFIX } from "./log-segment.ts";

export interface LogEntry {
  readonly min: number;
  readonly max: number;
  readonly size: number;
  /** When the entry was written, ms since the epoch: what retention by age looks at. */
  readonly writtenMs: number;
  /** Where it lies, when it has no file of its own. */
  readonly place: { readonly segment: LogSegment; readonly at: number } | undefined;
}

/** What a process that died may have left unfinished in a log folder. A snapshot on its way in is no such thing: it is gone on with. */
const UNFINISHED = /\.ltx\.(?:part|merge)$|\.new$|^(?:create\.part|apply\.spool|rewind\.spool|received\.part)$/;

export class TxLog {
  readonly folder: string;
  readonly #aside: (path: string, reason: string) => void;
  #entries: LogEntry[] = [];
  #bytes = 0;
  /**
   * The segments that new entries go to. Those that are merged soon lie apart from those that stay until retention removes them: a segment holds its
   * space until nothing in it is needed.
   */
  readonly #tails: { merged: LogSegment | undefined; staying: LogSegment | undefined } = { merged: undefined, staying: undefined };
  /** The newest entry's bytes: followers that keep up take them a moment after they were stored. */
  #newest: { readonly min: number; readonly content: Buffer } | undefined;
  /** Whether the last open had to cut off or set aside what was at the end: there may have been transactions that this log does not know. */
  lostEnd = false;
  /** First TXIDs of entries that must not be merged with the one before: the page size changes there. */
  readonly borders = new Set<number>();

  constructor(folder: string, aside: (path: string, reason: string) => void) {
    this.folder = folder;
    this.#aside = aside;
  }

  /** Reads the folder. The newest file is verified (a crash may have left it half written); an unusable one is set aside. */
  open(): void {
    files.mkdir("log:folder", this.folder);
    const found: LogEntry[] = [];
    this.lostEnd = false;
    for (const name of fs.readdirSync(this.folder)) {
      if (UNFINISHED.test(name)) {
        files.unlink("log:unfinished", join(this.folder, name));
        continue;
      }
      const range = parseLtxFileName(name);
      if (name.endsWith(SEGMENT_SUFFIX)) found.push(...this.#recoverSegment(name));
      if (range === undefined) continue;
      const stat = fs.statSync(join(this.folder, name));
      found.push({ min: range.minTxid, max: range.maxTxid, size: stat.size, writtenMs: stat.mtimeMs, place: undefined });
    }
    found.sort((a, b) => a.min - b.min || a.max - b.max);
    // A merge that was cut short may leave the merged file beside its parts: the wider entry wins, the parts go.
    const entries: LogEntry[] = [];
    for (const entry of found) {
      const last = entries.at(-1);
      if (last !== undefined && entry.max <= last.max) {
        this.#removeStored(entry);
        continue;
      }
      while (entries.length > 0 && entries.at(-1)!.min >= entry.min) this.#removeStored(entries.pop()!);
      entries.push(entry);
    }
    while (entries.length > 0) {
      const newest = entries.at(-1)!;
      const reason = this.#whyUnusable(newest);
      if (reason === undefined) break;
      this.#setAside(newest, reason);
      this.lostEnd = true;
      entries.pop();
    }
    this.#entries = entries;
    this.#bytes = entries.reduce((sum, entry) => sum + entry.size, 0);
  }

  #recoverSegment(name: string): LogEntry[] {
    const path = join(this.folder, name);
    const { segment, records, cut } = LogSegment.recover(path);
    if (cut) this.lostEnd = true;
    segment.live = records.length;
    if (records.length === 0) segment.remove();
    const writtenMs = records.length === 0 ? 0 : fs.statSync(path).mtimeMs;
    return records.map(({ min, max, size, at }) => ({ min, max, size, writtenMs, place: { segment, at } }));
  }

  /** The entry is not needed any more, or another one holds what it holds. */
  #removeStored(entry: LogEntry): void {
    const segment = entry.place?.segment;
    if (segment === undefined) return files.unlink("log:remove", this.#path(entry));
    if (--segment.live > 0) return;
    if (segment === this.#tails.merged) this.#tails.merged = undefined;
    if (segment === this.#tails.staying) this.#tails.staying = undefined;
    segment.remove();
  }

  #setAside(entry: LogEntry, reason: string): void {
    if (entry.place !== undefined) {
      // The bytes of the record, as a file that can be looked at.
      files.writeFile("log:aside", this.#path(entry), entry.place.segment.read(entry.place.at, entry.size));
      entry.place.segment.cut(entry.place.at);
      this.#removeStored(entry);
    }
    this.#aside(this.#path(entry), reason);
  }

  /** An entry further back turned out to be damaged: it goes aside and leaves a hole, as a break does, where followers take a snapshot. */
  dropDamaged(entry: LogEntry, reason: string): void {
    const index = this.#entries.indexOf(entry);
    if (index === -1) return;
    if (entry.place !== undefined) {
      files.writeFile("log:aside", this.#path(entry), entry.place.segment.read(entry.place.at, entry.size));
      this.#removeStored(entry);
    }
    this.#aside(this.#path(entry), reason);
    if (this.#newest?.min === entry.min) this.#newest = undefined;
    this.#entries.splice(index, 1);
    this.#bytes -= entry.size;
  }

  #whyUnusable(entry: LogEntry): string | undefined {
    try {
      this.decode(entry);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  get entries(): readonly LogEntry[] {
    return this.#entries;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get newest(): LogEntry | undefined {
    return this.#entries.at(-1);
  }

  #path(entry: { min: number; max: number }): string {
    return join(this.folder, ltxFileName(entry.min, entry.max));
  }

  /** Takes one transaction file. On failure nothing is left behind. */
  append(min: number, max: number, content: Buffer): LogEntry {
    if (content.length > SEGMENT_RECORD_BYTES_MAX) return this.#appendFile(min, max, content);
    const kind = content.length <= COMPACT_RECORD_BYTES_MAX ? "merged" : "staying";
    if ((this.#tails[kind]?.bytes ?? 0) > SEGMENT_BYTES_MAX) this.#tails[kind] = undefined;
    const segment = (this.#tails[kind] ??= LogSegment.create(join(this.folder, `${min.toString(16).padStart(16, "0")}${SEGMENT_SUFFIX}`)));
    const { at } = segment.append(content);
    return this.#added({ min, max, size: content.length, writtenMs: Date.now(), place: { segment, at } }, content);
  }

  #appendFile(min: number, max: number, content: Buffer): LogEntry {
    const path = this.#path({ min, max });
    const fd = files.open("log:open", path, "w", 0o600);
    try {
      files.write("log:write", fd, content, 0, content.length, 0);
    } catch (error) {
      fs.closeSync(fd);
      files.unlink("log:undo", path);
      throw error;
    }
    fs.closeSync(fd);
    return this.#added({ min, max, size: content.length, writtenMs: Date.now(), place: undefined }, content);
  }

  /** Begins a transaction file that is too big for memory: a name to write to, and the call that makes it an entry. */
  begin(min: number, max: number): { path: string; commit(): LogEntry; abandon(): void } {
    const path = join(this.folder, `${ltxFileName(min, max)}.part`);
    return {
      path,
      commit: () => {
        files.rename("log:commit", path, this.#path({ min, max }));
        return this.#added({ min, max, size: fs.statSync(this.#path({ min, max })).size, writtenMs: Date.now(), place: undefined }, undefined);
      },
      abandon: () => files.unlink("log:abandon", path),
    };
  }

  #added(entry: LogEntry, content: Buffer | undefined): LogEntry {
    this.#entries.push(entry);
    this.#bytes += entry.size;
    this.#newest = content === undefined || content.length > LOG_NEWEST_BYTES_MAX ? undefined : { min: entry.min, content };
    return entry;
  }

  /** The entry that holds transaction `txid`, or undefined when the log does not reach back that far (or there is a break). */
  entryAt(txid: number): LogEntry | undefined {
    let low = 0;
    let high = this.#entries.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const entry = this.#entries[middle]!;
      if (txid < entry.min) high = middle - 1;
      else if (txid > entry.max) low = middle + 1;
      else return entry;
    }
    return undefined;
  }

  /** Whether every transaction from `from` to the newest entry's end is here. */
  coversFrom(from: number): boolean {
    let entry = this.entryAt(from);
    if (entry === undefined) return false;
    for (let index = this.#entries.indexOf(entry) + 1; index < this.#entries.length; index++) {
      const next = this.#entries[index]!;
      if (next.min !== entry.max + 1) return false;
      entry = next;
    }
    return true;
  }

  /** The bytes of an entry, from memory when it is the newest. */
  read(entry: LogEntry): Buffer {
    if (this.#newest?.min === entry.min && this.#newest.content.length === entry.size) return this.#newest.content;
    return entry.place === undefined ? fs.readFileSync(this.#path(entry)) : entry.place.segment.read(entry.place.at, entry.size);
  }

  /** Verifies an entry and hands out its pages; big ones are read in pieces. */
  decode(entry: LogEntry, onPage?: OnPage): DecodedLtx {
    if (entry.size <= LOG_MEMORY_BYTES_MAX) return decodeLtx(this.read(entry), onPage);
    const fd = this.openEntry(entry);
    try {
      return decodeLtxFile((buffer, offset) => files.read("log:read", fd, buffer, 0, buffer.length, offset), entry.size, onPage);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Opens the file of an entry that has one of its own (any larger than SEGMENT_RECORD_BYTES_MAX has), for reading in pieces; the caller closes the descriptor. It stays readable when retention removes the name. */
  openEntry(entry: LogEntry): number {
    return files.open("log:read", this.#path(entry), "r");
  }

  header(entry: LogEntry): LtxHeader {
    if (entry.place !== undefined) return readLtxHeader(this.read(entry).subarray(0, 100));
    const bytes = Buffer.alloc(100);
    const fd = this.openEntry(entry);
    try {
      files.read("log:read", fd, bytes, 0, 100, 0);
    } finally {
      fs.closeSync(fd);
    }
    return readLtxHeader(bytes);
  }

  /** Removes the oldest entries that retention no longer wants; never one at or after `keepFrom`, never the newest. */
  retain(options: { nowMs: number; durationMs: number; bytes: number; keepFrom: number }): number {
    let removed = 0;
    while (this.#entries.length > 1) {
      const oldest = this.#entries[0]!;
      const tooOld = options.nowMs - oldest.writtenMs > options.durationMs;
      if ((!tooOld && this.#bytes <= options.bytes) || oldest.max >= options.keepFrom) break;
      this.#entries.shift();
      this.#forget(oldest);
      removed++;
    }
    return removed;
  }

  #forget(entry: LogEntry): void {
    this.#removeStored(entry);
    this.#bytes -= entry.size;
    if (this.#newest?.min === entry.min) this.#newest = undefined;
  }

  /**
   * Replaces consecutive entries by one merged file, which lies at the given temporary path. The merged file takes its name before the parts
   * go, so a crash leaves either all parts or the merged file with some parts, which open() removes.
   */
  replaceRun(first: number, count: number, mergedPath: string): void {
    const parts = this.#entries.slice(first, first + count);
    const merged = { min: parts[0]!.min, max: parts.at(-1)!.max };
    const size = fs.statSync(mergedPath).size;
    files.rename("log:compact", mergedPath, this.#path(merged));
    for (const part of parts) {
      if (part.place !== undefined || part.min !== merged.min || part.max !== merged.max) this.#removeStored(part);
      if (this.#newest?.min === part.min) this.#newest = undefined;
      this.#bytes -= part.size;
    }
    this.#entries.splice(first, count, { ...merged, size, writtenMs: parts.at(-1)!.writtenMs, place: undefined });
    this.#bytes += size;
  }

  pathOf(entry: { min: number; max: number }): string {
    return this.#path(entry);
  }

  /**
   * Removes the entries that a received file from `min` on holds too (the primary had merged them). What lies before stays if it joins; an
   * entry across the border would leave the log with an overlap, so then the older part goes, as by retention.
   */
  supersede(min: number): void {
    while (this.#entries.length > 0 && this.#entries.at(-1)!.min >= min) this.#forget(this.#entries.pop()!);
    if ((this.#entries.at(-1)?.max ?? 0) >= min) while (this.#entries.length > 0) this.#forget(this.#entries.pop()!);
  }

  /**
   * Drops what leads beyond a transaction: kept elsewhere by now, and not the history any more. An entry that reaches over it goes whole. Newest
   * first, so that a crash leaves a shorter log without a hole.
   */
  cutAfter(txid: number): void {
    while (this.#entries.length > 0 && this.#entries.at(-1)!.max > txid) {
      const entry = this.#entries.pop()!;
      // Else the next open would find the record again, because the segment stays for the records before it.
      entry.place?.segment.cut(entry.place.at);
      this.#forget(entry);
    }
  }

  /** Drops everything, setting the files aside: after a snapshot the old history no longer leads to the present. */
  reset(reason: string): void {
    const segments = new Set<LogSegment>();
    for (const entry of this.#entries) {
      if (entry.place === undefined) this.#aside(this.#path(entry), reason);
      else segments.add(entry.place.segment);
    }
    for (const segment of segments) {
      segment.close();
      this.#aside(segment.path, reason);
    }
    this.#tails.merged = this.#tails.staying = undefined;
    this.#entries = [];
    this.#bytes = 0;
    this.#newest = undefined;
  }

  /** Closes what is open. The log can be opened again. */
  close(): void {
    for (const segment of new Set(this.#entries.flatMap(({ place }) => place?.segment ?? []))) segment.close();
    this.#tails.merged = this.#tails.staying = undefined;
  }
}

/** Takes an encoder's output: in memory while it is small, in a file of the log folder once it is not. */
export class LogOutput {
  readonly #log: TxLog;
  readonly #min: number;
  readonly #max: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #part: { fd: number; written: number; commit(): LogEntry; abandon(): void } | undefined;

  constructor(log: TxLog, min: number, max: number) {
    this.#log = log;
    this.#min = min;
    this.#max = max;
  }

  add(chunk: Buffer): void {
    passedBy(chunk.length);
    this.#chunks.push(Buffer.from(chunk));
    this.#bytes += chunk.length;
    if (this.#bytes > LOG_MEMORY_BYTES_MAX) this.#spill();
  }

  #spill(): void {
    if (this.#part === undefined) {
      const { path, commit, abandon } = this.#log.begin(this.#min, this.#max);
      this.#part = { fd: files.open("log:open", path, "w+", 0o600), written: 0, commit, abandon };
    }
    for (const chunk of this.#chunks) {
      files.write("log:write", this.#part.fd, chunk, 0, chunk.length, this.#part.written);
      this.#part.written += chunk.length;
    }
    this.#chunks = [];
    this.#bytes = 0;
  }

  /** All of it, before commit. */
  content(): Buffer {
    if (this.#part === undefined) return this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#spill();
    const content = Buffer.allocUnsafe(this.#part.written);
    files.read("log:read", this.#part.fd, content, 0, content.length, 0);
    return content;
  }

  get bytes(): number {
    return (this.#part?.written ?? 0) + this.#bytes;
  }

  /** Makes it an entry of the log. */
  commit(): LogEntry {
    if (this.#part === undefined) return this.#log.append(this.#min, this.#max, this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks));
    this.#spill();
    const part = this.#part;
    fs.closeSync(part.fd);
    this.#part = undefined;
    return part.commit();
  }

  /** Leaves nothing behind; without effect after commit. */
  abandon(): void {
    this.#chunks = [];
    if (this.#part === undefined) return;
    fs.closeSync(this.#part.fd);
    this.#part.abandon();
    this.#part = undefined;
  }
}
