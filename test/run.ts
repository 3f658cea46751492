/**
 * Runs the tests: `node test/run.ts [TEXT]`, where TEXT selects the files whose path contains it.
 *
 * Always holds: the files of a group run beside each other in its lanes, in the order given; groups run one after the other. Each file is a
 * process with a time limit. Before and after, whatever a run has left behind is taken away, in case of our own run only after it was reported.
 * The last line is the count of what really ran; the exit code is 1 when anything failed or nothing ran. The lines before it say in brief what
 * failed, so the end of the output is enough to know.
 */
import { spawnSync } from "node:child_process";
import { globSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { cleanUp, MARK_VARIABLE, ownMark, rootOf } from "./support/leftovers.ts";
import { PORTS_VARIABLE } from "./support/ports.ts";
import { inBrief, tally, type FileResult } from "./support/tally.ts";

const SLOWEST_SHOWN = 10;
const FAILURES_IN_BRIEF = 15;
const ROOT = fileURLToPath(new URL("..", import.meta.url));

interface Files {
  readonly pattern: string;
  /** For each file. */
  readonly limitMs: number;
}

interface Group {
  /** In the order in which they begin; a file belongs to the first that names it, so long files stand before the folder that they are in. */
  readonly files: readonly Files[];
  readonly lanes: number;
  /** Temporary files are in memory: for tests whose facts are the same on any disk, however slow it syncs. */
  readonly inMemory: boolean;
}

const PROCESSORS = availableParallelism();

/** In the order in which they run: what is quick and explains most comes first, and of the rest what takes longest. A new folder of tests is one line. */
const GROUPS: readonly Group[] = [
  {
    lanes: PROCESSORS, inMemory: true, files: [
      { pattern: "test/*.test.ts", limitMs: 120_000 },
      { pattern: "test/unit/ltx/reference.test.ts", limitMs: 300_000 },
      { pattern: "test/unit/**/*.test.ts", limitMs: 180_000 },
      { pattern: "test/fuzz/**/*.test.ts", limitMs: 300_000 },
      // Mostly waits for leases to end, so it comes beside what needs a processor.
      { pattern: "test/lease/**/*.test.ts", limitMs: 480_000 },
      { pattern: "test/recovery/**/*.test.ts", limitMs: 480_000 },
    ],
  },
  {
    lanes: PROCESSORS, inMemory: false, files: [
      { pattern: "test/{proxy/express-life,cluster/native-primary}.test.ts", limitMs: 480_000 },
      { pattern: "test/cluster/{log,primary,native-store}.test.ts", limitMs: 480_000 },
      { pattern: "test/cluster/{follower,chain}.test.ts", limitMs: 480_000 },
      { pattern: "test/smuggling/**/*.test.ts", limitMs: 900_000 },
      { pattern: "test/{proxy,proxy-fast}/**/*.test.ts", limitMs: 300_000 },
      { pattern: "test/cli/**/*.test.ts", limitMs: 300_000 },
      { pattern: "test/mount/**/*.test.ts", limitMs: 300_000 },
    ],
  },
  {
    // They kill whole nodes.
    lanes: PROCESSORS, inMemory: false, files: [
      { pattern: "test/faults/**/*.test.ts", limitMs: 600_000 },
      { pattern: "test/cluster/{bad-input,diverged,restart}.test.ts", limitMs: 480_000 },
      { pattern: "test/cluster/**/*.test.ts", limitMs: 480_000 },
      { pattern: "test/sync/**/*.test.ts", limitMs: 480_000 },
      { pattern: "test/roles/**/*.test.ts", limitMs: 480_000 },
    ],
  },
];

interface TestFile {
  readonly path: string;
  readonly limitMs: number;
}

/** Those of a group that no earlier line has taken; `taken` grows. */
function filesOf(group: Group, taken: Set<string>): TestFile[] {
  return group.files.flatMap(({ pattern, limitMs }) => globSync(pattern, { cwd: ROOT }).sort().filter((path) => !taken.has(path)).map((path) => {
    taken.add(path);
    return { path, limitMs };
  }));
}

async function main(): Promise<number> {
  for (const line of await cleanUp("orphans")) say(`Left by an earlier run: ${line}`);
  if (process.argv[2] === "--clean-up") return 0;

  const startedAt = performance.now();
  const only = process.argv[2] ?? "";
  const all = globSync("test/**/*.test.ts", { cwd: ROOT });
  const taken = new Set<string>();
  const groups = GROUPS.map((group) => ({ ...group, queue: filesOf(group, taken) }));
  const lost = all.filter((file) => !taken.has(file));
  if (lost.length > 0) return complain(`These tests are in no group of test/run.ts: ${lost.join(", ")}`);
  const chosen = groups.map((group) => ({ ...group, queue: group.queue.filter(({ path }) => path.includes(only)) }));
  if (chosen.every(({ queue }) => queue.length === 0)) return complain(`No test file has "${only}" in its path`);

  const mark = ownMark();
  const root = rootOf(mark);
  mkdirSync(root, { mode: 0o755 });
  process.env[MARK_VARIABLE] = mark;
  process.env[PORTS_VARIABLE] = join(root, "ports");
  // A terminal that is closed or interrupted must not leave mounts behind either.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => void cleanUp({ mark }).finally(() => process.exit(130)));

  const memory = mountMemory(join(root, "memory"));
  const results = new Map<string, FileResult>();
  for (const { queue, lanes, inMemory } of chosen) {
    process.env["TMPDIR"] = inMemory ? memory ?? root : root;
    const lane = async (): Promise<void> => {
      for (let file = queue.shift(); file !== undefined; file = queue.shift()) results.set(file.path, await runFile(file));
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  }
  if (memory !== undefined) spawnSync("umount", ["-l", memory]);
  for (const line of await cleanUp({ mark })) say(`Left by a test: ${line}`);
  return report(results, performance.now() - startedAt);
}

/** A file system in memory; undefined where that is not allowed. The clean-up knows it by its path. */
function mountMemory(path: string): string | undefined {
  mkdirSync(path);
  return spawnSync("mount", ["-t", "tmpfs", "-o", "mode=0755", "tmpfs", path]).status === 0 ? path : undefined;
}

async function runFile({ path: file, limitMs }: TestFile): Promise<FileResult> {
  const startedAt = performance.now();
  const path = join(ROOT, file);
  // Each test in it has that limit; so has the file as a whole, with all that it has started.
  const timer = setTimeout(() => {
    say(`✖ ${file} takes longer than ${seconds(limitMs)}; it is ended`);
    endWithAll(path);
  }, limitMs);
  const result = await tally(run({ files: [path], concurrency: 1, timeout: limitMs, cwd: ROOT }), path);
  clearTimeout(timer);
  result.ms = performance.now() - startedAt;
  const counts = `${result.passed} passed${result.failures.length > 0 ? `, ${result.failures.length} FAILED` : ""}${result.skipped > 0 ? `, ${result.skipped} skipped` : ""}`;
  say(`${result.failures.length > 0 ? "✖" : "✔"} ${file}  ${counts}  (${seconds(result.ms)})`);
  for (const { name } of result.failures) say(indent(`✖ ${name}`));
  return result;
}

/** Ends the process that runs this test file, with all that descends from it: what it has started may hold its output open. */
function endWithAll(path: string): void {
  const processes = readdirSync("/proc").filter((id) => /^\d+$/.test(id)).flatMap((id) => {
    try {
      const stat = readFileSync(`/proc/${id}/stat`, "latin1");
      return [{ pid: Number(id), parent: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]), command: readFileSync(`/proc/${id}/cmdline`, "latin1") }];
    } catch {
      return []; // It has ended meanwhile.
    }
  });
  const ending = processes.filter(({ parent, command }) => parent === process.pid && command.includes(path)).map(({ pid }) => pid);
  for (const pid of ending) for (const child of processes) if (child.parent === pid) ending.push(child.pid);
  for (const pid of ending) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Where the time went: whoever adds a test sees what it costs. */
function sayTimes(results: readonly (readonly [string, FileResult])[], totalMs: number): void {
  const slowest = results.toSorted(([, one], [, other]) => other.ms - one.ms).slice(0, SLOWEST_SHOWN);
  say("\nThe slowest files, with their longest test:");
  for (const [file, { ms, durations }] of slowest) {
    const longest = durations.toSorted((one, other) => other.ms - one.ms)[0];
    say(`${seconds(ms).padStart(10)}  ${file}${longest === undefined ? "" : `  (${seconds(longest.ms)}: ${longest.name.slice(0, 90)})`}`);
  }
  say(`${seconds(totalMs).padStart(10)}  altogether, on ${PROCESSORS} processors`);
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

function report(results: ReadonlyMap<string, FileResult>, totalMs: number): number {
  const all = [...results];
  const sum = (count: (result: FileResult) => number): number => all.reduce((total, [, result]) => total + count(result), 0);
  const skips = all.flatMap(([file, result]) => result.skips.map((skip) => `  ${file}: ${skip}`));
  if (skips.length > 0) say(`\nSkipped:\n${skips.join("\n")}`);
  sayTimes(all, totalMs);
  const broken = all.filter(([, result]) => result.failures.length > 0);
  if (broken.length > 0) {
    say("\nFailed:");
    for (const [file, result] of broken) {
      for (const { name, text } of result.failures) say(`\n${file}: ${name}\n${indent(text)}`);
      if (result.output.trim() !== "") say(`\nThe end of what ${file} has printed:\n${indent(result.output.trimEnd().split("\n").slice(-40).join("\n"))}`);
      say(`\nAgain: make test ONLY=${relative("test", file)}`);
    }
    const brief = broken.flatMap(([file, result]) => result.failures.map((failure) => `✖ ${relative("test", file)}: ${inBrief(failure)}`));
    say(`\nIn brief${brief.length > FAILURES_IN_BRIEF ? `, ${FAILURES_IN_BRIEF} of ${brief.length}` : ""}:\n${brief.slice(0, FAILURES_IN_BRIEF).join("\n")}`);
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
