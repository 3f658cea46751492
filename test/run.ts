/**
 * Runs the tests: `node test/run.ts [TEXT]`, where TEXT selects the files whose path contains it.
 *
 * Always holds: unit tests run beside each other, the others one file at a time, because they mount, measure memory or fill two processors;
 * each file is a process with a time limit. Before and after, whatever a run has left behind is taken away, in case of our own run only after
 * it was reported. The last line is the count of what really ran; the exit code is 1 when anything failed or nothing ran.
 */
import { globSync, mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { cleanUp, MARK_VARIABLE, ownMark, rootOf } from "./support/leftovers.ts";
import { tally, type FileResult } from "./support/tally.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

interface Group {
  readonly pattern: string;
  readonly parallel: boolean;
  /** For each file. */
  readonly limitMs: number;
}

/** In the order in which they run: what is quick and explains most comes first. */
const GROUPS: readonly Group[] = [
  { pattern: "test/*.test.ts", parallel: true, limitMs: 120_000 },
  { pattern: "test/unit/**/*.test.ts", parallel: true, limitMs: 180_000 },
  { pattern: "test/fuzz/**/*.test.ts", parallel: true, limitMs: 300_000 },
  { pattern: "test/cli/**/*.test.ts", parallel: false, limitMs: 180_000 },
  { pattern: "test/mount/**/*.test.ts", parallel: false, limitMs: 300_000 },
  { pattern: "test/{proxy,proxy-fast}/**/*.test.ts", parallel: false, limitMs: 300_000 },
  { pattern: "test/smuggling/**/*.test.ts", parallel: false, limitMs: 900_000 },
  { pattern: "test/lease/**/*.test.ts", parallel: false, limitMs: 480_000 },
  { pattern: "test/cluster/**/*.test.ts", parallel: false, limitMs: 480_000 },
  { pattern: "test/roles/**/*.test.ts", parallel: false, limitMs: 480_000 },
  { pattern: "test/sync/**/*.test.ts", parallel: false, limitMs: 480_000 },
  { pattern: "test/recovery/**/*.test.ts", parallel: false, limitMs: 480_000 },
  { pattern: "test/faults/**/*.test.ts", parallel: false, limitMs: 600_000 },
];

async function main(): Promise<number> {
  for (const line of await cleanUp("orphans")) say(`Left by an earlier run: ${line}`);
  if (process.argv[2] === "--clean-up") return 0;

  const only = process.argv[2] ?? "";
  const all = globSync("test/**/*.test.ts", { cwd: ROOT });
  const groups = GROUPS.map((group) => ({ ...group, files: globSync(group.pattern, { cwd: ROOT }).sort() }));
  const lost = all.filter((file) => !groups.some((group) => group.files.includes(file)));
  if (lost.length > 0) return complain(`These tests are in no group of test/run.ts: ${lost.join(", ")}`);
  const chosen = groups.map((group) => ({ ...group, files: group.files.filter((file) => file.includes(only)) }));
  if (chosen.every((group) => group.files.length === 0)) return complain(`No test file has "${only}" in its path`);

  const mark = ownMark();
  mkdirSync(rootOf(mark), { mode: 0o755 });
  process.env[MARK_VARIABLE] = mark;
  process.env["TMPDIR"] = rootOf(mark);
  // A terminal that is closed or interrupted must not leave mounts behind either.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => void cleanUp({ mark }).finally(() => process.exit(130)));

  const results = new Map<string, FileResult>();
  for (const group of chosen) {
    const queue = [...group.files];
    const worker = async (): Promise<void> => {
      for (let file = queue.shift(); file !== undefined; file = queue.shift()) results.set(file, await runFile(file, group.limitMs));
    };
    await Promise.all(Array.from({ length: group.parallel ? availableParallelism() : 1 }, worker));
  }
  for (const line of await cleanUp({ mark })) say(`Left by a test: ${line}`);
  return report(results);
}

async function runFile(file: string, limitMs: number): Promise<FileResult> {
  const startedAt = performance.now();
  const path = join(ROOT, file);
  const result = await tally(run({ files: [path], concurrency: 1, timeout: limitMs, cwd: ROOT }), path);
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  const counts = `${result.passed} passed${result.failures.length > 0 ? `, ${result.failures.length} FAILED` : ""}${result.skipped > 0 ? `, ${result.skipped} skipped` : ""}`;
  say(`${result.failures.length > 0 ? "✖" : "✔"} ${file}  ${counts}  (${seconds} s)`);
  for (const { name } of result.failures) say(indent(`✖ ${name}`));
  return result;
}

function report(results: ReadonlyMap<string, FileResult>): number {
  const all = [...results];
  const sum = (count: (result: FileResult) => number): number => all.reduce((total, [, result]) => total + count(result), 0);
  const skips = all.flatMap(([file, result]) => result.skips.map((skip) => `  ${file}: ${skip}`));
  if (skips.length > 0) say(`\nSkipped:\n${skips.join("\n")}`);
  const broken = all.filter(([, result]) => result.failures.length > 0);
  if (broken.length > 0) {
    say("\nFailed:");
    for (const [file, result] of broken) {
      for (const { name, text } of result.failures) say(`\n${file}: ${name}\n${indent(text)}`);
      if (result.output.trim() !== "") say(`\nThe end of what ${file} has printed:\n${indent(result.output.trimEnd().split("\n").slice(-40).join("\n"))}`);
      say(`\nAgain: make test ONLY=${relative("test", file)}`);
    }
  }
  const failed = sum((result) => result.failures.length);
  const passed = sum((result) => result.passed);
  say(`\n${passed} passed, ${failed} failed, ${sum((result) => result.skipped)} skipped`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

function indent(text: string): string {
  return text.replace(/^/gm, "    ");
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): number {
  process.stderr.write(`${text}\n`);
  return 1;
}

process.exit(await main());
