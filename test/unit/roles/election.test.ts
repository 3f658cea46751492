/** Elections and lease times: pure decisions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Standing } from "../../../node/core/standing.ts";
import { aheadIn, decideElection, type Waited } from "../../../node/roles/election.ts";
import { unheard } from "../../../node/roles/electorate-keeper.ts";
import { callDeadline, leaseTimes, renewDelay } from "../../../node/roles/lease-time.ts";
import type { Position } from "../../../proto/position.ts";

const at = (epoch: number, txid: number): Position => ({ epoch, txid, checksum: 1n });
const node = (nodeId: string, positions: Record<string, Position>, candidate = true): Standing => ({
  nodeId, candidate, stored: new Map(Object.entries(positions).map(([name, published]) => [name, { published, tail: undefined, refused: 0 }])),
});
const young = { ms: 0, mostMs: 1_000, silentMs: 500 };

test("a node takes the lease when nobody is ahead, waits for a candidate that is, and does not wait for ever", () => {
  const own = node("b", { "app.db": at(1, 10) });
  const cases: [string, Standing[], Waited, "take" | "wait"][] = [
    ["alone", [], young, "take"],
    ["equal", [node("a", { "app.db": at(1, 10) })], young, "take"],
    ["behind", [node("a", { "app.db": at(1, 9) })], young, "take"],
    ["ahead", [node("a", { "app.db": at(1, 11) })], young, "wait"],
    ["ahead in a later epoch with fewer transactions", [node("a", { "app.db": at(2, 3) })], young, "wait"],
    ["behind in an earlier epoch with more transactions", [node("a", { "app.db": at(0, 99) })], young, "take"],
    ["ahead by a database that is unknown here", [node("a", { "app.db": at(1, 10), "other.db": at(1, 1) })], young, "wait"],
    ["ahead, but no candidate", [node("a", { "app.db": at(1, 11) }, false)], young, "take"],
    ["ahead, but it had its time", [node("a", { "app.db": at(1, 11) })], { ...young, ms: 1_000 }, "take"],
  ];
  for (const [name, others, waited, expected] of cases) assert.equal(decideElection(own, others, 0, waited), expected, name);
});

test("a member that has not answered is waited for, for a shorter while", () => {
  const own = node("b", { "app.db": at(1, 10) });
  assert.equal(decideElection(own, [], 1, young), "wait");
  assert.equal(decideElection(own, [node("a", { "app.db": at(1, 9) })], 1, young), "wait");
  assert.equal(decideElection(own, [], 1, { ...young, ms: 500 }), "take");
  assert.equal(decideElection(own, [node("a", { "app.db": at(1, 11) })], 1, { ...young, ms: 500 }), "wait");
});

test("of two nodes that are ahead of each other, exactly one takes the lease at once", () => {
  const one = node("a", { "x.db": at(1, 5), "y.db": at(1, 1) });
  const two = node("b", { "x.db": at(1, 1), "y.db": at(1, 5) });
  assert.deepEqual([decideElection(one, [two], 0, young), decideElection(two, [one], 0, young)], ["take", "wait"]);
});

test("a proposal that is stored counts, unless any of the nodes knows that it was refused; what is published counts more", () => {
  const published = at(1, 10);
  const standing = (nodeId: string, tail: number | undefined, refused = 0, seen = published): Standing => ({
    nodeId, candidate: true, stored: new Map([["app.db", { published: seen, tail: tail === undefined ? undefined : { position: at(1, 11), serial: tail }, refused }]]),
  });
  assert.equal(decideElection(standing("a", undefined), [standing("b", 7)], 0, young), "wait");
  assert.equal(decideElection(standing("a", undefined, 7), [standing("b", 7)], 0, young), "take");
  assert.equal(decideElection(standing("a", undefined), [standing("b", 7), standing("c", undefined, 7)], 0, young), "take");
  assert.equal(decideElection(standing("a", 7), [standing("b", 8)], 0, young), "wait", "the later proposal of one TXID");
  assert.equal(decideElection(standing("a", 7), [standing("b", undefined, 0, at(1, 11))], 0, young), "wait");
});

test("among nodes that all see each other somebody takes the lease at once, and nobody who lacks what another candidate has alone", () => {
  const positions = fc.dictionary(fc.constantFrom("x.db", "y.db", "z.db"), fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 5 })));
  fc.assert(fc.property(fc.array(positions, { minLength: 1, maxLength: 4 }), (all) => {
    const nodes = all.map((one, index) => node(String(index), Object.fromEntries(Object.entries(one).map(([name, [epoch, txid]]) => [name, at(epoch, txid)]))));
    const takers = nodes.filter((one) => decideElection(one, nodes.filter((other) => other !== one), 0, young) === "take");
    for (const taker of takers) {
      for (const other of nodes) {
        const lacks = aheadIn(other.stored, taker.stored, new Map()).length > 0;
        if (lacks && other !== taker) assert.ok(aheadIn(taker.stored, other.stored, new Map()).length > 0, "it is ahead of the other in something");
      }
    }
    assert.equal(decideElection(nodes[0]!, nodes.slice(1), 1, { ...young, ms: 1_000 }), "take");
  }));
});

test("the fence is up before the lease can end, with time for another renewal before it", () => {
  for (const ttlMs of [1_000, 2_000, 10_000, 60_000]) {
    const { endsMs, fenceMs } = leaseTimes(5_000, ttlMs);
    assert.equal(endsMs, 5_000 + ttlMs);
    assert.ok(fenceMs < endsMs && fenceMs >= 5_000 + ttlMs * 0.75, `${ttlMs}`);
    const secondTry = renewDelay("renewed", ttlMs) + callDeadline(ttlMs) + renewDelay("unanswered", ttlMs);
    assert.ok(5_000 + secondTry < fenceMs, `${ttlMs}: a second try is sent before the fence`);
  }
});

test("an election with durability sync waits for nobody as long as at most `syncReplicas` of those who count are silent, and then without end", () => {
  const electorate = { epoch: 1, revision: 4, nodes: ["a", "b", "c", "d"].map((name) => ({ nodeId: `id-${name}`, name })) };
  const heard = (...names: string[]): ReadonlySet<string> => new Set(names.map((name) => `id-${name}`));
  const cases: [ReadonlySet<string>, number, readonly string[]][] = [
    [heard("a", "b", "c", "d"), 1, []], [heard("a", "b", "c"), 1, []], [heard("a", "b"), 1, ["c", "d"]], [heard("a", "b"), 2, []], [heard("a"), 2, ["b", "c", "d"]],
    // Who does not count makes up for nobody.
    [heard("a", "x", "y", "z"), 1, ["b", "c", "d"]],
  ];
  for (const [names, replicas, expected] of cases) assert.deepEqual(unheard(electorate, names, replicas), expected);
  assert.deepEqual(unheard(undefined, heard("a"), 1), []);
  assert.equal(decideElection(node("a", {}), [], 0, { ...young, ms: 1_000_000 }, "two nodes"), "wait");
});

test("of nodes that a commit asked for, every part of the electorate that an election accepts has one", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 3 }), fc.nat(), fc.nat(), (size, replicas, storedBits, heardBits) => {
    const nodes = Array.from({ length: size }, (_, i) => ({ nodeId: String(i), name: String(i) }));
    const stored = nodes.filter((_, i) => (storedBits >> i) % 2 === 1);
    const heard = new Set(nodes.filter((_, i) => (heardBits >> i) % 2 === 1).map(({ nodeId }) => nodeId));
    // Acknowledged: by the primary and `replicas` more.
    if (stored.length < replicas + 1 || unheard({ epoch: 1, revision: 1, nodes }, heard, replicas).length > 0) return;
    assert.ok(stored.some(({ nodeId }) => heard.has(nodeId)));
  }));
});
