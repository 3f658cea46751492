/**
 * How fast are point reads of a database that does not fit into SQLite's cache, right after it was opened?
 *
 * Always holds: each turn opens the database anew, so that its WAL is empty: the state in which SQLite asks for the file's size in every read
 * transaction. The native copy is byte for byte the primary's file. All three files are in the page cache.
 */
import { mkdirSync, readFileSync } from "node:fs";
import Database from "better-sqlite3";
import { Load } from "./loader.ts";
import { Nodes } from "./nodes.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { makeDatabase } from "./source.ts";
import { importInto } from "./big.ts";
import { ratios, spreadOf } from "./statistics.ts";

export const READ_QUESTION: Question = { rows: ["reads-primary", "reads-follower"], run: measure };

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  const { rounds, roundMs, readDatabaseMiB } = bench.effort;
  const nodes = bench.use(await Nodes.make(bench.folder, bench.driver));
  await nodes.primary.start(bench.driver);
  mkdirSync(bench.path("native"));
  const name = "bench.db";
  const native = bench.path("native", name);
  const rows = makeDatabase(native, readDatabaseMiB);
  await importInto(nodes.primary, name, native);
  await nodes.follower.start(bench.driver);
  await nodes.inStep(name);
  const paths = [native, nodes.primary.path(name), nodes.follower.path(name)];
  for (const node of [nodes.primary, nodes.follower]) {
    if (!readFileSync(node.path(name)).equals(readFileSync(native))) throw new Error(`the file on the ${node.name} differs`);
  }
  const loads: Load[] = [];
  for (const path of paths) loads.push(bench.use(await Load.open([{ path, work: "read", seed: 1, rows }])));
  for (const load of loads) await load.rate(roundMs / 4);
  const values: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    for (const [i, load] of loads.entries()) values[i]!.push(await load.rate(roundMs / 2));
  }
  const cache = cacheOf(bench);
  return (["reads-primary", "reads-follower"] as const).map((id, i) => ({
    id, native: spreadOf(values[0]), mount: spreadOf(values[i + 1]!), score: spreadOf(ratios(values[i + 1]!, values[0])),
    notes: i === 0 ? [`database of ${readDatabaseMiB} MiB, SQLite's cache ${cache} MiB`] : [],
  }));
}

/** What a connection caches by default, in MiB. */
function cacheOf(bench: Bench): number {
  const path = bench.path("native", "cache.db");
  const db = new Database(path);
  const size = db.pragma("cache_size", { simple: true }) as number;
  db.close();
  return Math.round(size < 0 ? -size / 1024 : (size * 4096) / 2 ** 20);
}
