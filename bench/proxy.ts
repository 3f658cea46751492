/**
 * What does a request through the proxy cost, beside other proxies in front of the same application?
 *
 * Always holds: the sides take turns in one run, in an order that turns with each round; processor time is utime + stime of the proxy's
 * process over the requests of the turn, kernel work for its sockets included. Added latency is measured at a steady 2,000 requests/s with a clock in
 * microseconds, turn by turn against the application itself. On a machine with other work processor time holds and latency does not.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { loadavg } from "node:os";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Skip, type Bench, type Outcome, type Question } from "./question.ts";
import { cpuSeconds, startSides, type Side } from "./proxy-sides.ts";
import { quantile, ratios, spreadOf } from "./statistics.ts";

export const PROXY_QUESTION: Question = { rows: ["proxy-read-haproxy", "proxy-read-http-proxy", "proxy-general", "proxy-added-p50", "proxy-added-p99", "proxy-idle"], run: measure };

const CONNECTIONS = 32;
const PACED_CONNECTIONS = 16;
const REQUESTS_PER_SECOND = 2_000;
const IDLE_CONNECTIONS = 10_000;
/** Node's compilers need some thousands of requests before they are done: so long before the first turn that counts. */
const WARM_UP_SECONDS = 4;

interface CannonResult { readonly requests: { readonly total: number }; readonly duration: number; readonly errors: number; readonly non2xx: number; readonly latency: { readonly p50: number; readonly p99: number; readonly p99_9: number } }
const autocannon = createRequire(import.meta.url)("autocannon") as (options: object) => Promise<CannonResult>;

interface Turn { readonly rate: number; readonly cpuUs: number; readonly p50: number; readonly p99: number; readonly p999: number }

async function turn({ name, port, pid, load }: Side, seconds: number): Promise<Turn> {
  const before = pid === 0 ? 0 : cpuSeconds(pid);
  const result = await autocannon({ url: `http://127.0.0.1:${port}/x`, method: load.method, headers: load.headers, connections: CONNECTIONS, ...(load.method === "POST" ? { body: "x".repeat(100) } : {}), duration: seconds });
  const used = pid === 0 ? 0 : cpuSeconds(pid) - before;
  if (result.errors > 0 || result.non2xx > 0) throw new Error(`${name}: ${result.errors} errors, ${result.non2xx} responses other than 2xx`);
  const { total } = result.requests;
  return { rate: total / result.duration, cpuUs: (used / total) * 1e6, p50: result.latency.p50, p99: result.latency.p99, p999: result.latency.p99_9 };
}

async function measure(bench: Bench): Promise<readonly Outcome[]> {
  if (bench.driver !== "passthrough") throw new Skip("the proxy is the same under both drivers");
  const sides = await startSides(bench);
  const seconds = Math.max(1, Math.round(bench.effort.roundMs / 1_000));
  // First of all: garbage of earlier requests would hide what connections take.
  const idle = new Map<string, number>();
  for (const name of ["Sluice, local read", "http-proxy", "HAProxy, 1 thread", "nginx, 1 worker"]) idle.set(name, await idleKiB(sides.find((side) => side.name === name)!));
  for (const side of sides) {
    const { rate, cpuUs } = await turn(side, WARM_UP_SECONDS);
    bench.say(`warm: ${side.name}: ${Math.round(rate)} requests/s, ${cpuUs.toFixed(0)} us`);
  }
  const turns = new Map<string, Turn[]>(sides.map(({ name }) => [name, []]));
  const load = loadavg()[0]!;
  for (let round = 0; round < bench.effort.rounds; round++) {
    const at = round % sides.length;
    for (const side of [...sides.slice(at), ...sides.slice(0, at)]) turns.get(side.name)!.push(await turn(side, seconds));
  }
  const direct = sides[0]!;
  const local = sides[1]!;
  const added = await addedLatency(bench, direct, local);

  bench.say(formatSides(sides, turns, idle));
  const cpu = (name: string): number[] => turns.get(name)!.map(({ cpuUs }) => cpuUs);
  const compared = (id: Outcome["id"], name: string, against: string, notes: readonly string[]): Outcome =>
    ({ id, native: spreadOf(cpu(against)), mount: spreadOf(cpu(name)), score: spreadOf(ratios(cpu(name), cpu(against))), notes });
  const value = (id: Outcome["id"], values: readonly number[], notes: readonly string[] = []): Outcome => ({ id, mount: spreadOf(values), score: spreadOf(values), notes });
  return [
    compared("proxy-read-haproxy", local.name, "HAProxy, 1 thread", [`us of processor time a request; load average ${load.toFixed(1)} to ${loadavg()[0]!.toFixed(1)}; nine processes share the machine with the load`]),
    compared("proxy-read-http-proxy", local.name, "http-proxy", []),
    compared("proxy-general", "Sluice, general path", "http-proxy", []),
    value("proxy-added-p50", added.p50, [`at ${REQUESTS_PER_SECOND} requests/s over ${PACED_CONNECTIONS} connections, against the application itself`]),
    value("proxy-added-p99", added.p99),
    value("proxy-idle", [idle.get(local.name)!], [`PSS of ${IDLE_CONNECTIONS} connections that had one response each; ${[...idle].map(([name, kib]) => `${name} ${kib.toFixed(1)}`).join(", ")} KiB`]),
  ];
}

function formatSides(sides: readonly Side[], turns: ReadonlyMap<string, readonly Turn[]>, idle: ReadonlyMap<string, number>): string {
  const median = (name: string, pick: (one: Turn) => number): number => quantile(turns.get(name)!.map(pick), 0.5);
  const lines = sides.map(({ name, pid }) => {
    const kib = idle.get(name);
    return `| ${[
      name.padEnd(24), Math.round(median(name, ({ rate }) => rate)).toLocaleString("en-US").padStart(10), ...(["p50", "p99", "p999"] as const).map((key) => String(median(name, (one) => one[key])).padStart(7)),
      (pid === 0 ? "" : median(name, ({ cpuUs }) => cpuUs).toFixed(1)).padStart(6), (kib === undefined ? "" : kib.toFixed(1)).padStart(12),
    ].join(" | ")} |`;
  });
  return ["", `| ${"through".padEnd(24)} | requests/s |  p50 ms |  p99 ms | p99.9 ms | CPU us | KiB per idle |`, `|${"-".repeat(26)}|-----------:|-------:|-------:|-------:|-------:|-------------:|`, ...lines, ""].join("\n");
}

// ---- latency

async function addedLatency(bench: Bench, direct: Side, through: Side): Promise<{ p50: number[]; p99: number[] }> {
  const p50: number[] = [];
  const p99: number[] = [];
  const turnMs = bench.effort.latencyMs / 2;
  for (let round = -1; round < bench.effort.latencyRounds; round++) {
    const without = await pacedMs(direct.port, turnMs);
    const withProxy = await pacedMs(through.port, turnMs);
    if (round < 0) continue;
    p50.push(Math.max(0, quantile(withProxy, 0.5) - quantile(without, 0.5)));
    p99.push(Math.max(0, quantile(withProxy, 0.99) - quantile(without, 0.99)));
  }
  return { p50, p99 };
}

/** How long each request took, in ms, at a steady pace. A connection that still waits is passed over. */
async function pacedMs(port: number, ms: number): Promise<number[]> {
  const times: number[] = [];
  const request = Buffer.from("GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  const free: Socket[] = [];
  const sockets = await Promise.all(Array.from({ length: PACED_CONNECTIONS }, () => opened(port)));
  for (const socket of sockets) {
    let left = 0;
    socket.on("data", (chunk: Buffer) => {
      if (left === 0) left = lengthOf(chunk);
      left -= chunk.length;
      if (left > 0) return;
      times.push(performance.now() - sentAt.get(socket)!);
      free.push(socket);
    });
    free.push(socket);
  }
  const sentAt = new Map<Socket, number>();
  const begun = performance.now();
  for (let sent = 0; performance.now() - begun < ms; await sleep(1)) {
    for (const due = ((performance.now() - begun) / 1_000) * REQUESTS_PER_SECOND; sent < due; sent++) {
      const socket = free.shift();
      if (socket === undefined) continue;
      sentAt.set(socket, performance.now());
      socket.write(request);
    }
  }
  for (const socket of sockets) socket.destroy();
  return times;
}

/** Bytes of the whole response whose head is in `chunk`. */
function lengthOf(chunk: Buffer): number {
  const text = chunk.toString("latin1");
  return text.indexOf("\r\n\r\n") + 4 + Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
}

async function opened(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  return socket;
}

// ---- memory

async function idleKiB({ name, port, pid }: Side): Promise<number> {
  let closed = 0;
  const before = pssKiB(pid);
  const sockets: Socket[] = [];
  try {
    while (sockets.length < IDLE_CONNECTIONS) {
      const some = await Promise.all(Array.from({ length: 100 }, () => opened(port)));
      await Promise.all(some.map((socket) => new Promise((resolve, reject) => {
        socket.once("data", resolve).once("error", reject).once("close", () => closed++);
        socket.write("GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
      })));
      sockets.push(...some);
    }
    await sleep(3_000);
    if (closed > 0) throw new Error(`${name} closed ${closed} idle connections`);
    return (pssKiB(pid) - before) / IDLE_CONNECTIONS;
  } finally {
    for (const socket of sockets) socket.destroy();
    await sleep(500);
  }
}

function pssKiB(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))![1]);
}
