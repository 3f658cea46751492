/**
 * How long after a commit on the primary do readers on the follower see the row, at 200 transactions a second?
 *
 * Always holds: both moments are read from the same monotonic clock, in the writer right after its commit has returned and in the reader right
 * after its query has. The reader rests a tenth of a millisecond between its looks, which counts against us; one that asks without pause takes one
 * of the two processors from the nodes that it looks at, and is noted beside.
 */
import { Load, monotonicMs } from "./loader.ts";
import { Nodes } from "./nodes.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { quantile, spreadOf } from "./statistics.ts";

export const LATENCY_QUESTION: Question = { rows: ["visible-p50", "visible-p99"], run: measure };

const EVERY_MS = 5;
const REST_MS = 0.1;
/** After the last commit, for the last row to arrive. */
const TAIL_MS = 1_500;

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  const { latencyMs, latencyRounds } = bench.effort;
  const nodes = bench.use(await Nodes.make(bench.folder, bench.driver));
  await nodes.start();
  const name = "bench.db";
  const writer = bench.use(await Load.open([{ path: nodes.primary.path(name), work: "insert", seed: 1, journalMode: "wal" }]));
  // Compiled code on both nodes.
  await writer.rate(bench.effort.warmMs);
  await nodes.inStep(name);
  const reader = bench.use(await Load.open([{ path: nodes.follower.path(name), work: "read", seed: 1 }]));

  const halves: number[] = [];
  const tails: number[] = [];
  const spinning: number[] = [];
  for (let round = 0; round <= latencyRounds; round++) {
    // The reader of the last round does not rest, for comparison.
    const pauseMs = round === latencyRounds ? 0 : REST_MS;
    const atMs = monotonicMs() + 200;
    await reader.ask({ type: "observe", untilMs: atMs + latencyMs + TAIL_MS, pauseMs });
    const observed = reader.next();
    const written = await writer.ask({ type: "pace", atMs, everyMs: EVERY_MS, ms: latencyMs });
    const seen = await observed;
    if (written.type !== "times" || seen.type !== "times") throw new Error("a load process answered something else");
    const when = new Map(seen.times);
    const waits = written.times.map(([id, committed]) => {
      const visible = when.get(id);
      if (visible === undefined) throw new Error(`row ${id} was not seen on the follower within ${TAIL_MS} ms`);
      return Math.max(0, visible - committed);
    });
    if (round < latencyRounds) {
      halves.push(quantile(waits, 0.5));
      tails.push(quantile(waits, 0.99));
    } else {
      spinning.push(quantile(waits, 0.5), quantile(waits, 0.99));
    }
  }
  const count = Math.round(latencyMs / EVERY_MS);
  return [
    { id: "visible-p50", mount: spreadOf(halves), score: spreadOf(halves), notes: [`${count} transactions a round; with a reader that does not rest between its looks: p50 ${spinning[0]!.toFixed(2)}, p99 ${spinning[1]!.toFixed(2)} ms`] },
    { id: "visible-p99", mount: spreadOf(tails), score: spreadOf(tails), notes: [] },
  ];
}
