/**
 * What travels over a link: the messages of a follower's stream, FollowDown and FollowUp, as frames on a plain connection.
 *
 * Always holds: numbers are little-endian; TXIDs, epochs and serials are doubles, exact below 2^53; checksums are as in the messages. Every message can be sent
 * as kind 0, in protobuf; those that each commit of a database with durability sync needs have a frame of their own, because protobuf takes longer
 * for them than everything else that a node does with them. Decoded they are what protobuf would give.
 *
 *   frame:            length u32 of what follows, kind u8, body
 *   0 message:        protobuf
 *   1 prepare:        epoch, txid, serial; flags u8 (1: last, 2: with owner); mode u32, uid u32, gid u32; name; data
 *   2 confirm, 3 rewind, 5 stored:   serial; name
 *   4 ack:            epoch, txid; checksum 8 bytes; name
 *   name:             length u16, UTF-8
 */
import { ReplicationService } from "./grpc.ts";
import type { FollowDown, FollowDown__Output } from "./gen/sluice/v1/FollowDown.ts";
import type { FollowUp, FollowUp__Output } from "./gen/sluice/v1/FollowUp.ts";
import type { Prepare, Prepare__Output } from "./gen/sluice/v1/Prepare.ts";

/** No message of a stream is longer. */
export const LINK_FRAME_BYTES_MAX: number = 8 << 20;
const HEAD = 5;
const KIND = { message: 0, prepare: 1, confirm: 2, rewind: 3, ack: 4, stored: 5 } as const;
const LAST = 1;
const OWNED = 2;
const PREPARE_FIXED = 3 * 8 + 1 + 3 * 4;

/** How one side writes what it sends and reads what it gets. */
export interface LinkCodec<Out, In> {
  encode(message: Out): Buffer;
  /** A whole frame without its length. Throws a RangeError for what is no frame. The message shares the memory of the frame. */
  decode(frame: Buffer): In;
}

interface Protobuf<Out, In> { serialize(message: Out): Buffer; deserialize(bytes: Buffer): In }
const follow = ReplicationService.service["Follow"]!;
const down: Protobuf<FollowDown, FollowDown__Output> = { serialize: follow.responseSerialize as (message: FollowDown) => Buffer, deserialize: follow.responseDeserialize as (bytes: Buffer) => FollowDown__Output };
const up: Protobuf<FollowUp, FollowUp__Output> = { serialize: follow.requestSerialize as (message: FollowUp) => Buffer, deserialize: follow.requestDeserialize as (bytes: Buffer) => FollowUp__Output };

/** The primary's side. */
export const DOWN_CODEC: LinkCodec<FollowDown, FollowUp__Output> = {
  encode(message) {
    const { prepare, confirm, rewind } = message;
    if (prepare) return encodePrepare(prepare);
    if (confirm) return encodeSerial(KIND.confirm, confirm.database!, confirm.serial as number);
    if (rewind) return encodeSerial(KIND.rewind, rewind.database!, rewind.serial as number);
    return wrap(down.serialize(message));
  },
  decode(frame) {
    const kind = frame[0];
    if (kind === KIND.message) return up.deserialize(frame.subarray(1));
    if (kind === KIND.stored) return { stored: decodeSerial(frame) };
    if (kind === KIND.ack) {
      return { ack: { epoch: frame.readDoubleLE(1), txid: frame.readDoubleLE(9), checksum: frame.subarray(17, 25), database: nameAt(frame, 25).name } };
    }
    throw new RangeError(`a frame of kind ${kind}`);
  },
};

/** The follower's side. */
export const UP_CODEC: LinkCodec<FollowUp, FollowDown__Output> = {
  encode(message) {
    const { stored, ack } = message;
    if (stored) return encodeSerial(KIND.stored, stored.database!, stored.serial as number);
    if (ack) {
      const { frame, at } = begin(KIND.ack, 24, ack.database!, 0);
      frame.writeDoubleLE(ack.epoch as number, HEAD);
      frame.writeDoubleLE(ack.txid as number, HEAD + 8);
      (ack.checksum as Buffer).copy(frame, HEAD + 16);
      putName(frame, at, ack.database!);
      return frame;
    }
    return wrap(up.serialize(message));
  },
  decode(frame) {
    const kind = frame[0];
    if (kind === KIND.message) return down.deserialize(frame.subarray(1));
    if (kind === KIND.confirm) return { confirm: decodeSerial(frame) };
    if (kind === KIND.rewind) return { rewind: decodeSerial(frame) };
    if (kind === KIND.prepare) return { prepare: decodePrepare(frame) };
    throw new RangeError(`a frame of kind ${kind}`);
  },
};

function encodePrepare({ database, epoch, txid, serial, data, last, owner }: Prepare): Buffer {
  const { frame, at } = begin(KIND.prepare, PREPARE_FIXED, database!, data!.length);
  frame.writeDoubleLE(epoch as number, HEAD);
  frame.writeDoubleLE(txid as number, HEAD + 8);
  frame.writeDoubleLE(serial as number, HEAD + 16);
  frame[HEAD + 24] = (last === true ? LAST : 0) | (owner ? OWNED : 0);
  frame.writeUInt32LE(owner?.mode ?? 0, HEAD + 25);
  frame.writeUInt32LE(owner?.uid ?? 0, HEAD + 29);
  frame.writeUInt32LE(owner?.gid ?? 0, HEAD + 33);
  frame.set(data as Uint8Array, putName(frame, at, database!));
  return frame;
}

function decodePrepare(frame: Buffer): Prepare__Output {
  const flags = frame[25]!;
  const { name, end } = nameAt(frame, 1 + PREPARE_FIXED);
  return {
    database: name, epoch: frame.readDoubleLE(1), txid: frame.readDoubleLE(9), serial: frame.readDoubleLE(17), last: (flags & LAST) !== 0,
    owner: (flags & OWNED) === 0 ? null : { mode: frame.readUInt32LE(26), uid: frame.readUInt32LE(30), gid: frame.readUInt32LE(34) }, data: frame.subarray(end),
  };
}

function encodeSerial(kind: number, database: string, serial: number): Buffer {
  const { frame, at } = begin(kind, 8, database, 0);
  frame.writeDoubleLE(serial, HEAD);
  putName(frame, at, database);
  return frame;
}

function decodeSerial(frame: Buffer): { database: string; serial: number } {
  return { serial: frame.readDoubleLE(1), database: nameAt(frame, 9).name };
}

function wrap(bytes: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEAD + bytes.length);
  frame.writeUInt32LE(1 + bytes.length, 0);
  frame[4] = KIND.message;
  bytes.copy(frame, HEAD);
  return frame;
}

function begin(kind: number, fixed: number, name: string, data: number): { frame: Buffer; at: number } {
  const size = HEAD + fixed + 2 + Buffer.byteLength(name) + data;
  const frame = Buffer.allocUnsafe(size);
  frame.writeUInt32LE(size - 4, 0);
  frame[4] = kind;
  return { frame, at: HEAD + fixed };
}

/** Returns where the name ends. */
function putName(frame: Buffer, at: number, name: string): number {
  const length = frame.write(name, at + 2);
  frame.writeUInt16LE(length, at);
  return at + 2 + length;
}

function nameAt(frame: Buffer, at: number): { name: string; end: number } {
  const end = at + 2 + frame.readUInt16LE(at);
  if (end > frame.length) throw new RangeError("a name that is longer than its frame");
  return { name: frame.toString("utf8", at + 2, end), end };
}

/** Cuts a connection's bytes into frames. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The whole frames that there are now, without their lengths; they share the memory of the chunks. Throws a RangeError for a length that no frame has. */
  *add(chunk: Buffer): Generator<Buffer> {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = Buffer.alloc(0);
    while (bytes.length >= 4) {
      const length = bytes.readUInt32LE(0);
      if (length < 1 || length > LINK_FRAME_BYTES_MAX) throw new RangeError(`a frame of ${length} bytes`);
      if (bytes.length < 4 + length) break;
      yield bytes.subarray(4, 4 + length);
      bytes = bytes.subarray(4 + length);
    }
    this.#rest = bytes;
  }
}
