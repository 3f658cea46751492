/**
 * The few bytes of framing on a bulk connection.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MAGIC, decodeMissing, decodeRunHead, encodeMissing, encodeRunHead } from "../../../proto/bulk-frames.ts";

test("a run's head is read as it was written, up to the largest page number", () => {
  for (const run of [{ first: 1, count: 256 }, { first: 0, count: 0 }, { first: 0xfffffffe, count: 1 }]) assert.deepEqual(decodeRunHead(encodeRunHead(run.first, run.count)), run);
});

test("a list of missing pages is known once all of it has come, and refused when it is longer than the database", () => {
  const bytes = encodeMissing([3, 5, 70_000]);
  for (let n = 0; n < bytes.length; n++) assert.equal(decodeMissing(bytes.subarray(0, n), 100_000), undefined);
  assert.deepEqual(decodeMissing(bytes, 3), [3, 5, 70_000]);
  assert.throws(() => decodeMissing(bytes, 2), RangeError);
  assert.deepEqual(decodeMissing(encodeMissing([]), 0), []);
});

test("no HTTP/2 connection begins like a bulk connection", () => {
  assert.notEqual(MAGIC[0], "PRI * HTTP/2.0".charCodeAt(0));
});
