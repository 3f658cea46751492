/**
 * The wal-index (`-shm`) of a follower's database, mapped into memory and written as SQLite writes it.
 *
 * Always holds: this object is the only writer of header and hash tables (the fence sees to it); readers of other processes read it at the
 * same time. So an entry is stored page number first, then hash slot, each in one aligned store; a transaction becomes visible by the header
 * alone: second copy, then first copy, with atomic stores. `mxFrame`, salts and the page number of each frame are also kept here, so that
 * damage can be seen and mended. Format: node/sqlite/wal-index.ts.
 */
import fs from "node:fs";
import { assert } from "../core/assert.ts";
import type { WalChecksum } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { mapShared } from "../native/libc.ts";
import {
  BACKFILL_ATTEMPTED_OFFSET, BACKFILL_OFFSET, BLOCK_SIZE, HASH_OFFSET, HASH_SLOT_COUNT, READMARK_NOT_USED, READ_MARKS_OFFSET, WAL_INDEX_HEADER_B,
  WAL_INDEX_HEADER_SIZE, WAL_INDEX_PREFIX_SIZE, blockOfFrame, decodeWalIndexHeader, encodeWalIndexHeader, firstFrameOfBlock, hashOf, pgnoOffset,
  type WalIndexFields,
} from "../sqlite/wal-index.ts";

interface Block {
  readonly words: Uint32Array;
  readonly slots: Uint16Array;
  readonly atomic: Int32Array;
  unmap(): void;
}

const FRESH: WalIndexFields = { iChange: 0, bigEndChecksum: false, pageSize: 4096, mxFrame: 0, nPage: 0, frameChecksum: { s0: 0, s1: 0 }, salt1: 0, salt2: 0 };

export class WalIndexMap {
  readonly #fd: number;
  #blocks: Block[] = [];
  #fields: WalIndexFields = FRESH;
  /** What this object wrote to nBackfill: only a checkpoint of ours moves it. */
  #backfill = 0;
  /** Page number of each frame, from frame 1 at index 0. */
  #pages = new Uint32Array(4096);
  /** The WAL's checkpoint sequence number: only for its header, nobody compares it. */
  sequence = 0;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** `openMapped` opens the same file again where it is to be mapped, when that is not at `path` (see MountAccess). */
  static open(path: string, options: { rebuild: boolean; openMapped?: () => number }): WalIndexMap {
    let fd = files.open("replica:shm", path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
    const size = files.size(fd);
    if (options.rebuild && size > 0) files.truncate("replica:shm", fd, 0);
    if (options.openMapped !== undefined) {
      fs.closeSync(fd);
      fd = options.openMapped();
    }
    const map = new WalIndexMap(fd);
    const blocks = options.rebuild ? 1 : Math.max(1, Math.floor(size / BLOCK_SIZE));
    for (let block = 0; block < blocks; block++) map.#block(block);
    if (!options.rebuild) map.#load();
    return map;
  }

  #load(): void {
    const decoded = decodeWalIndexHeader(this.#prefix());
    if (!decoded.valid) return;
    this.#fields = decoded;
    this.#backfill = this.backfill;
    for (let frame = 1; frame <= decoded.mxFrame; frame++) {
      const block = this.#block(blockOfFrame(frame));
      this.#remember(frame, block.words[(pgnoOffset(frame) % BLOCK_SIZE) >> 2]!);
    }
  }

  #prefix(): Buffer {
    const words = this.#block(0).words;
    return Buffer.from(words.buffer, words.byteOffset, WAL_INDEX_PREFIX_SIZE);
  }

  #block(number: number): Block {
    const known = this.#blocks[number];
    if (known !== undefined) return known;
    assert(number === this.#blocks.length, "wal-index blocks are mapped in order");
    const end = (number + 1) * BLOCK_SIZE;
    // Written, not only extended: a hole that the disk cannot fill would kill the process at the first store.
    if (files.size(this.#fd) < end) files.write("replica:shm", this.#fd, Buffer.alloc(BLOCK_SIZE), 0, BLOCK_SIZE, number * BLOCK_SIZE);
    const { buffer, unmap } = mapShared(this.#fd, BLOCK_SIZE, number * BLOCK_SIZE);
    const block = { words: new Uint32Array(buffer), slots: new Uint16Array(buffer, HASH_OFFSET, HASH_SLOT_COUNT), atomic: new Int32Array(buffer), unmap };
    this.#blocks.push(block);
    return block;
  }

  get mxFrame(): number {
    return this.#fields.mxFrame;
  }

  header(): WalIndexFields {
    return this.#fields;
  }

  salts(): { salt1: number; salt2: number } {
    return this.#fields;
  }

  frameChecksum(): Readonly<WalChecksum> {
    return this.#fields.frameChecksum;
  }

  pageOfFrame(frame: number): number {
    return this.#pages[frame - 1]!;
  }

  isValid(): boolean {
    return decodeWalIndexHeader(this.#prefix()).valid;
  }

  /** Whether both copies of the header are what this object wrote. */
  headerMatchesOwn(): boolean {
    if (files.size(this.#fd) < this.#blocks.length * BLOCK_SIZE) return false;
    const own = encodeWalIndexHeader(this.#fields);
    const prefix = this.#prefix();
    if (prefix.compare(own, 0, 48, 0, 48) !== 0 || prefix.compare(own, 0, 48, WAL_INDEX_HEADER_B, WAL_INDEX_HEADER_B + 48) !== 0) return false;
    return this.backfill === this.#backfill && this.readMark(0) === 0;
  }

  /** Whether header, page numbers and hash tables in the file are what this object wrote. */
  matchesOwn(): boolean {
    if (!this.headerMatchesOwn()) return false;
    for (let frame = 1; frame <= this.#fields.mxFrame; frame++) {
      const block = this.#block(blockOfFrame(frame));
      if (block.words[(pgnoOffset(frame) % BLOCK_SIZE) >> 2] !== this.pageOfFrame(frame)) return false;
      if (!this.#hasSlot(block, frame)) return false;
    }
    return true;
  }

  /** Whether a reader that looks for the page of this frame comes to it. */
  #hasSlot(block: Block, frame: number): boolean {
    const index = frame - firstFrameOfBlock(blockOfFrame(frame)) + 1;
    let slot = hashOf(this.pageOfFrame(frame));
    for (let steps = 0; steps < HASH_SLOT_COUNT && block.slots[slot] !== 0; steps++, slot = (slot + 1) % HASH_SLOT_COUNT) if (block.slots[slot] === index) return true;
    return false;
  }

  /** Forgets everything: the header is invalid until `begin`. Only while nobody reads. */
  reset(): void {
    for (const block of this.#blocks) block.words.fill(0);
    this.#fields = FRESH;
  }

  /** An empty WAL with these salts over a database of `pageCount` pages; readers use the database file alone. */
  begin(options: { pageSize: number; salt1: number; salt2: number; pageCount: number }): void {
    this.#fields = { ...FRESH, ...options, iChange: this.#fields.iChange, nPage: options.pageCount };
    this.#resetInfo();
    this.#store();
  }

  /** walRestartHdr: salt-1 one up, salt-2 new, no frames, nothing backfilled. The caller holds READ1 to READ4 exclusively. */
  restart(options: { pageSize: number; salt2: number }): void {
    this.sequence++;
    this.#fields = { ...this.#fields, pageSize: options.pageSize, mxFrame: 0, salt1: (this.#fields.salt1 + 1) >>> 0, salt2: options.salt2 };
    this.#store();
    this.#resetInfo();
  }

  #resetInfo(): void {
    this.setBackfill(0);
    this.setBackfillAttempted(0);
    for (let mark = 0; mark < 5; mark++) this.setReadMark(mark, mark < 2 ? 0 : READMARK_NOT_USED);
  }

  /** Makes room for frames up to `frame`, so that `put` cannot fail half-way. */
  ensure(frame: number): void {
    for (let block = this.#blocks.length; block <= blockOfFrame(frame); block++) this.#block(block);
  }

  /** Enters a frame that is not visible yet (walIndexAppend). */
  put(frame: number, pgno: number): void {
    const number = blockOfFrame(frame);
    const block = this.#block(number);
    const index = frame - firstFrameOfBlock(number) + 1;
    const pageWord = (pgnoOffset(frame) % BLOCK_SIZE) >> 2;
    if (index === 1) block.words.fill(0, pageWord);
    block.words[pageWord] = pgno;
    let slot = hashOf(pgno);
    while (block.slots[slot] !== 0) slot = (slot + 1) % HASH_SLOT_COUNT;
    block.slots[slot] = index;
    this.#remember(frame, pgno);
  }

  #remember(frame: number, pgno: number): void {
    if (frame > this.#pages.length) {
      const next = new Uint32Array(this.#pages.length * 2);
      next.set(this.#pages);
      this.#pages = next;
    }
    this.#pages[frame - 1] = pgno;
  }

  /** walCleanupHash: removes what a dead writer entered after `frame` in its block. Later blocks are zeroed by their first frame. */
  clearAfter(frame: number): void {
    if (frame === 0) return;
    const number = blockOfFrame(frame);
    const block = this.#block(number);
    const limit = frame - firstFrameOfBlock(number) + 1;
    for (let slot = 0; slot < HASH_SLOT_COUNT; slot++) if (block.slots[slot]! > limit) block.slots[slot] = 0;
    block.words.fill(0, ((pgnoOffset(frame) % BLOCK_SIZE) >> 2) + 1, HASH_OFFSET >> 2);
  }

  /** Makes frames up to `mxFrame` visible: the commit. */
  publish(state: { mxFrame: number; pageCount: number; checksum: Readonly<WalChecksum> }): void {
    this.#fields = { ...this.#fields, iChange: (this.#fields.iChange + 1) >>> 0, mxFrame: state.mxFrame, nPage: state.pageCount, frameChecksum: { ...state.checksum } };
    this.#store();
  }

  /** Writes tables and header again from what this object knows. */
  republish(): void {
    const { mxFrame } = this.#fields;
    if (files.size(this.#fd) < this.#blocks.length * BLOCK_SIZE) files.truncate("replica:shm", this.#fd, this.#blocks.length * BLOCK_SIZE);
    for (let first = 1; first <= mxFrame; first = firstFrameOfBlock(blockOfFrame(first) + 1)) {
      // The tables are worked out aside and stored word for word, so that a reader meets no empty one.
      const block = this.#block(blockOfFrame(first));
      const slots = new Uint16Array(HASH_SLOT_COUNT);
      const last = Math.min(mxFrame, firstFrameOfBlock(blockOfFrame(first) + 1) - 1);
      for (let frame = first; frame <= last; frame++) {
        const pgno = this.pageOfFrame(frame);
        block.words[(pgnoOffset(frame) % BLOCK_SIZE) >> 2] = pgno;
        let slot = hashOf(pgno);
        while (slots[slot] !== 0) slot = (slot + 1) % HASH_SLOT_COUNT;
        slots[slot] = frame - first + 1;
      }
      block.slots.set(slots);
    }
    // Read marks belong to readers as well: one that cannot be is put to the lowest, which holds the next checkpoint back and harms nobody.
    this.setReadMark(0, 0);
    for (let mark = 1; mark < 5; mark++) if (this.readMark(mark) > mxFrame && this.readMark(mark) !== READMARK_NOT_USED) this.setReadMark(mark, 0);
    this.setBackfill(this.#backfill);
    this.setBackfillAttempted(this.#backfill);
    this.#fields = { ...this.#fields, iChange: (this.#fields.iChange + 1) >>> 0 };
    this.#store();
  }

  #store(): void {
    const bytes = encodeWalIndexHeader(this.#fields);
    const { atomic } = this.#block(0);
    for (const base of [WAL_INDEX_HEADER_B >> 2, 0]) {
      for (let word = 0; word < WAL_INDEX_HEADER_SIZE >> 2; word++) Atomics.store(atomic, base + word, bytes.readInt32LE(word * 4));
    }
  }

  get backfill(): number {
    return Atomics.load(this.#block(0).atomic, BACKFILL_OFFSET >> 2) >>> 0;
  }

  setBackfill(frame: number): void {
    this.#backfill = frame;
    Atomics.store(this.#block(0).atomic, BACKFILL_OFFSET >> 2, frame);
  }

  setBackfillAttempted(frame: number): void {
    Atomics.store(this.#block(0).atomic, BACKFILL_ATTEMPTED_OFFSET >> 2, frame);
  }

  readMark(mark: number): number {
    return Atomics.load(this.#block(0).atomic, (READ_MARKS_OFFSET >> 2) + mark) >>> 0;
  }

  setReadMark(mark: number, frame: number): void {
    Atomics.store(this.#block(0).atomic, (READ_MARKS_OFFSET >> 2) + mark, frame | 0);
  }

  close(): void {
    for (const block of this.#blocks) block.unmap();
    this.#blocks = [];
    fs.closeSync(this.#fd);
  }
}
