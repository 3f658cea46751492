/**
 * The page index of an LTX file: where each page frame lies. FORMAT.md has the table.
 *
 * Always holds: entries ascend by page number and their frames follow each other without a gap from byte 100 on; a varint has no
 * unnecessary bytes. An index is therefore a function of the frames, which is how the decoder checks it without keeping it.
 */
import { assert } from "../core/assert.ts";
import type { ReadAt } from "../sqlite/read-at.ts";

/** Three varints: 5 bytes for 32 bits, 8 for a safe integer, 5 for a frame. */
export const INDEX_ENTRY_SIZE_MAX = 18;
/** The 8 bytes after the entries that hold their size. */
export const INDEX_SIZE_SIZE = 8;

/** Writes `value`, a safe integer, as an unsigned varint: 7 bits a byte, low ones first, bit 7 = more follow. Returns the end offset. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  while (value >= 0x80) {
    target[offset++] = (value % 0x80) | 0x80;
    value = Math.floor(value / 0x80);
  }
  target[offset++] = value;
  return offset;
}

/** Writes one entry. Returns the end offset. */
export function writeIndexEntry(target: Uint8Array, offset: number, pgno: number, frameOffset: number, frameSize: number): number {
  offset = writeVarint(target, offset, pgno);
  offset = writeVarint(target, offset, frameOffset);
  return writeVarint(target, offset, frameSize);
}

/** Collects an index while frames are written: about 10 bytes a page, in pieces of at most 64 KiB. */
export class PageIndexWriter {
  #pieces: Buffer[] = [];
  #piece = Buffer.allocUnsafe(256);
  #used = 0;
  #before = 0;

  add(pgno: number, frameOffset: number, frameSize: number): void {
    if (this.#used + INDEX_ENTRY_SIZE_MAX > this.#piece.length) {
      this.#pieces.push(this.#piece.subarray(0, this.#used));
      this.#before += this.#used;
      this.#piece = Buffer.allocUnsafe(Math.min(65536, this.#piece.length * 4));
      this.#used = 0;
    }
    this.#used = writeIndexEntry(this.#piece, this.#used, pgno, frameOffset, frameSize);
  }

  /** The whole index, in pieces: entries, the zero that ends them, and their size. */
  finish(): Buffer[] {
    const end = Buffer.alloc(1 + INDEX_SIZE_SIZE);
    end.writeBigUInt64BE(BigInt(this.#before + this.#used + 1), 1);
    return [...this.#pieces, this.#piece.subarray(0, this.#used), end];
  }
}

/**
 * Reads the entries in [start, end) of a file, `end` being just behind the zero that ends them, a small piece at a time.
 * After `next()` said true, `pgno`, `offset` and `size` are those of the next frame. Calls `fail`, which throws, with what is wrong.
 */
export class PageIndexReader {
  pgno = 0;
  offset = 0;
  size = 0;
  readonly #read: ReadAt;
  readonly #end: number;
  readonly #firstFrame: number;
  readonly #fail: (reason: string) => never;
  readonly #window: Buffer;
  #filePosition: number;
  #at = 0;
  #filled = 0;

  constructor(read: ReadAt, start: number, end: number, firstFrame: number, fail: (reason: string) => never) {
    assert(start <= end);
    this.#read = read;
    this.#filePosition = start;
    this.#end = end;
    this.#firstFrame = firstFrame;
    this.#fail = fail;
    this.#window = Buffer.allocUnsafe(Math.min(2048, Math.max(1, end - start)));
  }

  next(): boolean {
    const pgno = this.#varint();
    if (pgno === 0) {
      if (this.#filePosition !== this.#end || this.#at !== this.#filled) this.#fail("the page index ends before its size says");
      return false;
    }
    const offset = this.#varint();
    const size = this.#varint();
    const expected = this.pgno === 0 ? this.#firstFrame : this.offset + this.size;
    if (pgno > 0xffffffff || pgno <= this.pgno) this.#fail(`the page index has page ${pgno} after ${this.pgno}`);
    if (offset !== expected) this.#fail(`the page index puts page ${pgno} at ${offset}, its place is ${expected}`);
    this.pgno = pgno;
    this.offset = offset;
    this.size = size;
    return true;
  }

  #varint(): number {
    let value = 0;
    for (let unit = 1; unit < 2 ** 53; unit *= 0x80) {
      const byte = this.#byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return Number.isSafeInteger(value) ? value : this.#fail("the page index has a number out of range");
    }
    return this.#fail("the page index has a number out of range");
  }

  #byte(): number {
    if (this.#at === this.#filled) {
      const wanted = Math.min(this.#window.length, this.#end - this.#filePosition);
      if (wanted === 0) this.#fail("the page index is cut off");
      if (this.#read(this.#window.subarray(0, wanted), this.#filePosition) < wanted) this.#fail("the file is cut off in the page index");
      this.#filePosition += wanted;
      this.#filled = wanted;
      this.#at = 0;
    }
    return this.#window[this.#at++]!;
  }
}
