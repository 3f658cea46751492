/**
 * Frames of a link: what is read is what was sent, however the bytes arrive.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DOWN_CODEC, FrameReader, LINK_FRAME_BYTES_MAX, UP_CODEC } from "../../../proto/link-frames.ts";
import type { FollowDown } from "../../../proto/gen/sluice/v1/FollowDown.ts";
import type { FollowUp } from "../../../proto/gen/sluice/v1/FollowUp.ts";

const BIG = 2 ** 53 - 1;
const DOWN: readonly FollowDown[] = [
  { prepare: { database: "sub/ä.db", epoch: 3, txid: BIG, serial: BIG, data: Buffer.from("0123456789"), last: true, owner: { mode: 0o640, uid: 4_294_967_294, gid: 7 } } },
  { prepare: { database: "app.db", epoch: 1, txid: 1, serial: 1_700_000_000_000, data: Buffer.alloc(0), last: false, owner: null } },
  { confirm: { database: "app.db", serial: 17 } },
  { rewind: { database: "", serial: 0 } },
  { heartbeat: { nowMs: 5, positions: [{ database: "app.db", epoch: 1, txid: 2, checksum: Buffer.alloc(8, 1) }] } },
  { transactions: { database: "app.db", epoch: 1, minTxid: 1, maxTxid: 2, data: Buffer.alloc(9_000, 7), last: true, owner: null, history: null } },
];
const UP: readonly FollowUp[] = [
  { ack: { database: "app.db", epoch: 2, txid: BIG, checksum: Buffer.from("8182838485868788", "hex") } },
  { stored: { database: "ä", serial: 99 } },
  { subscribe: { after: { database: "app.db", epoch: 2, txid: 7, checksum: Buffer.alloc(8, 2) }, history: null } },
];

/** Frames from bytes that arrive in pieces. */
function frames(bytes: Buffer, piece: number): Buffer[] {
  const reader = new FrameReader();
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += piece) found.push(...reader.add(bytes.subarray(at, at + piece)));
  return found;
}

/** What was sent, field by field, in what was read. */
function includes(read: unknown, sent: unknown): void {
  if (Buffer.isBuffer(sent) || sent === null || typeof sent !== "object") return assert.deepEqual(read, sent);
  for (const [key, value] of Object.entries(sent)) includes((read as Record<string, unknown>)[key], value);
}

test("messages in both directions are read as they were sent, whatever pieces their bytes arrive in", () => {
  const bytes = [Buffer.concat(DOWN.map((message) => DOWN_CODEC.encode(message))), Buffer.concat(UP.map((message) => UP_CODEC.encode(message)))] as const;
  for (const piece of [1, 3, 4096, 1 << 20]) {
    const down = frames(bytes[0], piece).map((frame) => UP_CODEC.decode(frame));
    assert.equal(down.length, DOWN.length);
    DOWN.forEach((message, i) => includes(down[i], message));
    const up = frames(bytes[1], piece).map((frame) => DOWN_CODEC.decode(frame));
    assert.equal(up.length, UP.length);
    UP.forEach((message, i) => includes(up[i], message));
  }
});

test("what is no frame is refused: a length that none has, a kind that there is not, a body that is too short", () => {
  const length = (n: number): Buffer => {
    const bytes = Buffer.alloc(5);
    bytes.writeUInt32LE(n, 0);
    return bytes;
  };
  for (const wrong of [0, LINK_FRAME_BYTES_MAX + 1, 0xffffffff]) assert.throws(() => [...new FrameReader().add(length(wrong))], RangeError);
  for (const codec of [UP_CODEC, DOWN_CODEC]) {
    assert.throws(() => codec.decode(Buffer.from([9])), RangeError);
    for (const kind of [1, 2, 3, 4, 5]) assert.throws(() => codec.decode(Buffer.from([kind, 0, 0])), RangeError);
  }
  const stored = UP_CODEC.encode({ stored: { database: "app.db", serial: 1 } }).subarray(4);
  for (let n = 1; n < stored.length; n++) assert.throws(() => DOWN_CODEC.decode(stored.subarray(0, n)), RangeError);
});
