/**
 * How many bytes does the primary write to its transaction log for each byte that SQLite writes to the WAL, at full speed?
 *
 * Always holds: everything that the engine writes to any file counts, in whole pages of 4 KiB as the system does it: segments, transaction files,
 * also those that merge others, page checksums, state. What SQLite writes to the WAL for a transaction is known from the same program on a native
 * twin whose WAL is never checkpointed.
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { Load } from "./loader.ts";
import { Nodes } from "./nodes.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { spreadOf } from "./statistics.ts";

export const LOG_QUESTION: Question = { rows: ["log-bytes"], run: measure };

const TWIN_TRANSACTIONS = 20_000;

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  const { roundMs, latencyRounds: rounds } = bench.effort;
  const nodes = bench.use(await Nodes.make(bench.folder, bench.driver));
  await nodes.start();
  mkdirSync(bench.path("native"));
  const name = "bench.db";
  const twin = bench.use(await Load.open([{ path: bench.path("native", name), work: "insert", seed: 1, journalMode: "wal", autoCheckpoint: 0 }]));
  await twin.work({ count: TWIN_TRANSACTIONS });
  const walBytesEach = statSync(bench.path("native", `${name}-wal`)).size / TWIN_TRANSACTIONS;

  const load = bench.use(await Load.open([{ path: nodes.primary.path(name), work: "insert", seed: 1, journalMode: "wal" }]));
  await load.work({ count: TWIN_TRANSACTIONS });
  await nodes.inStep(name);
  const shares: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const before = writtenBy(nodes.primary.processes().engine);
    const { done } = await load.work({ ms: roundMs * 2 });
    await nodes.inStep(name);
    shares.push((writtenBy(nodes.primary.processes().engine) - before) / (done * walBytesEach));
  }
  return [{ id: "log-bytes", mount: spreadOf(shares), score: spreadOf(shares), notes: [`${Math.round(walBytesEach)} bytes of WAL for each transaction`] }];
}

/** Bytes that a process has written to files, in whole pages; sockets do not count. */
function writtenBy(pid: number): number {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))![1]);
}
