/**
 * `make bench`: measures a node against native SQLite and prints the table of targets.
 *
 *   node bench/run.ts [--quick] [--only=insert,reads] [--driver=passthrough|fuse-native|both] [--dir=FOLDER]
 *
 * --quick takes some four minutes and leaves the second driver out; --only takes parts of row names; --dir is the disk that is measured.
 *
 * Always holds: every question gets fresh nodes in an empty folder and everything is taken down after it; the run goes on when one question
 * fails. Results are written to bench/results/ as JSON and SVG. The exit code is 1 when a question failed or nothing was measured; a row that
 * falls short is a result, not a failure.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { drawChart } from "./chart.ts";
import { BIG_QUESTION } from "./big.ts";
import { FAILOVER_QUESTION } from "./failover.ts";
import { LATENCY_QUESTION } from "./latency.ts";
import { LOG_QUESTION } from "./log-bytes.ts";
import { PROXY_QUESTION } from "./proxy.ts";
import { Bench, Skip, Unavailable, type Effort, type Question } from "./question.ts";
import { READ_QUESTION } from "./reads.ts";
import { formatMachine, formatTable, type Machine, type RowResult, type Run } from "./report.ts";
import { SYNC_QUESTION } from "./sync.ts";
import { TARGETS, formatScore, verdictOf } from "./targets.ts";
import { WRITE_QUESTIONS } from "./writes.ts";

const RESULTS = fileURLToPath(new URL("./results/", import.meta.url));

/** About four minutes, and about twenty, on two cores. */
const EFFORTS = {
  quick: { rounds: 4, roundMs: 700, warmMs: 2_000, readDatabaseMiB: 64, bigDatabaseMiB: 256, bigRounds: 1, latencyMs: 3_000, latencyRounds: 2 },
  full: { rounds: 11, roundMs: 1_500, warmMs: 6_000, readDatabaseMiB: 256, bigDatabaseMiB: 1024, bigRounds: 3, latencyMs: 10_000, latencyRounds: 4 },
} as const satisfies Record<string, Effort>;

const QUESTIONS: readonly Question[] = [...WRITE_QUESTIONS, READ_QUESTION, LATENCY_QUESTION, SYNC_QUESTION, LOG_QUESTION, BIG_QUESTION, FAILOVER_QUESTION, PROXY_QUESTION];

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({ options: {
    quick: { type: "boolean", default: false }, only: { type: "string", default: "" }, driver: { type: "string" }, dir: { type: "string", default: tmpdir() },
  } });
  const only = values.only.split(",").filter(Boolean);
  const chosen = QUESTIONS.filter((question) => only.length === 0 || question.rows.some((row) => only.some((part) => row.includes(part))));
  if (chosen.length === 0) {
    say(`There is no row like "${values.only}". Rows: ${Object.keys(TARGETS).join(", ")}`);
    return 1;
  }
  const mode = values.quick ? "quick" : "full";
  const wanted = values.driver ?? (values.quick ? "passthrough" : "both");
  const drivers = (["passthrough", "fuse-native"] as const).filter((driver) => wanted === "both" || wanted === driver);
  if (drivers.length === 0) {
    say(`There is no driver "${wanted}": passthrough, fuse-native or both`);
    return 1;
  }
  let failed = false;
  for (const driver of drivers) {
    // The second driver is there for the record only: it does not get the long run.
    const effort = driver === "fuse-native" ? EFFORTS.quick : EFFORTS[mode];
    const run = await measure(chosen, effort, driver === "fuse-native" ? "quick" : mode, driver, values.dir);
    failed ||= run.failed;
    say(`\n${formatMachine(run)}\n\n${formatTable(run.rows)}\n`);
    if (run.rows.some((row) => !("skipped" in row))) write(run);
    else if (driver === "passthrough") failed = true;
  }
  return failed ? 1 : 0;
}

async function measure(questions: readonly Question[], effort: Effort, mode: string, driver: Bench["driver"], dir: string): Promise<Run & { failed: boolean }> {
  const machine = describeMachine(dir);
  const rows: RowResult[] = [];
  let failed = false;
  let unavailable: string | undefined;
  for (const question of questions) {
    const skip = (reason: string): void => {
      for (const id of question.rows) rows.push({ id, skipped: reason });
    };
    if (unavailable !== undefined) {
      skip(unavailable);
      continue;
    }
    const bench = new Bench({ folder: mkdtempSync(join(dir, "sluice-bench-")), effort, driver, say });
    takeDown = async () => {
      await bench.dispose();
      rmSync(bench.folder, { recursive: true, force: true });
    };
    const startedAt = performance.now();
    try {
      const outcomes = await question.run(bench);
      rows.push(...outcomes);
      for (const { id, score } of outcomes) say(`${TARGETS[id].measure}: ${formatScore(id, score.median)}, ${verdictOf(id, score.median)}`);
    } catch (error) {
      if (error instanceof Skip) {
        skip(error.message);
        say(`SKIPPED with driver ${driver}: ${question.rows.join(", ")}: ${error.message}`);
        if (driver === "passthrough") failed = true;
        else if (error instanceof Unavailable) unavailable = error.message;
      } else {
        failed = true;
        skip(`failed: ${error instanceof Error ? error.message : String(error)}`);
        say(`FAILED: ${question.rows.join(", ")}: ${error instanceof Error ? error.stack : String(error)}`);
      }
    } finally {
      await takeDown();
      say(`(${question.rows[0]}: ${Math.round((performance.now() - startedAt) / 1_000)} s)`);
    }
  }
  machine.loadAverage[1] = loadavg()[0]!;
  return { mode, driver, machine, rows, failed };
}

let takeDown: () => Promise<void> = async () => undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => void takeDown().finally(() => process.exit(130)));

function write(run: Run): void {
  mkdirSync(RESULTS, { recursive: true });
  const stem = join(RESULTS, `${run.machine.date.replace(/[:.]/g, "-")}-${run.mode}-${run.driver}`);
  writeFileSync(`${stem}.json`, `${JSON.stringify({ targets: TARGETS, ...run }, undefined, 1)}\n`);
  writeFileSync(`${stem}.svg`, drawChart(run));
  say(`Written: ${stem}.json and .svg`);
}

function describeMachine(dir: string): Machine {
  const git = spawnSync("git", ["describe", "--always", "--dirty"], { cwd: fileURLToPath(new URL(".", import.meta.url)), encoding: "utf8" });
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n").map((line) => line.split(" "));
  const at = mounts.filter(([, point]) => point !== undefined && (point === "/" || dir === point || dir.startsWith(`${point}/`))).sort((a, b) => b[1]!.length - a[1]!.length)[0];
  return {
    date: new Date().toISOString(), commit: git.status === 0 ? git.stdout.trim() : "unknown", cpu: cpus()[0]?.model.trim() ?? "unknown", cpus: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30), kernel: release(), node: process.version, fileSystem: at?.[2] ?? "unknown", loadAverage: [loadavg()[0]!, 0],
  };
}

process.exitCode = await main();
