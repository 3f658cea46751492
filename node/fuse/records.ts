/**
 * The small file that remembers which inodes are open and under which backing id, for the engine that comes after a killed one.
 *
 * Always holds: opens and releases are recorded before their replies are written, with the number of the request, so one that the kernel
 * repeats is not counted twice. Where several first opens of one inode were under way in a crash, the count may come out too high (the
 * file stays registered), never too low, which would give a second id to a live inode, and every open of it EIO.
 * The thread writes all of a record but the backing id, which the main thread writes when the kernel gives it; the two ranges never overlap. (Where the
 * registration came before the open, for a spare file, the main thread has nothing to write, and the thread does.)
 * The file is valid as long as the FUSE connection: a new mount starts a new one. Nothing is fsynced: it need not outlive the kernel.
 *
 *   header, 64 bytes:  magic 8 | minor version of the kernel u32@8
 *   record, 64 bytes:  inode u64@0 | generation u32@8 | used u16@12 | opens of the node's own u16@14 | opens, own ones too, u32@16
 *                      | opens for writing only u32@20
 *                      | unique of the newest counted open u64@24 | of the newest counted release u64@32 | backing id i32@40
 */
import * as fs from "node:fs";
import { readU64, writeU64 } from "./wire.ts";

const MAGIC = "SLUICEI1";
const SIZE = 64;
const MINOR = 8;
const FIELD = { inode: 0, generation: 8, used: 12, ownOpens: 14, opens: 16, rawOpens: 20, unique: 24, released: 32, backing: 40 } as const;
/** The range of the thread. */
const THREAD_BYTES = 40;

export interface OpenRecord {
  readonly slot: number;
  readonly inode: number;
  readonly generation: number;
  readonly opens: number;
  /** Those of them that are of guardian and engine. */
  readonly ownOpens: number;
  readonly rawOpens: number;
  readonly unique: bigint;
  readonly released: bigint;
  /** A backing id, NO_BACKING, or 0 when none was written yet. */
  readonly backing: number;
}

export class OpenRecords {
  readonly #fd: number;
  readonly #free: number[] = [];
  readonly #buffer = Buffer.alloc(SIZE);
  #slots = 0;

  /** Begins an empty file for a new mount. */
  static create(path: string): OpenRecords {
    const fd = fs.openSync(path, "w+", 0o600);
    const header = Buffer.alloc(SIZE);
    header.write(MAGIC, 0, "latin1");
    fs.writeSync(fd, header, 0, SIZE, 0);
    return new OpenRecords(fd);
  }

  /** Opens the file that an earlier engine left, with what it holds. */
  static resume(path: string): { records: OpenRecords; minor: number; open: OpenRecord[] } {
    const { minor, slots } = readRecords(path);
    const records = new OpenRecords(fs.openSync(path, "r+"));
    records.#slots = slots.length;
    slots.forEach((record, slot) => {
      if (record === undefined) records.#free.push(slot);
    });
    return { records, minor, open: slots.filter((record) => record !== undefined) };
  }

  private constructor(fd: number) {
    this.#fd = fd;
  }

  writeMinor(minor: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(minor, 0);
    fs.writeSync(this.#fd, bytes, 0, 4, MINOR);
  }

  take(): number {
    return this.#free.pop() ?? this.#slots++;
  }

  write(slot: number, record: Omit<OpenRecord, "slot" | "backing">): void {
    const buffer = this.#buffer;
    writeU64(buffer, record.inode, FIELD.inode);
    buffer.writeUInt32LE(record.generation, FIELD.generation);
    buffer.writeUInt16LE(1, FIELD.used);
    buffer.writeUInt16LE(record.ownOpens, FIELD.ownOpens);
    buffer.writeUInt32LE(record.opens, FIELD.opens);
    buffer.writeUInt32LE(record.rawOpens, FIELD.rawOpens);
    buffer.writeBigUInt64LE(record.unique, FIELD.unique);
    buffer.writeBigUInt64LE(record.released, FIELD.released);
    fs.writeSync(this.#fd, buffer, 0, THREAD_BYTES, (slot + 1) * SIZE);
  }

  /** For an inode of whose registration the main thread has told before it was opened. */
  writeBacking(slot: number, backing: number): void {
    writeBackingId(this.#fd, slot, backing);
  }

  /** Gives a slot back. Its inode is not open, so no registration of it is on its way in the main thread. */
  release(slot: number): void {
    fs.writeSync(this.#fd, Buffer.alloc(SIZE), 0, SIZE, (slot + 1) * SIZE);
    this.#free.push(slot);
  }
}

/** All slots of a record file. Throws EIO when it is none. */
function readRecords(path: string): { minor: number; slots: (OpenRecord | undefined)[] } {
  const bytes = fs.readFileSync(path);
  if (bytes.length < SIZE || bytes.toString("latin1", 0, MAGIC.length) !== MAGIC) {
    throw Object.assign(new Error(`EIO: not a table of open files, '${path}'`), { code: "EIO", errno: -5 });
  }
  const slots: (OpenRecord | undefined)[] = [];
  // The last record may be short: an engine was killed between its two writes, or is between them now.
  for (let at = SIZE, slot = 0; at < bytes.length; at += SIZE, slot++) {
    const record = Buffer.alloc(SIZE);
    bytes.copy(record, 0, at, Math.min(at + SIZE, bytes.length));
    slots.push(record.readUInt16LE(FIELD.used) === 0 ? undefined : {
      slot, inode: readU64(record, FIELD.inode), generation: record.readUInt32LE(FIELD.generation), opens: record.readUInt32LE(FIELD.opens), ownOpens: record.readUInt16LE(FIELD.ownOpens),
      rawOpens: record.readUInt32LE(FIELD.rawOpens), unique: record.readBigUInt64LE(FIELD.unique), released: record.readBigUInt64LE(FIELD.released), backing: record.readInt32LE(FIELD.backing),
    });
  }
  return { minor: bytes.readUInt32LE(MINOR), slots };
}

/** How often an inode is open now, by the record file; for the main thread, which need not wake the other for it. */
export function recordedOpens(path: string, inode: number): number {
  return readRecords(path).slots.find((record) => record?.inode === inode)?.opens ?? 0;
}

/** The main thread's half: writes the backing id of a record. `fd` is a descriptor of the same file, opened for writing. */
export function writeBackingId(fd: number, slot: number, backing: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(backing, 0);
  fs.writeSync(fd, bytes, 0, 4, (slot + 1) * SIZE + FIELD.backing);
}
