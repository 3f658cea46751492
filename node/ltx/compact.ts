/**
 * Merges LTX files that follow each other into one with the same effect.
 *
 * Always holds: TXIDs and checksums of the inputs join without a gap; each page appears once, as the newest input has it, and only if no
 * later input ends the database before it. Memory: 2 KiB an input, and what the encoder needs. The pages are found by the page indexes, so
 * each is read once (twice with `verify`).
 *
 * Unlike other compactors this one keeps the WAL fields of the newest input: a node that starts goes on capturing from there.
 */
import { assert } from "../core/assert.ts";
import { ARENA, DECODE_PAGE, DECODE_WINDOW } from "../core/checksums-memory.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import type { ReadAt } from "../sqlite/read-at.ts";
import { AppError } from "../../proto/errors.ts";
import { decodeLtxFile, openPageIndex, readLtxOutline } from "./decoder.ts";
import type { LtxOutline, DecodedLtx } from "./decoder.ts";
import { LtxEncoder } from "./encoder.ts";
import { isSnapshot } from "./header.ts";
import type { LtxHeader } from "./header.ts";
import { decodeFrame, frameSizeMax } from "./page.ts";
import type { PageIndexReader } from "./page-index.ts";

export interface CompactInput {
  /** For errors. */
  readonly name: string;
  readonly read: ReadAt;
  readonly size: number;
}

export interface CompactOptions {
  /** Decode and check each input in full first. Default true; false where that has just been done. */
  readonly verify?: boolean;
  readonly compress?: boolean;
}

/**
 * Writes the merged file to `sink`. `inputs` are given oldest first or newest first.
 * Throws CORRUPT_FILE, naming the input that is damaged or does not join the one before; what the sink got until then is worthless.
 */
export function compactLtx(inputs: readonly CompactInput[], sink: (chunk: Buffer) => void, options: CompactOptions = {}): DecodedLtx {
  assert(inputs.length > 0 && inputs.length < MAX_INPUTS);
  const sources = inputs.map((input) => ({ input, outline: readLtxOutline(input.read, input.size, input.name) }));
  sources.sort((a, b) => a.outline.header.minTxid - b.outline.header.minTxid);
  sources.forEach((source, i) => {
    if (i === 0) return;
    const reason = joinFault(sources[i - 1]!.outline, source.outline);
    if (reason !== undefined) throw new AppError("CORRUPT_FILE", [source.input.name, reason]);
  });
  if (options.verify ?? true) for (const { input } of sources) decodeLtxFile(input.read, input.size, undefined, input.name);

  const oldest = sources[0]!.outline.header;
  const newest = sources.at(-1)!.outline;
  const header: LtxHeader = {
    ...newest.header, minTxid: oldest.minTxid, preApplyChecksum: oldest.preApplyChecksum, flags: oldest.flags | newest.header.flags, nodeId: 0n,
  };
  const encoder = new LtxEncoder(sink, header, { compress: options.compress ?? true });
  const merge = new Merge(sources);
  const lockPage = lockPgno(header.pageSize);
  let lastPgno = 0;
  while (merge.next()) {
    const { input, pgno, offset, size } = merge;
    const fail = (reason: string): never => {
      throw new AppError("CORRUPT_FILE", [input.name, reason]);
    };
    if (isSnapshot(header)) {
      const expected = lastPgno + 1 === lockPage ? lastPgno + 2 : lastPgno + 1;
      if (pgno !== expected) fail(`page ${expected} is in none of the files`);
    }
    if (size > frameSizeMax(header.pageSize)) fail(`the page index claims ${size} bytes for page ${pgno}`);
    if (pgno === lockPage) fail(`page ${pgno} is the lock page`);
    const window = ARENA.subarray(DECODE_WINDOW, DECODE_WINDOW + size);
    if (input.read(window, offset) < size) fail("the file is cut off");
    if (decodeFrame(DECODE_WINDOW, size, header.pageSize, fail) !== size || window.readUInt32BE(0) !== pgno) fail(`the page index is wrong about page ${pgno}`);
    encoder.pageAt(pgno, DECODE_PAGE);
    lastPgno = pgno;
  }
  const complete = header.commit === lockPage ? header.commit - 1 : header.commit;
  if (isSnapshot(header) && lastPgno !== complete) throw new AppError("CORRUPT_FILE", [sources.at(-1)!.input.name, `page ${complete} is in none of the files`]);
  encoder.finish(newest.trailer.postApplyChecksum);
  return { header, trailer: encoder.trailer, pageCount: encoder.pageCount };
}

/** Why `next` cannot follow `previous`, or undefined. */
export function joinFault(previous: Pick<LtxOutline, "header" | "trailer">, next: Pick<LtxOutline, "header">): string | undefined {
  if (next.header.minTxid !== previous.header.maxTxid + 1) return `it begins with TXID ${next.header.minTxid}, the file before ends with ${previous.header.maxTxid}`;
  if (next.header.preApplyChecksum !== previous.trailer.postApplyChecksum) return "its pre-apply checksum is not the post-apply checksum of the file before";
  if (next.header.pageSize !== previous.header.pageSize) return `its page size is ${next.header.pageSize}, that of the file before ${previous.header.pageSize}`;
  return undefined;
}

interface Source {
  readonly input: CompactInput;
  readonly outline: LtxOutline;
}

/** Keys pgno * MAX_INPUTS + age stay below 2^53. */
const MAX_INPUTS = 2 ** 20;

/**
 * The pages of all sources in ascending order, each from the newest that counts. A binary heap of one number a source: page number, then age,
 * so that the newest comes first among equals.
 */
class Merge {
  input: CompactInput;
  pgno = 0;
  offset = 0;
  size = 0;
  readonly #sources: readonly Source[];
  readonly #indexes: readonly PageIndexReader[];
  /** For each source, the smallest size of the database from then on: later pages were cut off again. */
  readonly #limits: number[];
  readonly #heap: number[] = [];

  constructor(sources: readonly Source[]) {
    this.#sources = sources;
    this.input = sources[0]!.input;
    this.#limits = sources.map((source) => source.outline.header.commit);
    for (let i = sources.length - 2; i >= 0; i--) this.#limits[i] = Math.min(this.#limits[i]!, this.#limits[i + 1]!);
    this.#indexes = sources.map(({ input, outline }) => openPageIndex(input.read, outline, input.name));
    for (let i = 0; i < sources.length; i++) this.#advance(i);
  }

  next(): boolean {
    const before = this.pgno;
    while (this.#heap.length > 0) {
      const key = this.#pop();
      const i = this.#sources.length - 1 - (key % MAX_INPUTS);
      const index = this.#indexes[i]!;
      const { pgno, offset, size } = index;
      this.#advance(i);
      if (pgno === before || pgno > this.#limits[i]!) continue;
      this.input = this.#sources[i]!.input;
      this.pgno = pgno;
      this.offset = offset;
      this.size = size;
      return true;
    }
    return false;
  }

  #advance(i: number): void {
    const index = this.#indexes[i]!;
    if (index.next()) this.#push(index.pgno * MAX_INPUTS + this.#sources.length - 1 - i);
  }

  #push(key: number): void {
    const heap = this.#heap;
    let at = heap.length;
    for (let up = (at - 1) >> 1; at > 0 && heap[up]! > key; at = up, up = (at - 1) >> 1) heap[at] = heap[up]!;
    heap[at] = key;
  }

  #pop(): number {
    const heap = this.#heap;
    const top = heap[0]!;
    const key = heap.pop()!;
    if (heap.length === 0) return top;
    let at = 0;
    for (let down = 1; down < heap.length; at = down, down = 2 * at + 1) {
      if (down + 1 < heap.length && heap[down + 1]! < heap[down]!) down += 1;
      if (heap[down]! >= key) break;
      heap[at] = heap[down]!;
    }
    heap[at] = key;
    return top;
  }
}
