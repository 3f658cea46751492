/**
 * Judges a history: pure. What it asserts is what the README promises, and nothing about how it is done.
 *
 * | violation        | is                                                                                                     |
 * |------------------|--------------------------------------------------------------------------------------------------------|
 * | lost             | an acknowledged write is not there at the end; where losses are allowed, it is not in `diverged/` either |
 * | invented         | an entry at the end, or in a read, that nobody has sent                                                |
 * | twice            | a write was executed although the same client's write of that entry had been executed before            |
 * | two writers      | two nodes committed in one epoch                                                                       |
 * | two states       | one position (epoch and TXID) had two checksums, or two writes were given the same TXID of one epoch     |
 * | epoch went back  | a write began, after another one was acknowledged, in an epoch before that one's                        |
 * | read went back   | a session was not shown, on any node, what it had written (and got a cookie for), or, on the node that had shown it before, what others had |
 * |                  | written; where losses are allowed, what was lost and is listed is excused                                |
 * | nodes differ     | positions or contents are not equal on all nodes at the end                                            |
 */
import { formatPosition, parsePosition, type Position } from "../../proto/position.ts";
import type { FinalState, HistoryRecord, ReadRecord, WriteRecord } from "./history.ts";

export interface Violation {
  readonly rule: "lost" | "invented" | "twice" | "two writers" | "two states" | "epoch went back" | "read went back" | "nodes differ";
  readonly text: string;
}

export interface Promises {
  /**
   * `none`: an acknowledged write is there at the end (sync mode, or a primary that never changes). `listed`: it is there or in `diverged/`.
   */
  readonly losses: "none" | "listed";
}

const has = (map: Readonly<Record<string, readonly number[]>>, session: string, n: number): boolean => map[session]?.includes(n) === true;

/** Everything that is wrong with a history. */
export function checkHistory(records: readonly HistoryRecord[], final: FinalState, promises: Promises): readonly Violation[] {
  const writes = records.filter((record) => record.op === "write");
  const reads = records.filter((record) => record.op === "read");
  return [
    ...checkWrites(writes, final, promises), ...checkInvented(writes, reads, final), ...checkEpochs(writes), ...checkSessions(records, final, promises), ...checkNodes(final),
  ];
}

function* checkWrites(writes: readonly WriteRecord[], final: FinalState, promises: Promises): Generator<Violation> {
  const sent = new Set<string>();
  for (const { session, n, outcome, through } of writes) {
    const key = `${session}/${n}`;
    if (outcome === "twice" || (outcome === "ok" && sent.has(key))) yield { rule: "twice", text: `write ${key} through ${through} was executed twice` };
    sent.add(key);
    if (outcome !== "ok" || has(final.entries, session, n)) continue;
    if (promises.losses === "listed" && has(final.diverged, session, n)) continue;
    yield { rule: "lost", text: `write ${key}, acknowledged through ${through}, is not there${promises.losses === "listed" ? " and not in diverged/" : ""}` };
  }
}

function* checkInvented(writes: readonly WriteRecord[], reads: readonly ReadRecord[], final: FinalState): Generator<Violation> {
  const sent = new Set(writes.map(({ session, n }) => `${session}/${n}`));
  for (const [session, numbers] of Object.entries(final.entries)) {
    for (const n of numbers) if (!sent.has(`${session}/${n}`)) yield { rule: "invented", text: `${session}/${n} is there, and nobody has sent it` };
    if (new Set(numbers).size !== numbers.length) yield { rule: "twice", text: `an entry of ${session} is there more than once` };
  }
  for (const { seen = {}, node } of reads) {
    for (const [session, numbers] of Object.entries(seen)) for (const n of numbers) if (!sent.has(`${session}/${n}`)) yield { rule: "invented", text: `${session}/${n} was read on ${node}, and nobody has sent it` };
  }
}

function* checkEpochs(writes: readonly WriteRecord[]): Generator<Violation> {
  const writerOf = new Map<number, string>();
  const stateOf = new Map<string, bigint>();
  const txidsOf = new Map<string, string>();
  let newest: { readonly epoch: number; readonly end: number; readonly key: string } | undefined;
  for (const write of writes.filter(({ outcome }) => outcome === "ok").toSorted((a, b) => a.end - b.end)) {
    const [before, after] = [parsePosition(write.before ?? ""), parsePosition(write.after ?? "")];
    const key = `${write.session}/${write.n}`;
    for (const position of [before, after]) {
      // The first transaction of a database gets its epoch with the first position.
      if (position === undefined || position.txid === 0) continue;
      const place = formatPosition({ ...position, checksum: 0n });
      const known = stateOf.get(place);
      if (known !== undefined && known !== position.checksum) yield { rule: "two states", text: `epoch ${position.epoch}, TXID ${position.txid} had two checksums; the second was seen with write ${key}` };
      stateOf.set(place, position.checksum);
    }
    if (before === undefined || after === undefined || before.epoch !== after.epoch || before.txid === 0) continue; // No proof in which epoch it was committed.
    const writer = writerOf.get(after.epoch);
    if (writer !== undefined && writer !== write.node) yield { rule: "two writers", text: `${writer} and ${write.node} both committed in epoch ${after.epoch}, the latter write ${key}` };
    writerOf.set(after.epoch, writer ?? write.node ?? "?");
    if (after.txid <= before.txid) yield { rule: "two states", text: `write ${key} was acknowledged, but the position stayed at TXID ${after.txid}` };
    if (exactlyOne(before, after)) {
      const place = `${after.epoch}/${after.txid}`;
      if (txidsOf.has(place)) yield { rule: "two states", text: `writes ${txidsOf.get(place)} and ${key} were both TXID ${after.txid} of epoch ${after.epoch}` };
      txidsOf.set(place, key);
    }
    // Judged by what was acknowledged before this write was even sent.
    if (newest !== undefined && newest.end < write.begin && after.epoch < newest.epoch) yield { rule: "epoch went back", text: `write ${key} was committed in epoch ${after.epoch} after ${newest.key} in epoch ${newest.epoch}` };
    if (newest === undefined || after.epoch > newest.epoch) newest = { epoch: after.epoch, end: write.end, key };
  }
}

const exactlyOne = (before: Position, after: Position): boolean => after.txid === before.txid + 1;

function* checkSessions(records: readonly HistoryRecord[], final: FinalState, promises: Promises): Generator<Violation> {
  // What a session knows to exist: what its cookie stands for wherever it asks, and what a node has shown it on that node.
  const known = new Map<string, Set<number>>();
  const of = (session: string, about: string, node: string): Set<number> => {
    const key = `${session} ${about} ${node}`;
    const set = known.get(key) ?? new Set<number>();
    known.set(key, set);
    return set;
  };
  // A session asks one thing after the other, so its records are in the order of its requests.
  for (const record of records) {
    if (record.outcome !== "ok") continue;
    const { session, node } = record;
    if (record.op === "write") {
      if (record.marked === true) of(session, session, "").add(record.n);
      continue;
    }
    for (const [about, numbers] of Object.entries(record.seen ?? {})) {
      const shown = new Set(numbers);
      const here = of(session, about, node ?? "?");
      for (const n of new Set([...here, ...of(session, about, "")])) {
        if (shown.has(n) || (promises.losses === "listed" && !has(final.entries, about, n) && has(final.diverged, about, n))) continue;
        yield { rule: "read went back", text: `session ${session} at ${Math.round(record.begin)} ms on ${node} was not shown ${about}/${n}, which it had written or seen` };
        break;
      }
      for (const n of shown) here.add(n);
    }
  }
}

function* checkNodes(final: FinalState): Generator<Violation> {
  const [first, ...others] = final.nodes;
  for (const node of others) {
    if (node.position !== first!.position) yield { rule: "nodes differ", text: `${first!.name} is at ${first!.position}, ${node.name} at ${node.position}` };
    if (node.digest !== first!.digest) yield { rule: "nodes differ", text: `the content of ${node.name} is not that of ${first!.name}` };
  }
}
