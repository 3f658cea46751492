/** The message that is encoded by hand, held against the protobuf library. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ReplicationService } from "../../../proto/grpc.ts";
import { encodeSnapshotPages } from "../../../proto/snapshot-pages.ts";

const method = ReplicationService.service["Snapshot"]!;

for (const [what, numbers, firstPage] of [
  ["consecutive pages", [1, 2, 3], 1],
  ["consecutive pages with large numbers", [2 ** 31, 2 ** 31 + 1], 2 ** 31],
  ["one page", [127], 127],
  ["pages with gaps", [1, 127, 128, 16_384, 2 ** 32 - 2], 0],
] as const) {
  test(`a message with ${what} that is encoded by hand is the one that the protobuf library makes`, () => {
    const data = Buffer.alloc(numbers.length * 512, 7);
    const byHand = encodeSnapshotPages(numbers, data);
    const pages = firstPage === 0 ? { numbers: [...numbers], data } : { firstPage, data };
    assert.deepEqual(byHand, method.responseSerialize({ pages }));
    const read = method.responseDeserialize(byHand) as { pages: { firstPage: number; numbers: number[]; data: Buffer } };
    assert.deepEqual([read.pages.firstPage, read.pages.numbers.length === 0 ? [] : read.pages.numbers], [firstPage, firstPage === 0 ? [...numbers] : []]);
    assert.deepEqual(read.pages.data, data);
  });
}

test("bytes that are encoded already pass through the serializer as they are", () => {
  const bytes = encodeSnapshotPages([5], Buffer.alloc(512));
  assert.equal(method.responseSerialize(bytes), bytes);
});
