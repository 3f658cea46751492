/**
 * How long can nobody write, when the primary is killed, stopped, or hands its lease over; and when its engine is killed?
 *
 * Always holds: real nodes with a lease in a shared file (ttl 1 s), a program on each that keeps one SQLite connection open and tries to insert without a busy
 * timeout, all the time. A gap is the time from the last insert that the old primary took, or from the kill, to the first that another one took.
 * Rows that were acknowledged before a planned change are all there afterwards, or the question fails.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { TestCluster, sluice, until, type TestNode } from "../test/support/cluster.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { Skip } from "./question.ts";
import { spreadOf } from "./statistics.ts";

export const FAILOVER_QUESTION: Question = { rows: ["failover-kill", "failover-stop", "handoff-gap", "engine-restart"], run: measure };

export const FAILOVER_TTL_MS = 1_000;
const WRITER = fileURLToPath(new URL("./failover-writer.ts", import.meta.url));

/** A writer on one node; times are ms of the machine's monotonic clock. */
class Writer {
  readonly node: TestNode;
  readonly #child: ChildProcess;
  /** Of each insert that was taken: when, and the number of its row. */
  readonly done: { readonly at: number; readonly id: number }[] = [];
  slowestMs = 0;

  constructor(node: TestNode) {
    this.node = node;
    this.#child = spawn(process.execPath, [WRITER, node.path("app.db"), node.name], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child.on("message", (message: { at: number; tookMs: number; id: number }) => {
      this.done.push(message);
      this.slowestMs = Math.max(this.slowestMs, message.tookMs);
    });
  }

  async end(): Promise<number> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.done.length;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.send("end");
    if ((await Promise.race([gone, sleep(10_000, "late", { ref: false })])) === "late") {
      this.#child.kill("SIGKILL");
      await gone;
    }
    return this.done.length;
  }
}

const now = (): number => Number(process.hrtime.bigint()) / 1e6;

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  if (bench.driver !== "passthrough") throw new Skip("applications lose their files when a fuse-native node is killed");
  const rounds = bench.effort.rounds > 5 ? 20 : 4;
  const cluster = await TestCluster.start(["a", "b"], `lease: {type: local, ttl: ${FAILOVER_TTL_MS / 1_000}s, local: {path: $FOLDER/lease.db}}`);
  bench.use(cluster);
  const { nodes } = cluster;
  const primary = (except?: TestNode): Promise<TestNode> => until("a primary", async () => {
    for (const node of nodes) if (node !== except && (await node.status())?.roleState === "primary") return node;
    return undefined;
  });
  let old = await primary();
  const { code, output } = await makeTable(old);
  if (code !== 0) throw new Error(output);
  await until("both to have the table", async () => (await Promise.all(nodes.map((node) => node.status()))).every((status) => (status?.databases.length ?? 0) === 1));

  /** Both write; `change` ends the reign of the old primary and answers when it did so, if that is when the gap begins. */
  const gap = async (change: (old: TestNode, writers: readonly Writer[]) => Promise<number | undefined>, restart: boolean): Promise<number> => {
    old = await primary();
    const next = nodes.find((node) => node !== old)!;
    await until("both to be ready", async () => (await Promise.all(nodes.map((node) => node.status()))).every((status) => status?.ready === true));
    const [from, to] = [new Writer(old), new Writer(next)];
    try {
      await until("the old primary to take inserts", () => from.done.length > 20);
      const begun = await change(old, [from, to]);
      await until("the new primary to take inserts", () => to.done.length > 0);
      const first = to.done[0]!;
      // Rows are numbered in order: those of the old primary before this one were replicated. What a program writes into a node's files after
      // the node has ended is not.
      const last = begun ?? from.done.filter(({ id }) => id < first.id).at(-1)!.at;
      return first.at - last;
    } finally {
      await Promise.all([from.end(), to.end()]);
      if (restart) {
        old.start();
        await old.ready();
      }
    }
  };

  const handoffs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    handoffs.push(await gap(async (node) => {
      const { code, output } = await sluice("handoff", "-c", node.config);
      if (code !== 0) throw new Error(output);
      return undefined;
    }, false));
  }
  const stops: number[] = [];
  for (let round = 0; round < rounds; round++) {
    stops.push(await gap(async (node, [from]) => {
      const stopped = node.stop();
      // The mount cannot go while the writer holds its file.
      await sleep(300);
      await from!.end();
      await stopped;
      return undefined;
    }, true));
  }
  const kills: number[] = [];
  for (let round = 0; round < rounds; round++) {
    kills.push(await gap(async (node, [from]) => {
      await from!.end();
      const at = now();
      await node.killAll();
      return at;
    }, true));
  }
  await cluster.dispose();
  const restarts = await engineRestarts(bench, Math.min(rounds, 10));
  const row = (id: Outcome["id"], values: number[], note: string): Outcome => ({ id, mount: spreadOf(values), score: spreadOf(values), notes: [`${values.length} times, max ${Math.round(Math.max(...values))} ms; ${note}`] });
  return [
    row("failover-kill", kills, `from kill -9 of every process of the primary to the first insert elsewhere, ttl ${FAILOVER_TTL_MS} ms`),
    row("failover-stop", stops, "from the last insert on the primary that got SIGTERM to the first elsewhere"),
    row("handoff-gap", handoffs, "from the last insert on the old primary to the first on the new one, both trying all the time"),
    row("engine-restart", restarts, "the slowest insert (synchronous=NORMAL, checkpoints included) while the primary's engine is killed with -9"),
  ];
}

/** With a lease that outlives the restart, as the default does. */
async function engineRestarts(bench: Bench, rounds: number): Promise<number[]> {
  const cluster = await TestCluster.start(["a"], "lease: {type: local, local: {path: $FOLDER/lease.db}}");
  bench.use(cluster);
  const [node] = cluster.nodes as [TestNode];
  await until("the primary", async () => (await node.status())?.roleState === "primary");
  const { code, output } = await makeTable(node);
  if (code !== 0) throw new Error(output);
  const slowest: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const writer = new Writer(node);
    await until("inserts", () => writer.done.length > 20);
    const { engine } = node.pids();
    process.kill(engine!, "SIGKILL");
    await until("the new engine", async () => node.pids().engine !== engine && (await node.status())?.roleState === "primary");
    const before = writer.done.length;
    await until("inserts after it", () => writer.done.length > before + 50);
    slowest.push(writer.slowestMs);
    await writer.end();
  }
  return slowest;
}

function makeTable(node: TestNode): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn("sqlite3", [node.path("app.db"), "PRAGMA journal_mode=wal; CREATE TABLE t(id INTEGER PRIMARY KEY, node TEXT);"], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
    child.on("exit", (code) => resolve({ code, output }));
  });
}
