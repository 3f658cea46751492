/**
 * Finds the write to a `-wal` that would make frames a committed transaction, before it is done: for databases with durability sync.
 *
 * Always holds: a write is passed on at once unless the WAL would have one more committed transaction after it; that one write is left to be
 * decided, and until then nothing of it is in the file, so no recovery can bring back what is refused, whatever dies meanwhile. The file
 * is the only memory: a new engine finds the same answer from it, and the kernel sends it the undecided write again. Whether frames are
 * committed is said by their salts and running checksums alone: SQLite may write header before page, page before header, or all headers of a
 * large transaction at its end (walRewriteChecksums).
 */
import * as fs from "node:fs";
import { ARENA, walChecksumAt, type WalChecksum } from "../core/checksums.ts";
import { WAL_WINDOW } from "../core/checksums-memory.ts";
import type { WalCommit } from "../core/mount-hooks.ts";
import { decodeWalHeader, FRAME_HEADER_SIZE, frameOffset, WAL_HEADER_SIZE, type WalHeader } from "../sqlite/wal.ts";
import { scanWal } from "../sqlite/wal-scanner.ts";

/** Up to where the frames of a WAL are known. */
interface Point {
  readonly frame: number;
  readonly checksum: Readonly<WalChecksum>;
}

interface Model {
  readonly header: WalHeader;
  /** The last committed frame. */
  committed: Point;
  /** The last frame that continues the chain, committed or not. */
  verified: Point;
  /** Where `committed` goes once the write that is being decided is done. */
  undecided: Point | undefined;
}

/** The gates of all such files, by inode. */
export class WalGates {
  readonly #models = new Map<number, Model>();
  #role: "primary" | "follower" = "primary";

  /** On a follower the node itself writes the WAL: what was known of it is void. */
  setRole(role: "primary" | "follower"): void {
    this.#role = role;
    this.#models.clear();
  }

  /** Whether a commit of this file is undecided. */
  isDeciding(id: number): boolean {
    return this.#models.get(id)?.undecided !== undefined;
  }

  decided(id: number, done: boolean): void {
    const model = this.#models.get(id);
    if (model?.undecided === undefined) return;
    if (done) model.committed = model.undecided;
    model.verified = model.committed;
    model.undecided = undefined;
  }

  /** The commit that this write would complete; undefined when it is to be done at once; "done" when it is done already, for an engine that has died before its reply. */
  judge(id: number, fd: number, offset: number, data: Buffer): WalCommit | "done" | undefined {
    if (this.#role !== "primary") return undefined;
    const read = (target: Uint8Array, at: number): number => readOver(fd, target, at, offset, data);
    const model = this.#modelFor(id, fd, offset, read);
    if (model === undefined) return undefined;
    const { header } = model;
    const frameSize = FRAME_HEADER_SIZE + header.pageSize;
    const first = Math.max(1, Math.floor((offset - WAL_HEADER_SIZE) / frameSize) + 1);
    if (first <= model.committed.frame) {
      // The same bytes again: the engine died between the write and its reply.
      if (isSame(fd, offset, data)) return "done";
      // Its writer has died before it made the transaction known, or has undone it: the next one begins in its place.
      model.committed = pointAt(fd, header, first - 1);
      model.verified = model.committed;
    } else if (first <= model.verified.frame) {
      model.verified = pointAt(fd, header, first - 1);
    }
    return this.#extend(model, read, offset, data);
  }

  #modelFor(id: number, fd: number, offset: number, read: (target: Uint8Array, at: number) => number): Model | undefined {
    if (offset >= WAL_HEADER_SIZE) {
      const known = this.#models.get(id);
      // Cut to nothing since, or begun anew by somebody else.
      if (known !== undefined && isHeaderOf(fd, known.header)) return known;
      const found = scanWal((buffer, at) => fs.readSync(fd, buffer, 0, buffer.length, at));
      if (found === undefined) return undefined;
      return this.#keep(id, { header: found.header, committed: { frame: found.mxFrame, checksum: found.checksum } });
    }
    this.#models.delete(id);
    const bytes = Buffer.alloc(WAL_HEADER_SIZE);
    const header = read(bytes, 0) < WAL_HEADER_SIZE ? undefined : decodeWalHeader(bytes);
    return header === undefined ? undefined : this.#keep(id, { header, committed: { frame: 0, checksum: header.checksum } });
  }

  #keep(id: number, { header, committed }: Pick<Model, "header" | "committed">): Model {
    const model: Model = { header, committed, verified: committed, undecided: undefined };
    this.#models.set(id, model);
    return model;
  }

  /** Follows the chain as far as it leads with the write in place. */
  #extend(model: Model, read: (target: Uint8Array, at: number) => number, offset: number, data: Buffer): WalCommit | undefined {
    const { header } = model;
    const running = { ...model.verified.checksum };
    const frameSize = FRAME_HEADER_SIZE + header.pageSize;
    const bytes = ARENA.subarray(WAL_WINDOW, WAL_WINDOW + frameSize);
    let { frame } = model.verified;
    let found: { point: Point; pageCount: number } | undefined;
    let commits = 0;
    for (;;) {
      if (read(bytes, frameOffset(frame + 1, header.pageSize)) < frameSize) break;
      if (bytes.readUInt32BE(0) === 0 || bytes.readUInt32BE(8) !== header.salt1 || bytes.readUInt32BE(12) !== header.salt2) break;
      const next = { ...running };
      walChecksumAt(WAL_WINDOW, 8, next, header.bigEndian);
      walChecksumAt(WAL_WINDOW + FRAME_HEADER_SIZE, header.pageSize, next, header.bigEndian);
      if (bytes.readUInt32BE(16) !== next.s0 || bytes.readUInt32BE(20) !== next.s1) break;
      running.s0 = next.s0;
      running.s1 = next.s1;
      frame++;
      const pageCount = bytes.readUInt32BE(4);
      if (pageCount === 0) continue;
      commits++;
      found = { point: { frame, checksum: { ...running } }, pageCount };
    }
    if (found === undefined) {
      model.verified = { frame, checksum: running };
      return undefined;
    }
    model.undecided = found.point;
    return {
      offset, data: Uint8Array.prototype.slice.call(data), from: model.committed.frame + 1, to: found.point.frame, pageSize: header.pageSize, pageCount: found.pageCount, commits,
      salt1: header.salt1, salt2: header.salt2, checksum: found.point.checksum,
    };
  }
}

/** Reads from a file as it would be with `data` written at `offset`. */
export function readOver(fd: number, target: Uint8Array, at: number, offset: number, data: Uint8Array): number {
  const from = Math.max(at, offset);
  const to = Math.min(at + target.length, offset + data.length);
  if (from === at && to === at + target.length) {
    target.set(data.subarray(from - offset, to - offset));
    return target.length;
  }
  const n = fs.readSync(fd, target, 0, target.length, at);
  if (to <= from) return n;
  // A hole between the end of the file and the write reads as zero.
  if (from - at > n) target.fill(0, n, from - at);
  target.set(data.subarray(from - offset, to - offset), from - at);
  return Math.max(n, to - at);
}

function isHeaderOf(fd: number, header: WalHeader): boolean {
  const bytes = Buffer.alloc(24);
  return fs.readSync(fd, bytes, 0, 24, 0) === 24 && bytes.readUInt32BE(16) === header.salt1 && bytes.readUInt32BE(20) === header.salt2;
}

function isSame(fd: number, offset: number, data: Buffer): boolean {
  const there = Buffer.alloc(data.length);
  return fs.readSync(fd, there, 0, there.length, offset) === there.length && there.equals(data);
}

/** The point after a frame that is in the chain. */
function pointAt(fd: number, header: WalHeader, frame: number): Point {
  if (frame === 0) return { frame, checksum: header.checksum };
  const bytes = Buffer.alloc(8);
  fs.readSync(fd, bytes, 0, 8, frameOffset(frame, header.pageSize) + 16);
  return { frame, checksum: { s0: bytes.readUInt32BE(0), s1: bytes.readUInt32BE(4) } };
}
