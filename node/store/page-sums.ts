/**
 * The checksum of every page of one database, and the database checksum that follows from them.
 *
 * Always holds: `checksum` is the XOR of all entries up to `pageCount` with CHECKSUM_FLAG set; the entry of the lock page and of pages past
 * `pageCount` is 0. Capture decides with it what changed, apply proves with it that two nodes hold the same, snapshots and healing trust a
 * page only if it matches. 8 bytes a page: 2 MiB for a gigabyte of 4 KiB pages.
 */
import { CHECKSUM_FLAG } from "../core/checksums.ts";

/** Entries written to the sidecar at once: one 4 KiB block. */
const BLOCK = 512;

export class PageSums {
  pageCount = 0;
  #sums = new BigUint64Array(BLOCK);
  #xor = 0n;
  #dirty = new Set<number>();

  get checksum(): bigint {
    return CHECKSUM_FLAG | this.#xor;
  }

  get(pgno: number): bigint {
    return pgno <= this.pageCount ? this.#sums[pgno - 1]! : 0n;
  }

  /** A copy of the checksums of `count` pages from `first` on, 8 bytes each in host byte order; 0 past the end. */
  copyOut(first: number, count: number): Buffer {
    const out = Buffer.alloc(count * 8);
    out.set(new Uint8Array(this.#sums.buffer, (first - 1) * 8, Math.max(0, Math.min(count, this.pageCount - first + 1)) * 8));
    return out;
  }

  /** Sets the checksum of a page, growing the database when the page lies past its end. */
  set(pgno: number, sum: bigint): void {
    if (pgno > this.#sums.length) this.#grow(pgno);
    const index = pgno - 1;
    this.#xor ^= this.#sums[index]! ^ sum;
    this.#sums[index] = sum;
    if (pgno > this.pageCount) this.pageCount = pgno;
    this.#dirty.add(index >>> 9);
  }

  /** {@link set} for consecutive pages from `first` on. */
  setRun(first: number, sums: BigUint64Array): void {
    const last = first + sums.length - 1;
    if (last > this.#sums.length) this.#grow(last);
    const old = this.#sums.subarray(first - 1, last);
    this.#xor ^= xorOf(old) ^ xorOf(sums);
    old.set(sums);
    if (last > this.pageCount) this.pageCount = last;
    for (let block = (first - 1) >>> 9; block <= (last - 1) >>> 9; block++) this.#dirty.add(block);
  }

  /** Sets the size of the database. Pages that are cut off leave the checksum; pages that are added have entry 0 until they are set. */
  resize(pageCount: number): void {
    for (let index = pageCount; index < this.pageCount; index++) {
      const old = this.#sums[index]!;
      if (old === 0n) continue;
      this.#xor ^= old;
      this.#sums[index] = 0n;
      this.#dirty.add(index >>> 9);
    }
    if (pageCount > this.#sums.length) this.#grow(pageCount);
    this.pageCount = pageCount;
  }

  clear(): void {
    this.resize(0);
  }

  /** Exchanges the content with that of another table: how a finished snapshot or scan takes effect at once. */
  replaceWith(other: PageSums): void {
    this.pageCount = other.pageCount;
    this.#sums = other.#sums;
    this.#xor = other.#xor;
    this.#dirty = new Set();
    for (let block = 0; block * BLOCK < this.pageCount; block++) this.#dirty.add(block);
  }

  /** A table of its own with the same content. */
  copy(): PageSums {
    const copy = new PageSums();
    copy.#sums = this.#sums.slice();
    copy.#xor = this.#xor;
    copy.pageCount = this.pageCount;
    return copy;
  }

  /** Blocks of BLOCK entries that changed since the last call, as bytes with their offset in the table. */
  *takeDirty(): Generator<{ offset: number; bytes: Uint8Array }> {
    const blocks = [...this.#dirty].sort((a, b) => a - b);
    this.#dirty.clear();
    for (const block of blocks) {
      const end = Math.min((block + 1) * BLOCK, this.#sums.length);
      if (block * BLOCK < end) yield { offset: block * BLOCK * 8, bytes: new Uint8Array(this.#sums.buffer, block * BLOCK * 8, (end - block * BLOCK) * 8) };
    }
  }

  /** Loads a table of `pageCount` entries in host byte order. */
  load(bytes: Uint8Array, pageCount: number): void {
    this.#sums = new BigUint64Array(Math.max(BLOCK, roundUp(pageCount)));
    new Uint8Array(this.#sums.buffer).set(bytes.subarray(0, pageCount * 8));
    this.pageCount = pageCount;
    this.#dirty.clear();
    this.#xor = xorOf(this.#sums.subarray(0, pageCount));
  }

  #grow(pageCount: number): void {
    const next = new BigUint64Array(roundUp(Math.max(pageCount, this.#sums.length + (this.#sums.length >> 1))));
    next.set(this.#sums);
    this.#sums = next;
  }
}

function roundUp(pageCount: number): number {
  return Math.ceil(pageCount / BLOCK) * BLOCK;
}

/** In halves, because a number of 64 bits is an object each time. */
function xorOf(sums: BigUint64Array): bigint {
  const halves = new Uint32Array(sums.buffer, sums.byteOffset, sums.length * 2);
  let low = 0;
  let high = 0;
  for (let i = 0; i < halves.length; i += 2) {
    low ^= halves[i]!;
    high ^= halves[i + 1]!;
  }
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
