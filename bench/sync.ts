/**
 * What durability sync costs: the time of a commit that waits for a follower, over the bare gRPC round trip on this machine.
 *
 * Always holds: commits and round trips are measured in turns, so that both meet the same machine; the score is the difference of their medians.
 * The notes record writes a second, and reads of pages in the WAL beside those of a database without it.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import Database from "better-sqlite3";
import { CHANNEL_OPTIONS } from "../proto/grpc.ts";
import { ECHO } from "./echo.ts";
import { Load, monotonicMs } from "./loader.ts";
import { Nodes } from "./nodes.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { Skip } from "./question.ts";
import { quantile, spreadOf } from "./statistics.ts";

export const SYNC_QUESTION: Question = { rows: ["sync-commit"], run: measure };

const SAMPLES = 400;
/** About what a small transaction takes on the wire. */
const MESSAGE_BYTES = 600;

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  if (bench.driver !== "passthrough") throw new Skip("durability sync needs the driver passthrough");
  const nodes = bench.use(await Nodes.make(bench.folder, bench.driver, 'databases: {"sync.db": {durability: sync, syncReplicas: 1, syncTimeout: 30s}}'));
  await nodes.start();
  const echo = await startEcho(bench);
  const db = new Database(nodes.primary.path("sync.db"));
  bench.use({ dispose: () => void db.close() });
  db.pragma("journal_mode = wal");
  db.pragma("synchronous = normal");
  db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
  const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(100))");
  const over: number[] = [];
  const commits: number[] = [];
  const trips: number[] = [];
  // Compiled code on both nodes, and on both sides of the bare round trip.
  for (const step of [echo, insert.run.bind(insert)]) {
    const untilMs = monotonicMs() + bench.effort.warmMs;
    while (monotonicMs() < untilMs) await step();
  }
  for (let round = 0; round < bench.effort.rounds; round++) {
    const trip: number[] = [];
    const commit: number[] = [];
    for (let i = 0; i < SAMPLES; i++) {
      const startedMs = monotonicMs();
      await echo();
      trip.push((monotonicMs() - startedMs) * 1_000);
    }
    for (let i = 0; i < SAMPLES; i++) {
      const startedMs = monotonicMs();
      insert.run();
      commit.push((monotonicMs() - startedMs) * 1_000);
    }
    trips.push(quantile(trip, 0.5));
    commits.push(quantile(commit, 0.5));
    over.push(quantile(commit, 0.5) - quantile(trip, 0.5));
  }
  await nodes.inStep("sync.db");
  const rates: number[] = [];
  for (const processes of [1, 10]) {
    const load = await Load.open(Array.from({ length: processes }, (_, i) => ({ path: nodes.primary.path("sync.db"), work: "insert" as const, seed: i + 1 })));
    try {
      rates.push(await load.rate(bench.effort.roundMs));
    } finally {
      load.dispose();
    }
  }
  const reads = ["sync.db", "async.db"].map((name) => walReads(nodes.primary.path(name)));
  return [{
    id: "sync-commit", mount: spreadOf(over), score: spreadOf(over),
    notes: [
      `commit ${spreadOf(commits).median.toFixed(0)} us, bare round trip ${spreadOf(trips).median.toFixed(0)} us (medians); in sync mode ${Math.round(rates[0]!)} writes/s with one writer, ${Math.round(rates[1]!)} with 10`,
      `reads of one page that lies in the WAL, with no cache: ${Math.round(reads[0]!)}/s in sync mode, ${Math.round(reads[1]!)}/s in async; other reads are the same`,
    ],
  }];
}

/** Point reads whose leaf page lies in the WAL and in no cache. */
function walReads(path: string): number {
  const db = new Database(path);
  try {
    db.pragma("journal_mode = wal");
    db.pragma("wal_autocheckpoint = 0");
    db.exec("CREATE TABLE IF NOT EXISTS w(id INTEGER PRIMARY KEY, body BLOB)");
    db.prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO w(body) SELECT randomblob(400) FROM n").run();
    db.pragma("cache_size = 1");
    const get = db.prepare("SELECT length(body) FROM w WHERE id = ?");
    const startedMs = monotonicMs();
    let done = 0;
    for (; monotonicMs() - startedMs < 500; done++) get.get(1 + ((done * 7919) % 2000));
    return (done * 1_000) / (monotonicMs() - startedMs);
  } finally {
    db.close();
  }
}

async function startEcho(bench: Bench): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, ["--no-warnings", fileURLToPath(new URL("./echo.ts", import.meta.url))], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const Client = grpc.makeGenericClientConstructor(ECHO, "Echo");
  const client = new Client(`127.0.0.1:${line.toString().trim()}`, grpc.credentials.createInsecure(), CHANNEL_OPTIONS) as unknown as grpc.Client & { echo(message: Buffer, done: (error: Error | null) => void): void };
  bench.use({
    dispose: () => {
      client.close();
      child.stdin.end();
    },
  });
  const message = Buffer.alloc(MESSAGE_BYTES, 1);
  return () => new Promise((resolve, reject) => client.echo(message, (error) => (error === null ? resolve() : reject(error))));
}
