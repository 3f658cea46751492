/**
 * How many bytes does the primary write to its transaction log for each byte that SQLite writes to the WAL, at full speed?
 *
 * Always holds: every file that appears in the log counts, also one that merges others. What SQLite writes to the WAL for a transaction is
 * known from the same program on a native twin whose WAL is never checkpointed.
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
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
  const meter = bench.use(new LogMeter(join(nodes.primary.data, "log", name)));
  const shares: number[] = [];
  const disk: number[] = [];
  const perFlush: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await meter.settle();
    const before = { bytes: meter.bytes, files: meter.files, written: writtenBy(nodes.primary.processes().engine) };
    const { done } = await load.work({ ms: roundMs * 2 });
    await nodes.inStep(name);
    await meter.settle();
    shares.push((meter.bytes - before.bytes) / (done * walBytesEach));
    disk.push((writtenBy(nodes.primary.processes().engine) - before.written) / (done * walBytesEach));
    perFlush.push(done / Math.max(1, meter.files - before.files));
  }
  return [{
    id: "log-bytes", mount: spreadOf(shares), score: spreadOf(shares),
    notes: [
      `${Math.round(walBytesEach)} bytes of WAL and ${(1 / spreadOf(perFlush).median).toPrecision(2)} log files for each transaction`,
      `all that the engine wrote to files (log, page checksums, state), in whole pages: ${spreadOf(disk).median.toPrecision(2)} for each WAL byte`,
    ],
  }];
}

/** Bytes that a process has written to files, in whole pages; sockets do not count. */
function writtenBy(pid: number): number {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))![1]);
}

/** Adds up the sizes of all files that appear in a folder, by looking again and again. */
class LogMeter {
  bytes = 0;
  files = 0;
  readonly #folder: string;
  readonly #seen = new Set<string>();
  #running = true;

  constructor(folder: string) {
    this.#folder = folder;
    void this.#watch();
  }

  async #watch(): Promise<void> {
    while (this.#running) {
      await this.#look();
      // Files live at least until 64 of them are merged, which takes longer.
      await sleep(20);
    }
  }

  async #look(): Promise<void> {
    for (const file of await readdir(this.#folder)) {
      if (!file.endsWith(".ltx") || this.#seen.has(file)) continue;
      this.#seen.add(file);
      const size = await stat(join(this.#folder, file)).then((info) => info.size, () => 0);
      this.bytes += size;
      this.files++;
    }
  }

  /** Everything that is there now has been counted. */
  async settle(): Promise<void> {
    await this.#look();
  }

  dispose(): void {
    this.#running = false;
  }
}
