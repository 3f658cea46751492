/**
 * Finds the committed frames of a WAL by reading it, as SQLite's recovery does: for start-up, and for databases without a `-shm`.
 *
 * Always holds: a frame counts only if its salts and the running checksum from the header on are right, and only up to the last commit
 * frame. The first frame that fails ends the scan and is no error: that is how a WAL ends. Memory: one window, and 4 bytes a frame.
 */
import { ARENA, walChecksumAt } from "../core/checksums.ts";
import type { WalChecksum } from "../core/checksums.ts";
import { WAL_WINDOW, WAL_WINDOW_SIZE } from "../core/checksums-memory.ts";
import type { ReadAt } from "./read-at.ts";
import { decodeWalHeader, FRAME_HEADER_SIZE, frameOffset, WAL_HEADER_SIZE } from "./wal.ts";
import type { WalHeader } from "./wal.ts";

export interface WalScanOptions {
  /** Go on after this frame, whose running checksum is `checksum`: the mxFrame and checksum of an earlier scan of the same WAL. */
  readonly from?: { readonly frame: number; readonly checksum: Readonly<WalChecksum> };
  /** Look at no frame beyond this one. */
  readonly to?: number;
}

export interface WalScan {
  readonly header: WalHeader;
  /** Last frame of the last transaction found; `from.frame` (or 0) if there is none. */
  readonly mxFrame: number;
  /** Pages of the database after frame mxFrame; 0 if no commit was seen. */
  readonly pageCount: number;
  /** Commit frames seen: the number of transactions. */
  readonly commits: number;
  /** Running checksum after frame mxFrame. */
  readonly checksum: WalChecksum;
  /** Page number of each frame from from.frame + 1 to mxFrame. */
  readonly pages: Uint32Array;
}

/** Scans a WAL. Undefined when it has no valid header: then it holds no frame. */
export function scanWal(read: ReadAt, options: WalScanOptions = {}): WalScan | undefined {
  const start = Buffer.alloc(WAL_HEADER_SIZE);
  if (read(start, 0) < WAL_HEADER_SIZE) return undefined;
  const header = decodeWalHeader(start);
  if (header === undefined) return undefined;

  const frameSize = FRAME_HEADER_SIZE + header.pageSize;
  const perWindow = Math.floor(WAL_WINDOW_SIZE / frameSize);
  const first = (options.from?.frame ?? 0) + 1;
  const last = options.to ?? Number.MAX_SAFE_INTEGER;
  const running: WalChecksum = { ...(options.from?.checksum ?? header.checksum) };
  const committed: WalChecksum = { ...running };
  const pages = new PageList();
  let mxFrame = first - 1, pageCount = 0, commits = 0;

  for (let frame = first; frame <= last; ) {
    const wanted = Math.min(perWindow, last - frame + 1);
    const got = read(ARENA.subarray(WAL_WINDOW, WAL_WINDOW + wanted * frameSize), frameOffset(frame, header.pageSize));
    const whole = Math.floor(got / frameSize);
    let i = 0;
    for (; i < whole; i++) {
      const at = WAL_WINDOW + i * frameSize;
      const pgno = ARENA.readUInt32BE(at);
      if (pgno === 0 || ARENA.readUInt32BE(at + 8) !== header.salt1 || ARENA.readUInt32BE(at + 12) !== header.salt2) break;
      walChecksumAt(at, 8, running, header.bigEndian);
      walChecksumAt(at + FRAME_HEADER_SIZE, header.pageSize, running, header.bigEndian);
      if (ARENA.readUInt32BE(at + 16) !== running.s0 || ARENA.readUInt32BE(at + 20) !== running.s1) break;
      pages.push(pgno);
      const commit = ARENA.readUInt32BE(at + 4);
      if (commit !== 0) {
        mxFrame = frame + i;
        pageCount = commit;
        commits += 1;
        committed.s0 = running.s0;
        committed.s1 = running.s1;
      }
    }
    if (i < wanted) break;
    frame += wanted;
  }
  return { header, mxFrame, pageCount, commits, checksum: committed, pages: pages.first(mxFrame - first + 1) };
}

/** Page numbers in an array that doubles. */
class PageList {
  #array = new Uint32Array(1024);
  #length = 0;

  push(pgno: number): void {
    if (this.#length === this.#array.length) {
      const larger = new Uint32Array(this.#length * 2);
      larger.set(this.#array);
      this.#array = larger;
    }
    this.#array[this.#length++] = pgno;
  }

  first(count: number): Uint32Array {
    return this.#array.slice(0, count);
  }
}
