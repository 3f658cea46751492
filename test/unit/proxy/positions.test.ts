/** Comparing and ordering positions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hasReached } from "../../../proto/position.ts";
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

test("a position from before a failover is judged by its epoch: what survived is waited for, what was lost is not", () => {
  // Epoch 2 began at TXID 60: everything up to 59 of epoch 1 survived, what came after it was lost. A node is in epoch 2 once it has 59.
  const rows: [string, Mark, Mark, boolean][] = [
    ["a write that survived, on a follower that has not got it yet", { epoch: 1, txid: 50 }, { epoch: 1, txid: 40 }, false],
    ["a write that survived, on a follower that has it", { epoch: 1, txid: 50 }, { epoch: 1, txid: 50 }, true],
    ["a write that survived, on a node that is in the new epoch", { epoch: 1, txid: 50 }, { epoch: 2, txid: 61 }, true],
    ["a write that survived, on a node that has all of the old epoch and nothing of the new", { epoch: 1, txid: 59 }, { epoch: 2, txid: 59 }, true],
    ["a write that was lost, on a node in the new epoch with a smaller TXID", { epoch: 1, txid: 75 }, { epoch: 2, txid: 61 }, true],
    ["a write that was lost, on a node in the new epoch that has committed nothing", { epoch: 1, txid: 75 }, { epoch: 2, txid: 59 }, true],
    ["a write that was lost, on a node that does not know of the new epoch and may still get it", { epoch: 1, txid: 75 }, { epoch: 1, txid: 59 }, false],
    ["a write of the new epoch, on an old primary that has more transactions", { epoch: 2, txid: 61 }, { epoch: 1, txid: 75 }, false],
    ["a write of the new epoch, on a follower that is in it and behind", { epoch: 2, txid: 61 }, { epoch: 2, txid: 60 }, false],
    ["a read on the new primary before its first commit, on a follower that has everything before it", { epoch: 2, txid: 59 }, { epoch: 2, txid: 59 }, true],
    ["a read on the new primary before its first commit, on a follower that lacks some of the old epoch", { epoch: 2, txid: 59 }, { epoch: 1, txid: 58 }, false],
    ["two failovers later, in an epoch that lost the one between", { epoch: 2, txid: 80 }, { epoch: 3, txid: 61 }, true],
  ];
  for (const [what, want, have, reached] of rows) {
    assert.equal(hasReached({ ...have, checksum: 0n }, want), reached, what);
    assert.equal(reachedAll(new Map([["a", have]]), new Map([["a", want]])), reached, what);
  }
});
