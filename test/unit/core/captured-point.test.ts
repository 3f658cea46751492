/** What one thread publishes of a WAL's end is what another confirms, and nothing else. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CapturedPoint } from "../../../node/core/captured-point.ts";
import { decodeWalEnd, WAL_END_BYTES } from "../../../node/sqlite/wal-end.ts";
import { encodeWalIndexHeader, WAL_INDEX_HEADER_B } from "../../../node/sqlite/wal-index.ts";

const END = { salt1: 0xfffffff0, salt2: 0x80000001, frame: 7 };

test("a published end is confirmed through the shared memory, until it is withdrawn", () => {
  const point = new CapturedPoint();
  const other = new CapturedPoint(point.shared);
  assert.equal(other.reaches(END), false);
  point.publish(END);
  assert.equal(other.reaches(END), true);
  point.withdraw();
  assert.equal(other.reaches(END), false);
});

test("another frame, other salts and a WAL without frames are not confirmed", () => {
  const point = new CapturedPoint();
  point.publish(END);
  for (const other of [{ ...END, frame: 6 }, { ...END, frame: 8 }, { ...END, salt1: 1 }, { ...END, salt2: 1 }]) assert.equal(point.reaches(other), false);
  point.publish({ ...END, frame: 0 });
  assert.equal(point.reaches({ ...END, frame: 0 }), false);
});

test("a later end takes the place of an earlier one", () => {
  const point = new CapturedPoint();
  point.publish(END);
  point.publish({ ...END, frame: 9 });
  assert.equal(point.reaches(END), false);
  assert.equal(point.reaches({ ...END, frame: 9 }), true);
});

test("the end of a WAL is read from its wal-index when both copies of the header agree", () => {
  const prefix = Buffer.alloc(WAL_END_BYTES);
  const write = (frame: number, at: number): void => {
    encodeWalIndexHeader({ iChange: 3, bigEndChecksum: false, pageSize: 4096, mxFrame: frame, nPage: 5, frameChecksum: { s0: 1, s1: 2 }, salt1: END.salt1, salt2: END.salt2 }).copy(prefix, at);
  };
  assert.equal(decodeWalEnd(prefix), undefined);
  write(7, WAL_INDEX_HEADER_B);
  assert.equal(decodeWalEnd(prefix), undefined);
  write(7, 0);
  assert.deepEqual(decodeWalEnd(prefix), END);
  write(8, WAL_INDEX_HEADER_B);
  assert.equal(decodeWalEnd(prefix), undefined);
});
