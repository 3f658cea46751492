/**
 * Memory for whole databases on their way: data lies in it while the disk or the network is still at work, and its pages are checked in place.
 *
 * Always holds: an arena belongs to one transfer and never grows; a slot begins on a multiple of 4096, as direct I/O asks for. ARENA would not do,
 * because it is everybody's between two turns of the event loop.
 */
import { assert } from "./assert.ts";
import { ARENA_BASE, ARENA_SIZE, newInstance } from "./checksums-memory.ts";

/** Bytes of a slot: large enough that calls cost nothing, small enough that checking one holds nobody up (a quarter of a millisecond). */
export const SLOT_BYTES: number = 1 << 20;
/** Enough to keep the disk, the network and the check busy at once. */
export const SLOTS = 5;
/** Of SQLite. */
const PAGE_SIZE_MIN = 512;

export class BulkArena {
  readonly #instance = newInstance();
  /** All slots, one after the other. */
  readonly memory: Buffer = Buffer.from(this.#instance.memory.buffer, ARENA_BASE, SLOTS * SLOT_BYTES);

  /** Where `checksumsAt` answers. */
  readonly #sums = new BigUint64Array(this.#instance.memory.buffer, ARENA_BASE + SLOTS * SLOT_BYTES, SLOT_BYTES / PAGE_SIZE_MIN);

  /** LTX page checksums of `count` pages from `first` on, which lie one after the other at memory[offset]. Valid until the next call. */
  checksumsAt(first: number, count: number, offset: number, size: number): BigUint64Array {
    assert(offset >= 0 && offset + count * size <= this.memory.length && count <= this.#sums.length, "range outside the arena");
    this.#instance.pageChecksums(first, count, ARENA_BASE + offset, size, this.#sums.byteOffset);
    return this.#sums.subarray(0, count);
  }
}

assert(SLOTS * SLOT_BYTES + (SLOT_BYTES / PAGE_SIZE_MIN) * 8 <= ARENA_SIZE && ARENA_BASE % 4096 === 0);
