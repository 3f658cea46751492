/** Epoch histories: where two part, what a follower takes, whom it does not follow. `SEED=n` replays the property test. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { beginEpoch, commonAncestor, epochAt, epochReached, historyUpTo, isStalePrimary, judgeTransaction, soundHistory, type EpochHistory, type Lineage } from "../../../node/store/epoch-history.ts";
import { planStream } from "../../../node/replication/stream-plan.ts";
import { seedOfRun } from "../../support/random.ts";

/** "1:1 2:60" is epoch 1 from TXID 1 and epoch 2 from TXID 60. */
const history = (text: string): EpochHistory => text.split(" ").filter(Boolean).map((part) => {
  const [epoch, firstTxid] = part.split(":").map(Number) as [number, number];
  return { epoch, firstTxid, node: `n${epoch}` };
});
const at = (text: string, txid: number): Lineage => ({ history: history(text), txid });

test("the common ancestor is the newest transaction whose epoch is the same in both", () => {
  const rows: [string, Lineage, Lineage, number, number][] = [
    ["the same", at("1:1", 10), at("1:1", 10), 1, 10],
    ["one is behind", at("1:1", 10), at("1:1", 4), 1, 4],
    ["a failover after everything", at("1:1", 10), at("1:1 2:11", 13), 1, 10],
    ["an old primary with five more", at("1:1", 15), at("1:1 2:11", 13), 1, 10],
    ["both went on in epochs of their own", at("1:1 3:11", 15), at("1:1 4:9", 20), 1, 8],
    ["an epoch that nobody wrote in", at("1:1 2:11", 10), at("1:1 3:11", 12), 1, 10],
    ["an epoch that only one wrote in", at("1:1 2:11", 12), at("1:1 3:11", 12), 1, 10],
    ["a chain of failovers", at("1:1 2:11 5:20", 30), at("1:1 2:11 5:20 6:26", 28), 5, 25],
    ["behind the epochs of the other", at("1:1", 5), at("1:1 2:11 5:20", 30), 1, 5],
    ["nothing in common", at("1:1", 5), at("2:1", 5), 0, 0],
    ["one has nothing", at("", 0), at("1:1", 5), 0, 0],
    ["a newer epoch is shared, the older entries were lost", at("5:20", 30), at("1:1 5:20", 25), 5, 25],
  ];
  for (const [what, one, other, epoch, txid] of rows) {
    assert.deepEqual(commonAncestor(one, other), { epoch, txid }, what);
    assert.deepEqual(commonAncestor(other, one), { epoch, txid }, `${what}, the other way round`);
  }
});

test("any sequence of failovers between nodes: the ancestor is where their transactions first differ", () => {
  const nodes = 4;
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("commit" as const), count: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("replicate" as const), to: fc.nat(nodes - 1), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("elect" as const), node: fc.nat(nodes - 1) }) },
  );
  let differing = 0;
  fc.assert(fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
    // What really happened: each transaction is its writer's epoch and its place, so equal texts are equal transactions.
    const logs: string[][] = Array.from({ length: nodes }, () => []);
    const histories: EpochHistory[] = Array.from({ length: nodes }, () => []);
    let primary = 0;
    let epoch = 1;
    histories[0] = beginEpoch([], { epoch, firstTxid: 1, node: "n0" });
    for (const one of steps) {
      if (one.kind === "commit") {
        for (let n = 0; n < one.count; n++) logs[primary]!.push(`${epoch}/${logs[primary]!.length + 1}`);
      } else if (one.kind === "elect") {
        primary = one.node;
        epoch++;
        histories[primary] = beginEpoch(historyUpTo(histories[primary]!, logs[primary]!.length), { epoch, firstTxid: logs[primary]!.length + 1, node: `n${primary}` });
      } else if (one.to !== primary) {
        const [from, to] = [logs[primary]!, logs[one.to]!];
        const ancestor = commonAncestor({ history: histories[primary]!, txid: from.length }, { history: histories[one.to]!, txid: to.length }).txid;
        const end = ancestor + Math.floor((from.length - ancestor) * one.share);
        logs[one.to] = from.slice(0, end);
        histories[one.to] = historyUpTo(histories[primary]!, end);
      }
    }
    for (let i = 0; i < nodes; i++) {
      assert.deepEqual(soundHistory(histories[i]!), histories[i], "histories keep their order");
      logs[i]!.forEach((text, index) => assert.equal(epochAt(histories[i]!, index + 1), Number(text.split("/")[0])));
      for (let j = 0; j < nodes; j++) {
        let shared = 0;
        while (shared < Math.min(logs[i]!.length, logs[j]!.length) && logs[i]![shared] === logs[j]![shared]) shared++;
        if (shared < Math.min(logs[i]!.length, logs[j]!.length)) differing++;
        assert.equal(commonAncestor({ history: histories[i]!, txid: logs[i]!.length }, { history: histories[j]!, txid: logs[j]!.length }).txid, shared);
      }
    }
  }), { numRuns: 2_000, seed: seedOfRun() });
  assert.ok(differing > 1_000, `only ${differing} pairs had diverged`);
});

test("a node is in an epoch as soon as it has everything before its first transaction, and keeps no entry beyond", () => {
  const all = history("1:1 2:60 4:70");
  for (const [txid, epoch] of [[0, 1], [58, 1], [59, 2], [60, 2], [68, 2], [69, 4], [99, 4]] as const) assert.equal(epochReached(all, txid), epoch, String(txid));
  assert.deepEqual(historyUpTo(all, 58), history("1:1"));
  assert.deepEqual(historyUpTo(all, 59), history("1:1 2:60"));
  assert.deepEqual(beginEpoch(history("1:1 2:60"), history("5:60")[0]!), history("1:1 5:60"), "an epoch without a transaction leaves no entry");
  assert.deepEqual(soundHistory(history("1:1 3:5 2:9 4:5 6:20 6:30")), history("1:1 3:5 6:20"));
});

test("a transaction is applied, known, stale or diverged by its epoch, whatever its TXID", () => {
  const own = { ...at("1:1 3:51", 60), epoch: 3 };
  const rows: [string, number, number, EpochHistory | undefined, string][] = [
    ["the next, of this epoch", 3, 61, undefined, "apply"],
    ["the next, of a newer epoch", 4, 61, history("1:1 3:51 4:61"), "apply"],
    ["the next, of an older epoch: its sender was deposed", 2, 61, undefined, "stale"],
    ["a far one of an older epoch", 1, 1_000, undefined, "stale"],
    ["here already", 3, 60, undefined, "known"],
    ["here already, of an older epoch", 1, 50, undefined, "known"],
    ["an old TXID by an older epoch than the one here", 1, 55, undefined, "stale"],
    ["an old TXID by a newer epoch than the one here", 4, 55, undefined, "diverged"],
    ["a newer epoch that began before what is here", 4, 70, history("1:1 3:51 4:58"), "diverged"],
    ["a newer epoch in which the one here did not exist", 4, 70, history("1:1 4:51"), "diverged"],
  ];
  for (const [what, epoch, maxTxid, sender, verdict] of rows) assert.equal(judgeTransaction(own, { epoch, maxTxid }, sender), verdict, what);
  assert.equal(judgeTransaction({ history: [], txid: 0, epoch: 0 }, { epoch: 1, maxTxid: 1 }), "apply", "an empty node takes anything");
  // An epoch that was begun and holds nothing counts as seen.
  assert.equal(judgeTransaction({ ...at("1:1 3:61", 60), epoch: 3 }, { epoch: 2, maxTxid: 61 }), "stale");
  // Begun here after less than elsewhere: the loss of power that took the rest does not make the sender a deposed one.
  assert.equal(judgeTransaction({ ...at("1:1 3:61", 60), epoch: 3 }, { epoch: 2, maxTxid: 61 }, history("1:1 2:61 3:65 4:70")), "apply");
  assert.equal(judgeTransaction({ ...at("1:1 3:61", 60), epoch: 3 }, { epoch: 2, maxTxid: 61 }, history("1:1 2:61")), "stale");
});

test("a primary of an older epoch than one that was seen is not followed", () => {
  assert.deepEqual([[1, 2], [2, 2], [3, 2], [1, 0]].map(([epoch, seen]) => isStalePrimary(epoch!, seen!)), [true, false, false, false]);
});

test("what a follower gets depends on where it is in the primary's history, not on its epoch's number", () => {
  const rows: [string, string, number, number, bigint, string, boolean, object][] = [
    // what, follower's history, its epoch, TXID, checksum, primary's history (at TXID 65), log covers, plan
    ["at the same state", "1:1 2:60", 2, 65, 7n, "1:1 2:60", true, { kind: "nothing" }],
    ["an earlier epoch of this history", "1:1", 1, 40, 1n, "1:1 2:60", true, { kind: "stream", from: 41 }],
    ["an epoch of its own in which it wrote nothing", "1:1 3:41", 3, 40, 1n, "1:1 4:60", true, { kind: "stream", from: 41 }],
    ["nothing at all", "", 0, 0, 0n, "1:1 2:60", true, { kind: "stream", from: 1 }],
    ["the log does not reach back", "1:1", 1, 40, 1n, "1:1 2:60", false, { kind: "snapshot", reason: "the log does not reach back that far", ancestor: { epoch: 1, txid: 40 } }],
    ["past the ancestor, with a smaller TXID", "1:1", 1, 62, 1n, "1:1 2:60", true, { kind: "snapshot", reason: "the follower has 3 transactions that this history does not have", ancestor: { epoch: 1, txid: 59 } }],
    ["past the ancestor, with a larger TXID", "1:1", 1, 80, 1n, "1:1 2:60", true, { kind: "snapshot", reason: "the follower has 21 transactions that this history does not have", ancestor: { epoch: 1, txid: 59 } }],
    ["the same TXID, another state", "1:1 2:60", 2, 65, 8n, "1:1 2:60", true, { kind: "snapshot", reason: "the states differ at the same TXID", ancestor: { epoch: 2, txid: 64 } }],
    ["no common history", "9:1", 9, 5, 1n, "1:1 2:60", true, { kind: "snapshot", reason: "the follower has 5 transactions that this history does not have", ancestor: { epoch: 0, txid: 0 } }],
  ];
  for (const [what, followerHistory, epoch, txid, checksum, own, logCovers, plan] of rows) {
    assert.deepEqual(planStream({ follower: { epoch, txid, checksum }, followerHistory: history(followerHistory), primary: { epoch: 4, txid: 65, checksum: 7n }, history: history(own), logCovers, nextPreApply: undefined }), plan, what);
  }
  assert.equal(planStream({ follower: { epoch: 1, txid: 40, checksum: 1n }, followerHistory: history("1:1"), primary: { epoch: 1, txid: 65, checksum: 7n }, history: history("1:1"), logCovers: true, nextPreApply: 2n }).kind, "snapshot", "another state before the next transaction");
});
