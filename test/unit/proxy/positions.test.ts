/** Comparing and ordering positions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMarks, reachedAll, recentFirst, type Mark } from "../../../proxy/positions.ts";

const marks = (...entries: [string, number, number][]): Map<string, Mark> => new Map(entries.map(([name, epoch, txid]) => [name, { epoch, txid }]));

test("reachedAll() wants every database, and a later epoch counts as later", () => {
  assert.equal(reachedAll(marks(["a", 1, 5]), marks()), true);
  assert.equal(reachedAll(marks(["a", 1, 5]), marks(["a", 1, 5])), true);
  assert.equal(reachedAll(marks(["a", 1, 4]), marks(["a", 1, 5])), false);
  assert.equal(reachedAll(marks(["a", 2, 1]), marks(["a", 1, 5])), true);
  assert.equal(reachedAll(marks(["a", 1, 9]), marks(["a", 2, 1])), false);
  assert.equal(reachedAll(marks(["a", 1, 5]), marks(["a", 1, 5], ["b", 1, 1])), false);
  assert.equal(reachedAll(marks(["a", 1, 5]), marks(["b", 0, 0])), true);
});

test("recentFirst() moves what changed to the front and forgets what is gone", () => {
  const first = recentFirst(new Map(), marks(["a", 1, 1], ["b", 1, 1], ["c", 1, 1]));
  assert.deepEqual([...first.keys()], ["a", "b", "c"]);
  const second = recentFirst(first, marks(["a", 1, 1], ["b", 1, 1], ["c", 1, 2]));
  assert.deepEqual([...second], [["c", { epoch: 1, txid: 2 }], ["a", { epoch: 1, txid: 1 }], ["b", { epoch: 1, txid: 1 }]]);
  assert.deepEqual([...recentFirst(second, marks(["b", 2, 1], ["a", 1, 1])).keys()], ["b", "a"]);
  assert.equal(recentFirst(second, marks(["b", 1, 1], ["a", 1, 1], ["c", 1, 2])), second);
  assert.equal(recentFirst(second, marks(["a", 1, 1], ["c", 1, 2])).size, 2);
});

test("formatMarks() shows names that any header can carry", () => {
  assert.equal(formatMarks(marks(["app.db", 1, 42], ["sub/ä, b.db", 10, 7])), "app.db=1/2a, sub%2F%C3%A4%2C%20b.db=a/7");
  assert.equal(formatMarks(marks(["a", 1, 1], ["b", 1, 1]), 1), "a=1/1");
});
