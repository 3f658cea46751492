/**
 * Writes one LTX file as a stream of chunks.
 *
 *   page → page → … → finish          (each state refuses the calls of the others)
 *
 * Always holds: the file is valid, or an assert has stopped it; the lock page is never in it. Memory: one chunk, and the page index, which is
 * 10 bytes a page. Several encoders may be at work in turn.
 */
import { assert } from "../core/assert.ts";
import { CHECKSUM_FLAG, Crc64 } from "../core/checksums.ts";
import { ARENA, ARENA_BASE, FRAME, SCRATCH } from "../core/checksums-memory.ts";
import { lockPgno } from "../sqlite/database-header.ts";
import { encodeLtxHeader, isSnapshot } from "./header.ts";
import type { LtxHeader } from "./header.ts";
import { encodeFrame, FRAME_PREFIX_SIZE, PAGE_HEADER_SIZE } from "./page.ts";
import { PageIndexWriter } from "./page-index.ts";
import { encodeTrailer, trailerFault } from "./trailer.ts";
import type { LtxTrailer } from "./trailer.ts";

/** The largest chunk that a sink is given, in bytes. */
export const CHUNK_SIZE: number = 256 * 1024;

export interface LtxEncoderOptions {
  /** False stores the pages as literals: faster, still a valid file. Default true. */
  readonly compress?: boolean;
}

export class LtxEncoder {
  readonly header: LtxHeader;
  readonly #sink: (chunk: Buffer) => void;
  readonly #compress: boolean;
  readonly #lockPage: number;
  readonly #checksum = new Crc64();
  readonly #index = new PageIndexWriter();
  #chunk: Buffer;
  #used = 0;
  #handedOut = 0;
  #lastPgno = 0;
  #pageCount = 0;
  #trailer: LtxTrailer | undefined;

  /** `sink` gets the file in order, in chunks of at most 256 KiB, which are its own from then on. The header must be valid. */
  constructor(sink: (chunk: Buffer) => void, header: LtxHeader, options: LtxEncoderOptions = {}) {
    this.header = header;
    this.#sink = sink;
    this.#compress = options.compress ?? true;
    this.#lockPage = lockPgno(header.pageSize);
    this.#chunk = spareChunks.pop() ?? Buffer.allocUnsafeSlow(CHUNK_SIZE);
    this.#putBytes(encodeLtxHeader(header));
  }

  /** Bytes written so far. */
  get size(): number {
    return this.#handedOut + this.#used;
  }

  get pageCount(): number {
    return this.#pageCount;
  }

  /** Both checksums, once finished. */
  get trailer(): LtxTrailer {
    assert(this.#trailer !== undefined, "not finished");
    return this.#trailer;
  }

  /** Adds a page. Page numbers ascend; a snapshot has all of them from 1 on but the lock page. */
  page(pgno: number, page: Uint8Array): void {
    assert(page.length === this.header.pageSize);
    if (page.buffer === ARENA.buffer) {
      this.pageAt(pgno, page.byteOffset - ARENA_BASE);
    } else {
      ARENA.set(page, SCRATCH);
      this.pageAt(pgno, SCRATCH);
    }
  }

  /** {@link page} of a page that lies at `arenaOffset` in ARENA. */
  pageAt(pgno: number, arenaOffset: number): void {
    const { pageSize, commit } = this.header;
    assert(this.#trailer === undefined, "page after finish");
    assert(Number.isInteger(pgno) && pgno > this.#lastPgno, `page ${pgno} after page ${this.#lastPgno}`);
    assert(pgno <= commit, `page ${pgno} of a database of ${commit}`);
    assert(pgno !== this.#lockPage, "the lock page");
    if (isSnapshot(this.header)) assert(pgno === this.#lastPgno + (this.#lastPgno + 1 === this.#lockPage ? 2 : 1), `a snapshot lacks a page before ${pgno}`);

    const size = encodeFrame(pgno, arenaOffset, pageSize, this.#compress);
    this.#checksum.updateAt(FRAME, FRAME_PREFIX_SIZE).updateAt(arenaOffset, pageSize);
    this.#index.add(pgno, this.size, size);
    this.#put(ARENA, FRAME, size);
    this.#lastPgno = pgno;
    this.#pageCount += 1;
  }

  /** Ends the file. The checksum is that of the database after it: CHECKSUM_FLAG for one without pages. */
  finish(postApplyChecksum: bigint): void {
    assert(this.#trailer === undefined, "finished twice");
    const { commit } = this.header;
    if (isSnapshot(this.header)) assert(this.#lastPgno === (commit === this.#lockPage ? commit - 1 : commit), `a snapshot of ${commit} pages ends at ${this.#lastPgno}`);
    this.#putBytes(Buffer.alloc(PAGE_HEADER_SIZE));
    for (const piece of this.#index.finish()) this.#putBytes(piece);

    const end = Buffer.alloc(8);
    end.writeBigUInt64BE(postApplyChecksum);
    const trailer: LtxTrailer = { postApplyChecksum, fileChecksum: CHECKSUM_FLAG | this.#checksum.update(end).digest() };
    const fault = trailerFault(trailer, this.header);
    assert(fault === undefined, fault);
    const bytes = encodeTrailer(trailer);
    this.#put(bytes, 0, bytes.length);
    this.#trailer = trailer;

    // Most files are small: the sink gets a buffer of their size, and the next encoder this chunk.
    if (this.#used > 0) this.#emit(Buffer.from(this.#chunk.subarray(0, this.#used)));
    if (spareChunks.length < 4) spareChunks.push(this.#chunk);
    this.#chunk = Buffer.alloc(0);
  }

  /** Bytes that count for the file checksum as they are. */
  #putBytes(bytes: Buffer): void {
    this.#checksum.update(bytes);
    this.#put(bytes, 0, bytes.length);
  }

  #put(source: Buffer, offset: number, length: number): void {
    for (const end = offset + length; offset < end; ) {
      const n = Math.min(end - offset, CHUNK_SIZE - this.#used);
      source.copy(this.#chunk, this.#used, offset, offset + n);
      offset += n;
      this.#used += n;
      if (this.#used === CHUNK_SIZE) {
        const full = this.#chunk;
        this.#chunk = spareChunks.pop() ?? Buffer.allocUnsafeSlow(CHUNK_SIZE);
        this.#emit(full);
      }
    }
  }

  #emit(chunk: Buffer): void {
    this.#handedOut += chunk.length;
    this.#used = 0;
    this.#sink(chunk);
  }
}

const spareChunks: Buffer[] = [];
