/**
 * One run: a cluster, clients, a plan of faults, then rest, and the judgement of the history.
 *
 * `node test/faults/run.ts` (or `make chaos SEED=… MINUTES=… LEASE=… NODES=…`) runs plans until the time is over, each with a seed of its own,
 * and stops at the first that fails. Always holds: a failure leaves the history, the outputs of the nodes and the line that replays it.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { until } from "../support/cluster.ts";
import { bytesOf } from "../support/programs.ts";
import { seedOfRun } from "../support/random.ts";
import { checkHistory, type Violation } from "./checker.ts";
import { Clients } from "./clients.ts";
import { FaultCluster, type LeaseKind } from "./cluster.ts";
import { History, type FinalState } from "./history.ts";
import { leaseKind } from "./leases.ts";
import { whyNoNetwork } from "./network.ts";
import { DATABASES } from "./node.ts";
import { describeFault, planFaults } from "./plan.ts";

export interface RunOptions {
  readonly seed: number;
  readonly nodes: readonly string[];
  readonly count: number;
  readonly lease: LeaseKind;
  readonly ttlMs: number;
  readonly restMs: number;
  /** Further YAML for each node. */
  readonly more?: string;
  readonly say: (line: string) => void;
}

export interface RunResult {
  readonly violations: readonly Violation[];
  readonly faults: number;
  readonly acknowledged: number;
  readonly unknown: number;
  /** Acknowledged without a cookie. */
  readonly unmarked: number;
  readonly reads: number;
  /** What clients were told when a request was no success, and how often. */
  readonly notes: readonly (readonly [string, number])[];
  /** Where a failed run has left what it knows. */
  readonly evidence?: string;
}

export async function runFaults(options: RunOptions): Promise<RunResult> {
  const { seed, say } = options;
  const names = options.nodes;
  const databases = Object.values(DATABASES);
  const plan = planFaults({ seed, nodes: names, count: options.count, ttlMs: options.ttlMs, restMs: options.restMs, elections: options.lease.elections, store: options.lease.store !== undefined });
  const cluster = await FaultCluster.start({ nodes: names, lease: options.lease, ...(options.more === undefined ? {} : { more: options.more }) });
  const evidence = join("/tmp", `sluice-faults-${seed}-${process.pid}`);
  fs.mkdirSync(evidence, { recursive: true });
  const history = new History(join(evidence, "history.jsonl"));
  let failed = true;
  let clients: Clients | undefined;
  try {
    clients = new Clients({ seed, sessions: 4, databases, urls: () => cluster.nodes.map(({ name, proxyUrl }) => ({ name, url: proxyUrl })), history, timeoutMs: 15_000, thinkMs: 25 });
    const acknowledged = (from: number): boolean => databases.every((db) => history.records.slice(from).some((record) => record.db === db && record.op === "write" && record.outcome === "ok"));
    await until("the first acknowledged write to each database", () => acknowledged(0));
    let ending = Promise.resolve();
    for (const [index, step] of plan.entries()) {
      say(`${(clients.now() / 1_000).toFixed(1).padStart(6)} s  fault ${index + 1}/${plan.length}  ${describeFault(step)}`);
      const before = ending;
      const end = await cluster.apply(step);
      ending = sleep("ms" in step ? step.ms : 0).then(end);
      if (!step.overlaps) await Promise.all([before, ending]);
      else ending = Promise.all([before, ending]).then(() => undefined);
      await sleep(step.restMs);
    }
    await ending;
    cluster.network.healAll();
    for (const node of cluster.nodes) {
      node.signal("all", "SIGCONT");
      node.disk.empty();
      await node.delay(0);
    }
    for (const node of cluster.nodes) await node.ready();
    // Somebody must still be able to write after all this.
    const mended = history.records.length;
    await until("writes that are acknowledged after the last fault", () => acknowledged(mended), 90_000);
    await clients.stop();
    const violations: Violation[] = [];
    for (const [durability, db] of Object.entries(DATABASES)) {
      const final = await atRest(cluster, db);
      const found = checkHistory(history.records.filter((record) => record.db === db), final, { losses: options.lease.elections && durability === "async" ? "listed" : "none" });
      violations.push(...found.map(({ rule, text }) => ({ rule, text: `${db}: ${text}` })));
    }
    failed = violations.length > 0;
    const writes = history.records.filter(({ op }) => op === "write");
    return {
      violations, faults: plan.length, acknowledged: writes.filter(({ outcome }) => outcome === "ok").length, unknown: writes.filter(({ outcome }) => outcome === "unknown").length,
      unmarked: writes.filter((record) => record.op === "write" && record.marked === false).length,
      reads: history.records.filter(({ op, outcome }) => op === "read" && outcome === "ok").length,
      notes: countNotes(history), ...(failed ? { evidence } : {}),
    };
  } finally {
    if (failed) {
      for (const node of cluster.nodes) {
        fs.writeFileSync(join(evidence, `${node.name}.log`), node.output);
        fs.writeFileSync(join(evidence, `${node.name}.status.json`), JSON.stringify(await node.status(), undefined, 1) ?? "no answer");
      }
      say(`What is known lies in ${evidence}`);
      say(`Again: ${replayLine(options)}`);
    }
    await clients?.stop();
    await cluster.dispose();
    if (!failed) fs.rmSync(evidence, { recursive: true, force: true });
  }
}

/** Numbers are left out, so that like notes are one. */
function countNotes(history: History): [string, number][] {
  const counts = new Map<string, number>();
  for (const { op, note } of history.records) {
    if (note === undefined) continue;
    const text = `${op}: ${note.replace(/\d{4,}|[0-9a-f]{12,}/g, "…").slice(0, 160)}`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

export function replayLine(options: Pick<RunOptions, "seed" | "nodes" | "lease" | "count">): string {
  return `make chaos SEED=${options.seed} FAULTS=${options.count} NODES=${options.nodes.length} LEASE=${options.lease.type}`;
}

/** Waits until all nodes are at one position of a database, and reads what is there. */
async function atRest(cluster: FaultCluster, database: string): Promise<FinalState> {
  const positions = (): Promise<string[]> => Promise.all(cluster.nodes.map(async (node) => {
    // Reading the position on the primary captures first.
    const position = await fs.promises.readFile(join(node.mount, `${database}-pos`), "latin1").catch((error: Error) => error.message);
    return position.trim();
  }));
  let last: string[] = [];
  await until(`all nodes to be at one position of ${database}`, async () => {
    last = await positions();
    return last.every((position) => position === last[0]) && /^[0-9a-f]{16}\//.test(last[0]!);
  }, 120_000).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}: ${cluster.nodes.map(({ name }, index) => `${name} ${last[index]}`).join(", ")}`);
  });
  const nodes = cluster.nodes.map((node, index) => ({ name: node.name, position: last[index]!, digest: createHash("sha256").update(bytesOf(join(node.mount, database))).digest("hex") }));
  const db = new Database(join(cluster.nodes[0]!.mount, database), { readonly: true, timeout: 20_000 });
  try {
    const integrity = db.pragma("integrity_check", { simple: true });
    if (integrity !== "ok") throw new Error(`integrity_check: ${String(integrity)}`);
    const entries: Record<string, number[]> = {};
    for (const { client, n } of db.prepare("SELECT client, n FROM entry ORDER BY client, n").all() as { client: string; n: number }[]) (entries[client] ??= []).push(n);
    return { nodes, entries, diverged: await cluster.lease.diverged?.(cluster, database) ?? {} };
  } finally {
    db.close();
  }
}

/** `make chaos`. */
async function main(): Promise<number> {
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const reason = whyNoNetwork();
  if (reason !== false) {
    say(reason);
    return 1;
  }
  const lease = leaseKind(process.env["LEASE"] ?? "static");
  const minutes = Number(process.env["MINUTES"] ?? 0);
  const count = Number(process.env["FAULTS"] ?? 40);
  const nodes = ["a", "b", "c", "d", "e"].slice(0, Number(process.env["NODES"] ?? 3));
  const end = performance.now() + minutes * 60_000;
  let faults = 0;
  for (let seed = seedOfRun(), runs = 1; ; seed++, runs++) {
    say(`\nRun ${runs}: seed ${seed}, ${nodes.length} nodes, lease ${lease.type}`);
    const result = await runFaults({ seed, nodes, count, lease, ttlMs: 2_000, restMs: 1_500, say });
    faults += result.faults;
    say(`${result.acknowledged} writes acknowledged, ${result.unmarked} of them without a cookie, ${result.unknown} unknown, ${result.reads} reads, ${result.violations.length} violations; ${faults} faults so far`);
    for (const [note, times] of result.notes.slice(0, 8)) say(`  ${String(times).padStart(5)} × ${note}`);
    for (const { rule, text } of result.violations.slice(0, 50)) say(`  ${rule}: ${text}`);
    if (result.violations.length > 0) return 1;
    if (performance.now() >= end) return 0;
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) process.exit(await main());
