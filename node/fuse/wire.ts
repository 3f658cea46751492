/**
 * Requests read and replies written: the bytes of the protocol, without any decision.
 *
 * Always holds: a Request is a view of the buffer it was read into and is valid until the next read, unless it was copied. Writers put a
 * struct at an offset of a buffer and return nothing; every byte of the struct is written, so buffers may be used again uncleared.
 */
import type { BigIntStats } from "node:fs";
import * as abi from "./abi.ts";

const HEADER = abi.fuse_in_header.SIZE;
/** Where the body of a reply begins. */
export const REPLY_BODY = abi.fuse_out_header.SIZE;
const TWO_32 = 2 ** 32;

/** A 64-bit number that must be exact in JavaScript: node ids and sizes here always are. */
export function readU64(buffer: Buffer, at: number): number {
  return buffer.readUInt32LE(at) + buffer.readUInt32LE(at + 4) * TWO_32;
}

export function writeU64(buffer: Buffer, value: number, at: number): void {
  buffer.writeUInt32LE(value % TWO_32, at);
  buffer.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
}

export class Request {
  readonly buffer: Buffer;
  length = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /** A copy that outlives the next read. */
  copy(): Request {
    const copy = new Request(Buffer.from(this.buffer.subarray(0, this.length)));
    copy.length = this.length;
    return copy;
  }

  get opcode(): number { return this.buffer.readUInt32LE(abi.fuse_in_header.opcode); }
  /** Echoed in the reply as it is, resend bit and all. */
  get unique(): bigint { return this.buffer.readBigUInt64LE(abi.fuse_in_header.unique); }
  get node(): number { return readU64(this.buffer, abi.fuse_in_header.nodeid); }
  get uid(): number { return this.buffer.readUInt32LE(abi.fuse_in_header.uid); }
  get gid(): number { return this.buffer.readUInt32LE(abi.fuse_in_header.gid); }
  /** Thread id of the caller; 0 for what the kernel does on its own or for a caller in another pid namespace. */
  get pid(): number { return this.buffer.readUInt32LE(abi.fuse_in_header.pid); }
  /** An earlier server had read this request and not answered it. */
  get resent(): boolean { return this.buffer.readUInt32LE(abi.fuse_in_header.unique + 4) >= abi.FUSE_UNIQUE_RESEND_HIGH; }
  get bodyLength(): number { return this.length - HEADER; }

  u32(at: number): number { return this.buffer.readUInt32LE(HEADER + at); }
  u64(at: number): number { return readU64(this.buffer, HEADER + at); }

  /** The `index`th NUL-terminated name after a body struct of `at` bytes; undefined when it is not UTF-8. */
  name(at: number, index = 0): string | undefined {
    let start = HEADER + at;
    let end = this.buffer.indexOf(0, start);
    for (; index > 0 && end >= 0; index--) {
      start = end + 1;
      end = this.buffer.indexOf(0, start);
    }
    if (end < 0 || end >= this.length) return undefined;
    const name = this.buffer.toString("utf8", start, end);
    // A byte that is no UTF-8 was replaced by U+FFFD, which has another length or other bytes.
    return name.includes("\ufffd") && !Buffer.from(name).equals(this.buffer.subarray(start, end)) ? undefined : name;
  }

  data(at: number, length: number): Buffer {
    return this.buffer.subarray(HEADER + at, HEADER + at + length);
  }
}

/** The 16 bytes before every reply; `error` is 0 or a negative errno. */
export function writeReplyHeader(out: Buffer, unique: bigint, bodyLength: number, error: number): void {
  out.writeUInt32LE(REPLY_BODY + bodyLength, abi.fuse_out_header.len);
  out.writeInt32LE(error, abi.fuse_out_header.error);
  out.writeBigUInt64LE(unique, abi.fuse_out_header.unique);
}

/** How a backing file is shown: its number, and its count of names where Sluice keeps that. */
export interface Shown {
  readonly id: number;
  readonly links: number;
}

const NANO = 1_000_000_000n;

function writeTime(out: Buffer, nanoseconds: bigint, seconds: number, rest: number): void {
  let part = nanoseconds % NANO;
  if (part < 0n) part += NANO;
  out.writeBigInt64LE((nanoseconds - part) / NANO, seconds);
  out.writeUInt32LE(Number(part), rest);
}

export function writeAttr(out: Buffer, at: number, stat: BigIntStats, shown: Shown): void {
  const attr = abi.fuse_attr;
  writeU64(out, shown.id, at + attr.ino);
  out.writeBigUInt64LE(stat.size, at + attr.size);
  out.writeBigUInt64LE(stat.blocks, at + attr.blocks);
  writeTime(out, stat.atimeNs, at + attr.atime, at + attr.atimensec);
  writeTime(out, stat.mtimeNs, at + attr.mtime, at + attr.mtimensec);
  writeTime(out, stat.ctimeNs, at + attr.ctime, at + attr.ctimensec);
  out.writeUInt32LE(Number(stat.mode), at + attr.mode);
  out.writeUInt32LE(shown.links, at + attr.nlink);
  out.writeUInt32LE(Number(stat.uid), at + attr.uid);
  out.writeUInt32LE(Number(stat.gid), at + attr.gid);
  out.writeUInt32LE(0, at + attr.rdev);
  out.writeUInt32LE(4096, at + attr.blksize);
  out.writeUInt32LE(0, at + attr.flags);
}

/** fuse_attr_out: the reply to GETATTR and SETATTR. */
export function writeAttrOut(out: Buffer, at: number, stat: BigIntStats, shown: Shown, seconds: number): void {
  writeU64(out, seconds, at + abi.fuse_attr_out.attr_valid);
  writeU64(out, 0, at + abi.fuse_attr_out.attr_valid_nsec);
  writeAttr(out, at + abi.fuse_attr_out.attr, stat, shown);
}

export interface EntryValidity {
  readonly generation: number;
  readonly entrySeconds: number;
  readonly attributeSeconds: number;
}

/** fuse_entry_out: the reply to LOOKUP and whatever makes a name. `node`: the id by which the kernel is to ask, where it is not the number that is shown. */
export function writeEntryOut(out: Buffer, at: number, stat: BigIntStats, shown: Shown, validity: EntryValidity, node = shown.id): void {
  writeEntryHead(out, at, node, validity);
  writeAttr(out, at + abi.fuse_entry_out.attr, stat, shown);
}

/** A name that the kernel may remember as absent. */
export function writeAbsentEntry(out: Buffer, at: number, seconds: number): void {
  out.fill(0, at, at + abi.fuse_entry_out.SIZE);
  writeEntryHead(out, at, 0, { generation: 0, entrySeconds: seconds, attributeSeconds: 0 });
}

function writeEntryHead(out: Buffer, at: number, id: number, validity: EntryValidity): void {
  const entry = abi.fuse_entry_out;
  writeU64(out, id, at + entry.nodeid);
  writeU64(out, validity.generation, at + entry.generation);
  writeU64(out, validity.entrySeconds, at + entry.entry_valid);
  writeU64(out, validity.attributeSeconds, at + entry.attr_valid);
  writeU64(out, 0, at + entry.entry_valid_nsec);
}

/** fuse_open_out. */
export function writeOpenOut(out: Buffer, at: number, handle: number, flags: number, backing: number): void {
  writeU64(out, handle, at + abi.fuse_open_out.fh);
  out.writeUInt32LE(flags, at + abi.fuse_open_out.open_flags);
  out.writeInt32LE(backing, at + abi.fuse_open_out.backing_id);
}

/** Bytes one directory entry takes: its struct and name, padded to 8. */
export function direntLength(name: Buffer): number {
  return (abi.fuse_dirent.name + name.length + 7) & ~7;
}

export function writeDirent(out: Buffer, at: number, id: number, next: number, type: number, name: Buffer): void {
  out.fill(0, at, at + direntLength(name));
  writeU64(out, id, at + abi.fuse_dirent.ino);
  writeU64(out, next, at + abi.fuse_dirent.off);
  out.writeUInt32LE(name.length, at + abi.fuse_dirent.namelen);
  out.writeUInt32LE(type, at + abi.fuse_dirent.type);
  name.copy(out, at + abi.fuse_dirent.name);
}
