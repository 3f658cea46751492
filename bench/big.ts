/**
 * A database of 1 GB: how fast does it come in, how fast does a new follower get it, and how much memory does a node need while it is written?
 *
 * Always holds: `cp` copies the same file on the same disk in the same round, from a warm page cache, without fsync; what an import and a first sync
 * read is as warm, and Sluice's own syncs are in its times. The first sync is the time from the start of a follower with an empty data folder until it is ready, less the time that the
 * same start takes with nothing to fetch.
 */
import { spawn } from "node:child_process";
import { mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { Load } from "./loader.ts";
import { Nodes, SLUICE, type BenchNode } from "./nodes.ts";
import { MemoryMeter } from "./memory.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { makeDatabase } from "./source.ts";
import { ratios, spreadOf } from "./statistics.ts";

export const BIG_QUESTION: Question = { rows: ["import", "first-sync", "memory"], run: measure };

const MEGABYTE = 1e6;
/** Times that `cp` runs in each round; its median counts. */
const COPIES = 3;

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  const { bigDatabaseMiB, bigRounds, roundMs } = bench.effort;
  const nodes = bench.use(await Nodes.make(bench.folder, bench.driver));
  await nodes.primary.start(bench.driver);
  mkdirSync(bench.path("native"));
  const source = bench.path("native", "source.db");
  makeDatabase(source, bigDatabaseMiB);
  const megabytes = statSync(source).size / MEGABYTE;
  await run("cat", [source]);
  const empty: number[] = [];
  for (let i = 0; i < 3; i++) {
    empty.push(await startFresh(nodes.follower, bench));
    await nodes.follower.stop();
  }

  const copies: number[] = [];
  const synced: number[] = [];
  const imports: number[] = [];
  const syncs: number[] = [];
  const copy = bench.path("native", "copy.db");
  let memory: MemoryMeter | undefined;
  let name = "";
  for (let round = 0; round < bigRounds; round++) {
    const copied: number[] = [];
    const flushed: number[] = [];
    for (let i = 0; i < COPIES; i++) {
      copied.push(await run("cp", [source, copy]));
      flushed.push(await run("sync", ["--data", copy]));
      rmSync(copy);
    }
    copies.push(megabytes / spreadOf(copied).median);
    synced.push(megabytes / spreadOf(copied.map((seconds, i) => seconds + flushed[i]!)).median);
    name = `big${round}.db`;
    imports.push(megabytes / (await importInto(nodes.primary, name, source)));
    if (round === 0) memory = bench.use(new MemoryMeter({ primary: () => nodes.primary.processes() }));
    // As warm as the file that cp copies: an import leaves nothing of it in the page cache.
    await run("cat", [join(nodes.primary.data, "files", name)]);
    const whole = await startFresh(nodes.follower, bench, async () => void (await nodes.inStep(name)));
    syncs.push(megabytes / (Math.max(1, whole - spreadOf(empty).median) / 1_000));
    if (round < bigRounds - 1) {
      await nodes.follower.stop();
      rmSync(nodes.primary.path(name));
    }
  }
  // The follower of the last round runs on: now the load.
  await memory!.stop();
  const duringSync = memory!.peak("primary");
  const meter = bench.use(new MemoryMeter({ primary: () => nodes.primary.processes(), follower: () => nodes.follower.processes() }));
  const load = bench.use(await Load.open([{ path: nodes.primary.path(name), work: "insert", seed: 1, journalMode: "wal" }]));
  await load.rate(roundMs * 8);
  await nodes.inStep(name);
  await meter.stop();
  const peak = spreadOf([Math.max(meter.peak("primary").total, meter.peak("follower").total)]);
  const each = (label: string, node: { guardian: number; engine: number; proxy: number; total: number }): string =>
    `${label}: ${Math.round(node.total)} MiB (guardian ${Math.round(node.guardian)}, engine ${Math.round(node.engine)}, proxy ${Math.round(node.proxy)})`;
  return [
    { id: "import", native: spreadOf(copies), mount: spreadOf(imports), score: spreadOf(ratios(imports, copies)), notes: [`${Math.round(megabytes)} MB by \`sluice import\` with its own start and its fsync; cp without. cp and fsync: ${Math.round(spreadOf(synced).median)} MB/s`] },
    { id: "first-sync", native: spreadOf(copies), mount: spreadOf(syncs), score: spreadOf(ratios(syncs, copies)), notes: [`less ${Math.round(spreadOf(empty).median)} ms that a follower with nothing to fetch takes to start`] },
    {
      id: "memory", mount: peak, score: peak,
      notes: [
        `${each("primary", meter.peak("primary"))}; ${each("follower", meter.peak("follower"))}; ${Math.round(megabytes)} MB of data, 1 writer at full speed`,
        `${each("primary while it sends a first sync", duringSync)}`,
        `counted as if the node were alone on the machine (every mapped file in full): primary ${Math.round(meter.alone("primary"))}, follower ${Math.round(meter.alone("follower"))} MiB`,
      ],
    },
  ];
}

/** `sluice import`, as an operator calls it. Resolves with the seconds that it took. */
export async function importInto(node: BenchNode, name: string, source: string): Promise<number> {
  return await run(SLUICE, ["import", "-c", node.config, "--name", name, source]);
}

/** Starts a follower whose data folder is empty; resolves with the ms until it is ready, and `then` has passed too. */
async function startFresh(node: BenchNode, bench: Bench, then?: () => Promise<void>): Promise<number> {
  rmSync(node.data, { recursive: true, force: true });
  const startedAt = performance.now();
  await node.start(bench.driver);
  await then?.();
  return performance.now() - startedAt;
}

/** Runs a program to its end; resolves with the seconds that it took. */
async function run(command: string, args: readonly string[]): Promise<number> {
  const startedAt = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const code = await new Promise<number | null>((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${code}: ${errors}`);
  return (performance.now() - startedAt) / 1_000;
}
