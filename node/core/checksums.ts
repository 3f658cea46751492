/**
 * CRC64-ISO, LTX's page and database checksums, and the checksum of SQLite's WAL.
 *
 * Always holds: `offset` is an index into ARENA, the memory of a WebAssembly instance that each thread has for itself; data that lies there
 * is not copied. Reading files straight into ARENA is therefore the fast way. Other bytes are copied through a part of their own.
 *
 * In one run on a busy machine a page of 4 KiB took 0.85 us; with tables it took 6.0 us (slicing by 8) and 4.0 us (by 16): see checksums.as.ts.
 */
import { assert } from "./assert.ts";
import { ARENA, ARENA_BASE, SCRATCH, SCRATCH_SIZE, WAL_STATE, wasm } from "./checksums-memory.ts";

export { ARENA, ARENA_SIZE } from "./checksums-memory.ts";

/** Bit 63, set in every checksum of LTX so that none is zero. */
export const CHECKSUM_FLAG: bigint = 1n << 63n;

/** LTX page checksum of the page at ARENA[offset, offset + size): CRC64 of the big-endian page number and the page, with bit 63 set. */
export function pageChecksumAt(pgno: number, offset: number, size: number): bigint {
  checkRange(offset, size);
  return BigInt.asUintN(64, wasm.pageChecksum(pgno, ARENA_BASE + offset, size));
}

/** {@link pageChecksumAt} of a page that lies anywhere. At most 64 KiB. */
export function pageChecksum(pgno: number, page: Uint8Array): bigint {
  assert(page.length <= SCRATCH_SIZE);
  ARENA.set(page, SCRATCH);
  return pageChecksumAt(pgno, SCRATCH, page.length);
}

/** Adds a page to a database checksum, or takes it out: XOR, with bit 63 always set. A database without a page has CHECKSUM_FLAG. */
export function combine(dbChecksum: bigint, pageChecksum: bigint): bigint {
  return CHECKSUM_FLAG | (dbChecksum ^ pageChecksum);
}

/** A running CRC64-ISO, as Go's crc64.ISO: the digest of "123456789" is b90956c775a41001. */
export class Crc64 {
  #register = 0xffffffffffffffffn;

  update(bytes: Uint8Array): this {
    for (let done = 0; done < bytes.length; ) {
      const size = Math.min(bytes.length - done, SCRATCH_SIZE);
      ARENA.set(bytes.length === size ? bytes : bytes.subarray(done, done + size), SCRATCH);
      this.updateAt(SCRATCH, size);
      done += size;
    }
    return this;
  }

  updateAt(offset: number, size: number): this {
    checkRange(offset, size);
    this.#register = wasm.crc64(this.#register, ARENA_BASE + offset, size);
    return this;
  }

  /** The CRC of everything so far, 64-bit unsigned; more may follow. */
  digest(): bigint {
    return BigInt.asUintN(64, ~this.#register);
  }
}

/** The running checksum of a WAL: two unsigned 32-bit numbers. Both 0 before the WAL header. */
export interface WalChecksum {
  s0: number;
  s1: number;
}

/** Continues `state` over ARENA[offset, offset + size). `size` is a multiple of 8. `bigEndian` is the word order: magic 0x377f0683. */
export function walChecksumAt(offset: number, size: number, state: WalChecksum, bigEndian = false): void {
  checkRange(offset, size);
  assert(size % 8 === 0);
  words[0] = state.s0;
  words[1] = state.s1;
  if (bigEndian) wasm.walChecksumBigEndian(WAL_STATE, ARENA_BASE + offset, size);
  else wasm.walChecksum(WAL_STATE, ARENA_BASE + offset, size);
  state.s0 = words[0];
  state.s1 = words[1];
}

/** {@link walChecksumAt} over bytes that lie anywhere. At most 64 KiB. */
export function walChecksum(bytes: Uint8Array, state: WalChecksum, bigEndian = false): void {
  assert(bytes.length <= SCRATCH_SIZE);
  ARENA.set(bytes, SCRATCH);
  walChecksumAt(SCRATCH, bytes.length, state, bigEndian);
}

const words = new Uint32Array(wasm.memory.buffer, WAL_STATE, 2);

function checkRange(offset: number, size: number): void {
  assert(offset >= 0 && size >= 0 && offset + size <= ARENA.length, "range outside the ARENA");
}
