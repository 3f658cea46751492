/** The checker of the fault tests: a sound history passes, and each kind of violation is caught in a history that has nothing else wrong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkHistory, type Promises } from "../../faults/checker.ts";
import type { FinalState, HistoryRecord, ReadRecord, WriteRecord } from "../../faults/history.ts";
import { formatPosition } from "../../../proto/position.ts";

const at = (epoch: number, txid: number, checksum = BigInt(epoch * 1000 + txid)): string => formatPosition({ epoch, txid, checksum });
let clock = 0;

const write = (session: string, n: number, epoch: number, txid: number, changes: Partial<WriteRecord> = {}): WriteRecord => ({
  op: "write", session, db: "d", n, through: "b", begin: (clock += 10), end: (clock += 10), outcome: "ok", node: epoch === 1 ? "a" : "b", before: at(epoch, txid - 1), after: at(epoch, txid), marked: true, ...changes,
});
const read = (session: string, seen: ReadRecord["seen"], node = "c"): ReadRecord => ({ op: "read", session, db: "d", through: node, begin: (clock += 10), end: (clock += 10), outcome: "ok", node, seen: seen! });

/** Two sessions, a change of the primary between TXID 4 and 5, an entry of unknown fate. */
function sound(): { records: HistoryRecord[]; final: FinalState } {
  const records: HistoryRecord[] = [
    write("s", 1, 1, 2), write("t", 1, 1, 3), read("s", { s: [1], t: [1] }), write("s", 2, 1, 4), read("s", { s: [1, 2], t: [1] }),
    write("t", 2, 1, 5, { outcome: "unknown", node: undefined!, before: undefined!, after: undefined! }),
    write("s", 3, 2, 6), read("t", { s: [1, 2], t: [1] }, "a"), read("s", { s: [1, 2, 3], t: [1] }, "b"), write("t", 3, 2, 7),
  ];
  const digest = "d";
  const position = at(2, 7);
  return { records, final: { nodes: ["a", "b", "c"].map((name) => ({ name, position, digest })), entries: { s: [1, 2, 3], t: [1, 3] }, diverged: {} } };
}

const NONE: Promises = { losses: "none" };
const LISTED: Promises = { losses: "listed" };
const rules = (records: readonly HistoryRecord[], final: FinalState, promises = NONE): string[] => [...new Set(checkHistory(records, final, promises).map(({ rule }) => rule))];

test("a sound history has no violation, whether the write of unknown fate is there or not", () => {
  const { records, final } = sound();
  assert.deepEqual(checkHistory(records, final, NONE), []);
  assert.deepEqual(checkHistory(records, { ...final, entries: { ...final.entries, t: [1, 2, 3] } }, NONE), []);
});

test("an acknowledged write that is missing is caught; in async mode it may be listed as diverged instead", () => {
  const { records, final } = sound();
  const lost = { ...final, entries: { s: [1, 2], t: [1, 3] } };
  assert.deepEqual(rules(records, lost), ["lost"]);
  assert.deepEqual(rules(records, lost, LISTED), ["lost"], "not listed either");
  assert.deepEqual(rules(records, { ...lost, diverged: { s: [3] } }, LISTED), []);
  assert.deepEqual(rules(records, { ...lost, diverged: { s: [3] } }, NONE), ["lost"], "in sync mode a list is no excuse");
});

test("an entry that nobody has sent is caught, at the end and in a read", () => {
  const { records, final } = sound();
  assert.deepEqual(rules(records, { ...final, entries: { ...final.entries, x: [1] } }), ["invented"]);
  assert.deepEqual(rules([...records, read("t", { s: [1, 9] })], final), ["invented"]);
});

test("a write that was executed twice is caught", () => {
  const { records, final } = sound();
  assert.deepEqual(rules(records.map((record) => (record.op === "write" && record.n === 3 && record.session === "t" ? { ...record, outcome: "twice" as const } : record)), final), ["twice"]);
  assert.deepEqual(rules(records, { ...final, entries: { ...final.entries, t: [1, 3, 3] } }), ["twice"]);
});

test("two nodes that commit in one epoch are caught", () => {
  const { records, final } = sound();
  const second = records.map((record) => (record.op === "write" && record.session === "t" && record.n === 3 ? { ...record, node: "c" } : record));
  assert.deepEqual(rules(second, final), ["two writers"]);
});

test("one position with two states is caught, and a TXID that two writes got", () => {
  const { records, final } = sound();
  const change = (changes: Partial<WriteRecord>): HistoryRecord[] => records.map((record) => (record.op === "write" && record.session === "t" && record.n === 3 ? { ...record, ...changes } : record));
  assert.deepEqual(rules(change({ before: at(2, 6, 1n) }), final), ["two states"]);
  assert.deepEqual(rules(change({ before: at(2, 5), after: at(2, 6) }), final), ["two states"]);
  assert.deepEqual(rules(change({ after: at(2, 6) }), final), ["two states"], "acknowledged without a TXID");
});

test("a write in an older epoch after one in a newer was acknowledged is caught", () => {
  const { records, final } = sound();
  const late = write("s", 4, 1, 5);
  assert.deepEqual(rules([...records, late], { ...final, entries: { ...final.entries, s: [1, 2, 3, 4] } }), ["epoch went back"]);
  // It was sent before the other was acknowledged: both orders are possible.
  assert.deepEqual(rules([...records, { ...late, begin: 0 }], { ...final, entries: { ...final.entries, s: [1, 2, 3, 4] } }), []);
});

test("a read that does not show what its session has written or, on that node, seen is caught", () => {
  const { records, final } = sound();
  assert.deepEqual(rules([...records, read("s", { s: [1, 2], t: [1] })], final), ["read went back"], "its own write");
  assert.deepEqual(rules([...records, read("s", { s: [1, 2, 3], t: [] })], final), ["read went back"], "another's, on the same node");
  assert.deepEqual(rules([...records, read("s", { s: [1, 2, 3], t: [] }, "z")], final), [], "another's, on a node that may be behind");
  const unmarked = records.map((record) => (record.op === "write" && record.session === "t" && record.n === 3 ? { ...record, marked: false } : record));
  assert.deepEqual(rules([...unmarked, read("t", { s: [1, 2, 3], t: [1] })], final), [], "an answer without a cookie promises nothing");
  assert.deepEqual(rules([...records, read("t", { s: [1, 2, 3], t: [1] })], final), ["read went back"]);
  const lost = { ...final, entries: { s: [1, 2], t: [1, 3] }, diverged: { s: [3] } };
  assert.deepEqual(rules([...records, read("s", { s: [1, 2], t: [1] })], lost, LISTED), [], "what was lost and listed is excused");
});

test("nodes that end at different positions or with different content are caught", () => {
  const { records, final } = sound();
  const [a, b, c] = final.nodes as [FinalState["nodes"][0], FinalState["nodes"][0], FinalState["nodes"][0]];
  assert.deepEqual(rules(records, { ...final, nodes: [a, b, { ...c, position: at(2, 6) }] }), ["nodes differ"]);
  assert.deepEqual(rules(records, { ...final, nodes: [a, { ...b, digest: "e" }, c] }), ["nodes differ"]);
});
