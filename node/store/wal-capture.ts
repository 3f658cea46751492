/**
 * Finds the transactions that applications have committed to a WAL since the last look.
 *
 * Always holds: `captured` names the last frame that is in the log, by the salts of its WAL. A frame cannot be overwritten before it is
 * captured: SQLite restarts a WAL only after a checkpoint that truncates the database file, and that request is answered after a capture. So
 * a WAL that continues has the same salts, one that was restarted has salt-1 one higher; anything else is a gap and is never guessed at.
 *
 * The wal-index tells what each frame holds, so nothing of the WAL is read but the newest version of each page. Without one (locking_mode =
 * EXCLUSIVE keeps it in heap memory) the frames are scanned. Where the index must be read through the mount, they are scanned as well until
 * its descriptor is there, a moment after its creation: a scan takes committed frames before they are published. Should their writer die in
 * between, they are overwritten, the index then ends before what was captured or the frames do not continue it, and that is a gap.
 */
import fs from "node:fs";
import type { WalChecksum } from "../core/checksums.ts";
import { decodeWalIndexHeader, readFramePages } from "../sqlite/wal-index.ts";
import { FRAME_HEADER_SIZE, WAL_HEADER_SIZE, decodeWalHeader, frameOffset } from "../sqlite/wal.ts";
import { scanWal } from "../sqlite/wal-scanner.ts";
import { files } from "../io/files.ts";
import { startWriteOut } from "../native/libc.ts";
import type { DatabasePaths } from "./names.ts";

export interface WalPoint {
  readonly salt1: number;
  readonly salt2: number;
  /** Last captured frame; 0 = none of this WAL yet. */
  readonly frame: number;
  /** Running checksum at that frame, when known. */
  readonly checksum: WalChecksum | undefined;
  /** SQLite's commit counter in the wal-index at that frame; undefined when it cannot be compared. */
  readonly iChange: number | undefined;
}

export interface WalBatch {
  readonly from: number;
  readonly to: number;
  /** Page number of each frame from `from` to `to`. */
  readonly pages: Uint32Array;
  readonly pageSize: number;
  /** Pages of the database after the last commit. */
  readonly pageCount: number;
  readonly commits: number;
  readonly next: WalPoint;
}

/** "none": nothing new. "unsettled": a writer is between two stores, look again at once. "gap": continuity is lost, only a diff can tell. */
export type WalLook = WalBatch | "none" | "unsettled" | "gap";

export class WalCapture {
  captured: WalPoint | undefined;
  /** Frames that were captured before their writer could publish them (durability sync): until the wal-index shows them there is nothing new. */
  #unpublished: WalPoint | undefined;
  readonly #paths: DatabasePaths;
  #walFd: number | undefined;
  #shmFd: number | undefined;
  readonly #header = Buffer.alloc(136);

  constructor(paths: DatabasePaths) {
    this.#paths = paths;
  }

  /** The `-wal` (and with it the `-shm`) was removed, or its size set to 0: what follows is a new WAL. */
  forget(which: "wal" | "shm"): void {
    if (which === "wal" && this.#walFd !== undefined) {
      fs.closeSync(this.#walFd);
      this.#walFd = undefined;
    }
    if (which === "shm" && this.#shmFd !== undefined) {
      fs.closeSync(this.#shmFd);
      this.#shmFd = undefined;
    }
    if (which === "wal") this.captured = undefined;
  }

  /** Everything up to this point is in the log; its writer publishes it in a moment. */
  committed(point: WalPoint): void {
    this.captured = point;
    this.#unpublished = point;
  }

  /** Whether the writer of frames that are in the log has still to publish them. */
  get awaitsPublication(): boolean {
    if (this.#unpublished !== undefined) this.look();
    return this.#unpublished !== undefined;
  }

  /**
   * Asked by the next writer, who comes after: "never" when frames that are in the log were never published, because their writer died, or failed after its
   * commit; "only" when they were, and nothing else has come since; "unknown" when there were none, or what came since is still to be looked at.
   */
  publication(): "never" | "only" | "unknown" {
    if (this.#unpublished === undefined) return "unknown";
    const look = this.look();
    const never = this.#unpublished !== undefined;
    this.#unpublished = undefined;
    return never ? "never" : look === "none" ? "only" : "unknown";
  }

  close(): void {
    const captured = this.captured;
    this.forget("wal");
    this.forget("shm");
    this.captured = captured;
  }

  #wal(): number | undefined {
    if (this.#walFd === undefined && fs.existsSync(this.#paths.wal)) this.#walFd = files.open("capture:wal", this.#paths.wal, "r");
    return this.#walFd;
  }

  #shm(): number | undefined {
    if (this.#paths.mount !== undefined) return (this.#shmFd ??= this.#paths.mount.openIndex(this.#paths.name));
    if (this.#shmFd === undefined && fs.existsSync(this.#paths.shm)) this.#shmFd = files.open("capture:shm", this.#paths.shm, "r");
    return this.#shmFd;
  }

  /** Has the system begin to write out the `-wal`, so that whoever waits for it to be on the disk waits for less. */
  startWriteOut(): void {
    if (this.#walFd !== undefined) startWriteOut(this.#walFd);
  }

  look(): WalLook {
    const wal = this.#wal();
    if (wal === undefined) return "none";
    const shm = this.#shm();
    return shm === undefined ? this.#scan(wal) : this.#lookIndexed(wal, shm);
  }

  #lookIndexed(wal: number, shm: number): WalLook {
    if (files.read("capture:index", shm, this.#header, 0, 136, 0) < 136) return this.#scan(wal);
    const index = decodeWalIndexHeader(this.#header);
    if (!index.valid) return "unsettled";
    const waited = this.#unpublished;
    if (waited !== undefined) {
      if (index.salt1 !== waited.salt1 || index.salt2 !== waited.salt2 || index.mxFrame < waited.frame) return "none";
      this.#unpublished = undefined;
    }
    const captured = this.captured;
    const same = captured !== undefined && captured.salt1 === index.salt1 && captured.salt2 === index.salt2;
    const point = { salt1: index.salt1, salt2: index.salt2, checksum: index.frameChecksum, iChange: index.iChange };
    if (index.mxFrame === 0) {
      // SQLite has restarted the WAL and written nothing yet; remembering its salts keeps the "one higher" rule exact.
      if (captured !== undefined && !same) this.captured = { ...point, frame: 0, checksum: undefined };
      return "none";
    }
    if (same && captured.iChange === undefined && !this.#isStill(wal, captured, index.pageSize)) return "gap";
    if (same && index.mxFrame <= captured.frame) {
      if (index.mxFrame < captured.frame) return "gap";
      if (captured.iChange === undefined) this.captured = { ...captured, iChange: index.iChange };
      return "none";
    }
    if (!same && captured !== undefined && index.salt1 !== (captured.salt1 + 1) >>> 0) return "gap";
    const from = same ? captured.frame + 1 : 1;
    const pages = readFramePages((buffer, offset) => files.read("capture:index", shm, buffer, 0, buffer.length, offset), from, index.mxFrame);
    if (pages.includes(0)) return "unsettled";
    const frames = pages.length;
    let commits = captured?.iChange === undefined ? 0 : (index.iChange - captured.iChange) >>> 0;
    // The counter starts anew when a wal-index is rebuilt; then the commit frames themselves are counted.
    if (commits < 1 || commits > frames) commits = this.#countCommits(wal, from, index.mxFrame, index.pageSize);
    return { from, to: index.mxFrame, pages, pageSize: index.pageSize, pageCount: index.nPage, commits: Math.max(1, commits), next: { ...point, frame: index.mxFrame } };
  }

  /** Whether the frame that a scan captured last is still the one that it was. */
  #isStill(wal: number, captured: WalPoint, pageSize: number): boolean {
    if (captured.frame === 0 || captured.checksum === undefined) return true;
    const header = Buffer.alloc(FRAME_HEADER_SIZE);
    files.read("capture:frames", wal, header, 0, FRAME_HEADER_SIZE, frameOffset(captured.frame, pageSize));
    return header.readUInt32BE(16) === captured.checksum.s0 && header.readUInt32BE(20) === captured.checksum.s1;
  }

  #countCommits(wal: number, from: number, to: number, pageSize: number): number {
    const header = Buffer.alloc(FRAME_HEADER_SIZE);
    let commits = 0;
    for (let frame = from; frame <= to; frame++) {
      files.read("capture:frames", wal, header, 0, FRAME_HEADER_SIZE, frameOffset(frame, pageSize));
      if (header.readUInt32BE(4) !== 0) commits++;
    }
    return commits;
  }

  #scan(wal: number): WalLook {
    this.#unpublished = undefined;
    const head = Buffer.alloc(WAL_HEADER_SIZE);
    if (files.read("capture:wal", wal, head, 0, WAL_HEADER_SIZE, 0) < WAL_HEADER_SIZE) return "none";
    const header = decodeWalHeader(head);
    if (header === undefined) return "none";
    const captured = this.captured;
    const same = captured !== undefined && captured.salt1 === header.salt1 && captured.salt2 === header.salt2;
    if (!same && captured !== undefined && captured.frame > 0 && header.salt1 !== (captured.salt1 + 1) >>> 0) return "gap";
    const resume = same && captured.frame > 0 && captured.checksum !== undefined ? { frame: captured.frame, checksum: captured.checksum } : undefined;
    const found = scanWal((buffer, offset) => files.read("capture:wal", wal, buffer, 0, buffer.length, offset), resume === undefined ? {} : { from: resume });
    if (found === undefined) return "none";
    const already = same ? captured.frame : 0;
    if (found.mxFrame <= already) return "none";
    const pages = resume === undefined ? found.pages.subarray(already) : found.pages;
    const commits = resume === undefined && already > 0 ? this.#countCommits(wal, already + 1, found.mxFrame, header.pageSize) : found.commits;
    return {
      from: already + 1, to: found.mxFrame, pages, pageSize: header.pageSize, pageCount: found.pageCount, commits,
      next: { salt1: header.salt1, salt2: header.salt2, frame: found.mxFrame, checksum: found.checksum, iChange: undefined },
    };
  }

  /** Whether this WAL holds committed frames at all, captured or not; used to overlay the database file when it is read as a whole. */
  view(): { pageSize: number; pageCount: number; frames: Map<number, number>; next: WalPoint } | undefined {
    const before = this.captured;
    this.captured = undefined;
    try {
      const wal = this.#wal();
      if (wal === undefined) return undefined;
      // An index that stays invalid (its writers died) must not hide committed frames: then the frames themselves are read.
      let look = this.look();
      if (look === "unsettled") look = this.#scan(wal);
      if (typeof look === "string") return undefined;
      return { pageSize: look.pageSize, pageCount: look.pageCount, frames: newestFrames(look), next: look.next };
    } finally {
      this.captured = before;
    }
  }

  /** Whether no frame of this point's WAL has been overwritten so far: one that begins anew writes its header before any frame. */
  stillHolds({ salt1, salt2 }: WalPoint): boolean {
    const header = Buffer.alloc(WAL_HEADER_SIZE);
    return this.read(header, 0, WAL_HEADER_SIZE, 0) === WAL_HEADER_SIZE && header.readUInt32BE(16) === salt1 && header.readUInt32BE(20) === salt2;
  }

  /** Reads up to `length` bytes of the `-wal` at `at`. */
  read(target: Uint8Array, offset: number, length: number, at: number): number {
    const wal = this.#wal();
    return wal === undefined ? 0 : files.read("capture:wal", wal, target, offset, length, at);
  }

  /** Reads the page that a frame holds. */
  readPage(frame: number, pageSize: number, target: Uint8Array, offset: number): boolean {
    const wal = this.#wal();
    if (wal === undefined) return false;
    return files.read("capture:page", wal, target, offset, pageSize, frameOffset(frame, pageSize) + FRAME_HEADER_SIZE) === pageSize;
  }

  /** Reads consecutive frames, headers included, into `target`; returns whether all were there. */
  readFrames(from: number, count: number, pageSize: number, target: Uint8Array, offset: number): boolean {
    const wal = this.#wal();
    if (wal === undefined) return false;
    const length = count * (FRAME_HEADER_SIZE + pageSize);
    return files.read("capture:frames", wal, target, offset, length, frameOffset(from, pageSize)) === length;
  }
}

/** The newest frame of each page in a batch. */
export function newestFrames(batch: Pick<WalBatch, "pages" | "from">): Map<number, number> {
  const newest = new Map<number, number>();
  batch.pages.forEach((pgno, index) => newest.set(pgno, batch.from + index));
  return newest;
}
