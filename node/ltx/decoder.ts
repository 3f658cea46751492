/**
 * Reads and verifies one LTX file: all of its rules, all of its bytes.
 *
 * Always holds: whatever the bytes are, the outcome is a verified file or the AppError CORRUPT_FILE with the reason; nothing is allocated by
 * a size that the file claims. Pages are handed out as they come, before the checksum at the end is known: who must not act on a
 * damaged file acts only after the decoder has finished. Memory: one window and one page, whatever the size of the file.
 */
import { assert } from "../core/assert.ts";
import { CHECKSUM_FLAG, combine, Crc64, pageChecksumAt } from "../core/checksums.ts";
import { ARENA, DECODE_PAGE, DECODE_WINDOW, DECODE_WINDOW_SIZE } from "../core/checksums-memory.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import type { ReadAt } from "../sqlite/read-at.ts";
import { AppError } from "../../proto/errors.ts";
import { FLAG_NO_CHECKSUM, isSnapshot, LTX_HEADER_SIZE, readLtxHeader } from "./header.ts";
import type { LtxHeader } from "./header.ts";
import { decodeFrame, FRAME_PREFIX_SIZE, frameSizeMax, PAGE_HEADER_SIZE } from "./page.ts";
import { INDEX_ENTRY_SIZE_MAX, INDEX_SIZE_SIZE, PageIndexReader, writeIndexEntry } from "./page-index.ts";
import { decodeTrailer, TRAILER_SIZE, trailerFault } from "./trailer.ts";
import type { LtxTrailer } from "./trailer.ts";

export { readLtxHeader } from "./header.ts";

/**
 * Gets each page in ascending order. `page` is the content and `arenaOffset` its place in ARENA, both valid only during the call, in which
 * no other LTX file may be decoded.
 */
export type OnPage = (pgno: number, page: Buffer, arenaOffset: number) => void;

export interface DecodedLtx {
  readonly header: LtxHeader;
  readonly trailer: LtxTrailer;
  /** Pages in the file. */
  readonly pageCount: number;
}

/** Header, trailer and the place of the index, read and found to be consistent; the content is not verified. */
export interface LtxOutline {
  readonly header: LtxHeader;
  readonly trailer: LtxTrailer;
  /** Offset of the page index, which ends with a zero byte before `indexEnd`. The page block ends 6 bytes earlier. */
  readonly indexStart: number;
  readonly indexEnd: number;
}

/** Decodes a whole file in memory. `name` is for errors. Throws CORRUPT_FILE. */
export function decodeLtx(bytes: Buffer, onPage?: OnPage, name?: string): DecodedLtx {
  return decodeLtxFile((buffer, offset) => bytes.copy(buffer, 0, offset), bytes.length, onPage, name);
}

/** Decodes a file of `size` bytes through `read`, in bounded memory. `name` is for errors. Throws CORRUPT_FILE, and what `read` throws. */
export function decodeLtxFile(read: ReadAt, size: number, onPage?: OnPage, name?: string): DecodedLtx {
  const summary = new LtxDecoder(read, size, name).step(Number.MAX_SAFE_INTEGER, onPage);
  assert(summary !== undefined);
  return summary;
}

/** Reads both ends of a file. Throws CORRUPT_FILE. */
export function readLtxOutline(read: ReadAt, size: number, name = "transaction file"): LtxOutline {
  const fail = failure(name);
  const start = Buffer.alloc(LTX_HEADER_SIZE);
  const header = readLtxHeader(start.subarray(0, read(start, 0)), name);
  const smallest = LTX_HEADER_SIZE + PAGE_HEADER_SIZE + 1 + INDEX_SIZE_SIZE + TRAILER_SIZE;
  if (size < smallest) fail(`${size} bytes are too few for an LTX file`);
  const indexEnd = size - TRAILER_SIZE - INDEX_SIZE_SIZE;
  const end = Buffer.alloc(INDEX_SIZE_SIZE + TRAILER_SIZE);
  if (read(end, indexEnd) < end.length) fail("the file is cut off");
  const indexSize = Number(end.readBigUInt64BE(0));
  if (indexSize < 1 || indexSize > size - smallest + 1) fail(`the page index claims ${indexSize} bytes`);
  const trailer = decodeTrailer(end.subarray(INDEX_SIZE_SIZE));
  const fault = trailerFault(trailer, header);
  if (fault !== undefined) fail(fault);
  return { header, trailer, indexStart: indexEnd - indexSize, indexEnd };
}

/** The entries of a file's page index. */
export function openPageIndex(read: ReadAt, outline: LtxOutline, name = "transaction file"): PageIndexReader {
  return new PageIndexReader(read, outline.indexStart, outline.indexEnd, LTX_HEADER_SIZE, failure(name));
}

/** Decodes in steps, for whoever has other things to do between them. */
export class LtxDecoder {
  readonly header: LtxHeader;
  readonly #read: ReadAt;
  readonly #size: number;
  readonly #outline: LtxOutline;
  readonly #fail: (reason: string) => never;
  readonly #checksum = new Crc64();
  readonly #index: ExpectedIndex;
  readonly #lockPage: number;
  readonly #page: Buffer;
  #position = LTX_HEADER_SIZE;
  #lastPgno = 0;
  #pageCount = 0;
  #dbChecksum = CHECKSUM_FLAG;

  /** Reads header and trailer. Throws CORRUPT_FILE. */
  constructor(read: ReadAt, size: number, name = "transaction file") {
    this.#read = read;
    this.#size = size;
    this.#fail = failure(name);
    this.#outline = readLtxOutline(read, size, name);
    this.header = this.#outline.header;
    this.#lockPage = lockPgno(this.header.pageSize);
    this.#page = ARENA.subarray(DECODE_PAGE, DECODE_PAGE + this.header.pageSize);
    this.#index = new ExpectedIndex();
    const start = Buffer.alloc(LTX_HEADER_SIZE);
    read(start, 0);
    this.#checksum.update(start);
  }

  /** Decodes up to `pages` pages more. The summary once the whole file is verified, undefined before. Throws CORRUPT_FILE. */
  step(pages: number, onPage?: OnPage): DecodedLtx | undefined {
    assert(!busy, "an LTX file is decoded while another hands out a page");
    busy = true;
    try {
      const blockEnd = this.#outline.indexStart - PAGE_HEADER_SIZE;
      const frameMax = frameSizeMax(this.header.pageSize);
      // File range that the window holds.
      let from = 0, to = 0;
      for (; pages > 0 && this.#position < blockEnd; pages--) {
        if (this.#position + Math.min(frameMax, blockEnd - this.#position) > to) {
          from = this.#position;
          to = this.#fill(from, blockEnd);
        }
        this.#frame(DECODE_WINDOW + this.#position - from, to - this.#position, onPage);
      }
      return this.#position < blockEnd ? undefined : this.#finish(blockEnd);
    } finally {
      busy = false;
    }
  }

  /** Reads from `from` on into the window, not beyond `end`. Returns where the window ends in the file. */
  #fill(from: number, end: number): number {
    const wanted = Math.min(DECODE_WINDOW_SIZE, end - from);
    if (this.#read(ARENA.subarray(DECODE_WINDOW, DECODE_WINDOW + wanted), from) < wanted) this.#fail("the file is cut off");
    return from + wanted;
  }

  #frame(offset: number, available: number, onPage: OnPage | undefined): void {
    const { header } = this;
    const size = decodeFrame(offset, available, header.pageSize, this.#fail);
    const pgno = ARENA.readUInt32BE(offset);
    if (pgno > header.commit) this.#fail(`page ${pgno} is beyond the end of the database, ${header.commit}`);
    if (pgno <= this.#lastPgno) this.#fail(`page ${pgno} comes after page ${this.#lastPgno}`);
    if (pgno === this.#lockPage) this.#fail(`page ${pgno} is the lock page`);
    this.#checksum.updateAt(offset, FRAME_PREFIX_SIZE).updateAt(DECODE_PAGE, header.pageSize);
    if (isSnapshot(header)) {
      if (pgno !== this.#lastPgno + (this.#lastPgno + 1 === this.#lockPage ? 2 : 1)) this.#fail(`the snapshot lacks page ${this.#lastPgno + 1}`);
      this.#dbChecksum = combine(this.#dbChecksum, pageChecksumAt(pgno, DECODE_PAGE, header.pageSize));
    }
    this.#index.add(pgno, this.#position, size);
    this.#position += size;
    this.#lastPgno = pgno;
    this.#pageCount += 1;
    onPage?.(pgno, this.#page, DECODE_PAGE);
  }

  #finish(blockEnd: number): DecodedLtx {
    const { header } = this;
    const { trailer, indexEnd } = this.#outline;
    if (isSnapshot(header)) {
      const last = header.commit === this.#lockPage ? header.commit - 1 : header.commit;
      if (this.#lastPgno !== last) this.#fail(`the snapshot ends at page ${this.#lastPgno} of ${last}`);
    }

    // What is left counts for the checksum as it is: the end of the page block, the index, its size, the post-apply checksum.
    const expected = this.#index.finish();
    const actual = new Crc64();
    let indexStart = blockEnd + PAGE_HEADER_SIZE;
    this.#fill(blockEnd, indexStart);
    if (ARENA.readUIntBE(DECODE_WINDOW, PAGE_HEADER_SIZE) !== 0) this.#fail("the page block does not end where the page index begins");
    this.#checksum.updateAt(DECODE_WINDOW, PAGE_HEADER_SIZE);
    if (expected.size !== indexEnd - indexStart) this.#fail("the page index does not fit the pages");
    while (indexStart < indexEnd) {
      const to = this.#fill(indexStart, indexEnd);
      actual.updateAt(DECODE_WINDOW, to - indexStart);
      this.#checksum.updateAt(DECODE_WINDOW, to - indexStart);
      indexStart = to;
    }
    if (actual.digest() !== expected.digest) this.#fail("the page index does not fit the pages");
    this.#fill(indexEnd, this.#size);
    this.#checksum.updateAt(DECODE_WINDOW, INDEX_SIZE_SIZE + 8);
    if ((CHECKSUM_FLAG | this.#checksum.digest()) !== trailer.fileChecksum) this.#fail("the file checksum is wrong");
    if (isSnapshot(header) && (header.flags & FLAG_NO_CHECKSUM) === 0 && this.#dbChecksum !== trailer.postApplyChecksum) {
      this.#fail("the pages of the snapshot do not have its post-apply checksum");
    }
    return { header, trailer, pageCount: this.#pageCount };
  }
}

/** One decoder at a time uses the window and the page in ARENA. */
let busy = false;

/** Size and checksum of the index that the pages seen so far must have. */
class ExpectedIndex {
  readonly #checksum = new Crc64();
  readonly #piece = Buffer.allocUnsafe(4096);
  #used = 0;
  #size = 0;

  add(pgno: number, frameOffset: number, frameSize: number): void {
    if (this.#used + INDEX_ENTRY_SIZE_MAX > this.#piece.length) this.#flush();
    this.#used = writeIndexEntry(this.#piece, this.#used, pgno, frameOffset, frameSize);
  }

  finish(): { size: number; digest: bigint } {
    if (this.#used === this.#piece.length) this.#flush();
    this.#piece[this.#used++] = 0;
    this.#flush();
    return { size: this.#size, digest: this.#checksum.digest() };
  }

  #flush(): void {
    this.#checksum.update(this.#piece.subarray(0, this.#used));
    this.#size += this.#used;
    this.#used = 0;
  }
}

function failure(name: string): (reason: string) => never {
  return (reason) => {
    throw new AppError("CORRUPT_FILE", [name, reason]);
  };
}
