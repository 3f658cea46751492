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

export class BulkArena {
  readonly #instance = newInstance();
  /** All slots, one after the other. */
  readonly memory: Buffer = Buffer.from(this.#instance.memory.buffer, ARENA_BASE, SLOTS * SLOT_BYTES);

  /** LTX page checksum of the page at memory[offset, offset + size). */
  pageChecksumAt(pgno: number, offset: number, size: number): bigint {
    assert(offset >= 0 && offset + size <= this.memory.length, "range outside the arena");
    return BigInt.asUintN(64, this.#instance.pageChecksum(pgno, ARENA_BASE + offset, size));
  }
}

assert(SLOTS * SLOT_BYTES <= ARENA_SIZE && ARENA_BASE % 4096 === 0);
