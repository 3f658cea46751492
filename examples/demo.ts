/**
 * `make demo`: three nodes on this machine, each with the Express example behind its proxy, and what they do step by step.
 *
 * Always holds: every step is checked by what a client sees; a step that is not as it says ends the demo with exit code 1. On a terminal the nodes
 * keep running until Ctrl-C; without one the demo ends by itself with 0. Either way all processes, mounts and files are taken away. It uses what
 * a user has: the command `bin/sluice` and HTTP.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const NAMES = ["a", "b", "c"] as const;
const TTL_MS = 2_000;
const WAIT_MS = 60_000;

interface DemoNode {
  readonly name: string;
  readonly mount: string;
  readonly config: string;
  readonly admin: string;
  readonly proxy: string;
  process: ChildProcess | undefined;
  output: string;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise<ReturnType<typeof createServer>>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
  })));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function say(text = ""): void {
  process.stdout.write(`${text}\n`);
}

function step(text: string): void {
  say(`\n== ${text}`);
}

function check(condition: boolean, text: string): void {
  if (!condition) throw new Error(`This is not as it should be: ${text}`);
  say(`   ok: ${text}`);
}

async function until<T>(what: string, probe: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const value = await probe().catch(() => undefined);
    if (value !== undefined && value !== false) return value;
    if (Date.now() > end) throw new Error(`Waited in vain for ${what}`);
    await sleep(50);
  }
}

async function prepare(folder: string): Promise<DemoNode[]> {
  const ports = await freePorts(NAMES.length * 4);
  const node = join(ROOT, "node_modules/.bin/node");
  return NAMES.map((name, index) => {
    const [listen, admin, proxy, app] = ports.slice(index * 4) as [number, number, number, number];
    const mount = join(folder, name, "mnt");
    const config = join(folder, name, "sluice.yml");
    mkdirSync(mount, { recursive: true });
    writeFileSync(config, `# Node ${name} of the demo: a node of a real cluster differs in its addresses only.
node: {name: ${name}, region: demo}
data: ${join(folder, name, "data")}
fuse: {mount: ${mount}}
listen: 127.0.0.1:${listen}
advertise: 127.0.0.1:${listen}
admin: 127.0.0.1:${admin}
lease: {type: local, ttl: 2s, local: {path: ${join(folder, "lease.db")}}}   # several machines: etcd or consul
proxy:
  listen: 127.0.0.1:${proxy}
  advertise: http://127.0.0.1:${proxy}
  target: 127.0.0.1:${app}
exec: [env, "DATABASE=${join(mount, "notes.db")}", "PORT=${app}", "${node}", "${join(ROOT, "examples/express/server.js")}"]
log: {level: info, format: json}
`);
    return { name, mount, config, admin: `http://127.0.0.1:${admin}`, proxy: `http://127.0.0.1:${proxy}`, process: undefined, output: "" };
  });
}

function start(node: DemoNode): void {
  const child = spawn(join(ROOT, "bin/sluice"), ["mount", "-c", node.config], { stdio: ["ignore", "pipe", "pipe"] });
  node.process = child;
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (node.output += data.toString()));
}

const isUp = (node: DemoNode): Promise<true> => until(`node ${node.name}`, async () => {
  if (node.process?.exitCode !== null) throw new Error(`Node ${node.name} ended`);
  const ready = (await fetch(`${node.admin}/ready`)).ok;
  const page = await fetch(`${node.proxy}/`);
  await page.arrayBuffer();
  return ready && page.ok;
});

interface Status {
  readonly role: string;
  readonly databases: readonly { readonly name: string; readonly txid: string; readonly checksum: string; readonly lagMs?: number }[];
}

const statusOf = async (node: DemoNode): Promise<Status> => (await (await fetch(`${node.admin}/status`)).json()) as Status;

async function post(node: DemoNode, author: string, body: string): Promise<{ cookie: string; node: string; ms: number }> {
  const begin = performance.now();
  const response = await fetch(`${node.proxy}/api/notes`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ author, body }) });
  const text = await response.text();
  check(response.status === 201 || response.status === 200, `POST through node ${node.name} answers ${response.status}${response.ok ? "" : `: ${text}`}`);
  return { cookie: response.headers.getSetCookie().map((field) => field.split(";")[0]).join("; "), node: response.headers.get("sluice-node") ?? "?", ms: performance.now() - begin };
}

async function read(node: DemoNode, cookie: string): Promise<{ text: string; node: string }> {
  const response = await fetch(`${node.proxy}/api/notes`, { headers: cookie === "" ? {} : { cookie } });
  return { text: await response.text(), node: response.headers.get("sluice-node") ?? "?" };
}

async function show(nodes: readonly DemoNode[]): Promise<void> {
  const [a, b, c] = nodes as [DemoNode, DemoNode, DemoNode];
  step("Three nodes: a takes the lease and is the primary, b and c follow it; each runs the notes board behind its proxy");
  start(a);
  await isUp(a);
  start(b);
  start(c);
  await isUp(b);
  await isUp(c);
  for (const node of nodes) say(`   node ${node.name}: ${(await statusOf(node)).role}, ${node.proxy}`);

  step("A write sent to node b reaches the primary, and its client reads it back at once, on any node");
  const written = await post(b, "Ada", "Written through node b");
  check(written.node === "a", `the application of node ${written.node} handled it (${written.ms.toFixed(0)} ms); cookie ${written.cookie}`);
  const onB = await read(b, written.cookie);
  check(onB.text.includes("Written through node b") && onB.node === "b", "the same client reads its note on node b, from b's own copy");
  const onC = await read(c, written.cookie);
  check(onC.text.includes("Written through node b") && onC.node === "c", "and on node c, from c's own copy");

  step("Positions: every node is at the same transaction, with the same checksum");
  const position = readFileSync(join(a.mount, "notes.db-pos"), "latin1").trim();
  for (const node of nodes) {
    const there = await until(`node ${node.name} at the position`, async () => (readFileSync(join(node.mount, "notes.db-pos"), "latin1").trim() === position ? position : undefined));
    const database = (await statusOf(node)).databases.find(({ name }) => name === "notes.db");
    say(`   node ${node.name}: notes.db-pos ${there}, lag ${database?.lagMs ?? 0} ms`);
  }
  check(readFileSync(join(b.mount, ".primary"), "latin1").trim() === "a", "`.primary` on node b names a");

  step("A hundred writes, spread over all nodes, while reading each back");
  for (let i = 0; i < 100; i++) {
    const node = nodes[i % 3]!;
    const response = await fetch(`${node.proxy}/api/notes`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ author: "Bo", body: `Note ${i} of a hundred` }) });
    await response.arrayBuffer();
    const cookie = response.headers.getSetCookie().map((field) => field.split(";")[0]).join("; ");
    const other = await read(nodes[(i + 1) % 3]!, cookie);
    if (!other.text.includes(`Note ${i} of a hundred`)) throw new Error(`Note ${i}, written through ${node.name}, is not seen on the next node`);
  }
  check(true, "each was seen on another node by the client that wrote it");

  step("The primary's engine is killed with -9: the application waits a moment and goes on, nothing is lost");
  const engine = /"pid":(\d+),"resume":false,"msg":"Engine started"/.exec(a.output)?.[1];
  check(engine !== undefined, `the engine of node a is process ${engine}`);
  process.kill(Number(engine), "SIGKILL");
  const after = await post(a, "Cy", "Written after the engine was killed");
  const seen = await until("the note on node c", async () => (await read(c, after.cookie)).text.includes("Written after the engine was killed"));
  check(seen, "the note is on node c");

  step("A planned handoff: `sluice handoff --to b` on node a, while notes are written through node c");
  let failed = 0;
  let slowest = 0;
  let over = false;
  const writing = (async () => {
    while (!over) {
      const begin = performance.now();
      const response = await fetch(`${c.proxy}/api/notes`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ author: "Di", body: "Written during the handoff" }) });
      await response.arrayBuffer();
      if (!response.ok) failed++;
      slowest = Math.max(slowest, performance.now() - begin);
    }
  })();
  await sleep(200);
  const { code, output } = await run("handoff", "-c", a.config, "--to", "b");
  check(code === 0, output.trim());
  await until("node b to be the primary", async () => (await statusOf(b)).role === "primary");
  await sleep(200);
  over = true;
  await writing;
  check(failed === 0, `no request failed; the slowest write took ${slowest.toFixed(0)} ms`);

  step("Failover: every process of node b, the primary, is killed with -9");
  const kept = await post(a, "Ed", "Written before node b died");
  await until("the note on node a", async () => (await read(a, kept.cookie)).node === "a");
  const killed = performance.now();
  kill(b);
  // A request that is on its way at that very moment gets 502: nobody can know whether it was executed. This one comes just after.
  await sleep(100);
  const survived = await post(c, "Fay", "Written after node b died");
  const tookMs = performance.now() - killed;
  check(survived.node !== "b", `node ${survived.node} took the lease; a write sent at that moment was held and done ${(tookMs / 1_000).toFixed(1)} s later (ttl ${TTL_MS / 1_000} s)`);
  check((await read(a, survived.cookie)).text.includes("Written before node b died"), "nothing that was replicated is lost");
  start(b);
  await isUp(b);
  check((await until("node b to have it all", async () => (await read(b, survived.cookie)).text.includes("Written after node b died"))), "node b is back and follows");
}

/** Runs a command of `sluice`. */
function run(...args: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(join(ROOT, "bin/sluice"), args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
    child.on("exit", (code) => resolve({ code, output }));
  });
}

/** kill -9 of everything that a node has started, by the ids that its log names last, the guardian first so that it starts nothing again. */
function kill(node: DemoNode): void {
  const last = (text: string): number => Number([...node.output.matchAll(new RegExp(`"pid":(\\d+)[^\\n]*"msg":"${text} started"`, "g"))].at(-1)?.[1]);
  for (const pid of [node.process!.pid!, last("Engine"), last("Proxy"), last("Application")]) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended with the one before.
    }
  }
}

function where(nodes: readonly DemoNode[]): void {
  step("Where to look");
  for (const node of nodes) {
    say(`   node ${node.name}: board ${node.proxy}/   status ${node.admin}/status   metrics ${node.admin}/metrics`);
    say(`           files ${node.mount}   bin/sluice status -c ${node.config}`);
  }
  say("   Load: node_modules/.bin/autocannon -d 5 " + `${nodes[1]!.proxy}/`);
}

async function stop(nodes: readonly DemoNode[], folder: string): Promise<void> {
  await Promise.all([...nodes].reverse().map(async ({ process: child }) => {
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await Promise.race([ended, sleep(30_000, undefined, { ref: false })]);
    if (child.exitCode === null) child.kill("SIGKILL");
  }));
  // A node that was killed and did not come back leaves a dead mount.
  for (const { mount } of nodes) if (readFileSync("/proc/self/mounts", "utf8").includes(` ${mount} `)) spawnSync("umount", ["-l", mount]);
  rmSync(folder, { recursive: true, force: true });
}

const folder = mkdtempSync(join(tmpdir(), "sluice-demo-"));
const nodes = await prepare(folder);
const interrupted = new Promise<void>((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
});
let code = 0;
try {
  const ended = await Promise.race([show(nodes).then(() => "shown" as const), interrupted.then(() => "interrupted" as const)]);
  if (ended === "shown") {
    where(nodes);
    if (process.stdin.isTTY && process.stdout.isTTY) {
      say("\nThe nodes keep running. Ctrl-C ends them.");
      await interrupted;
    }
  }
} catch (error) {
  code = 1;
  say(`\n${(error as Error).message}`);
  for (const node of nodes) say(`\n-- node ${node.name} said last:\n${node.output.split("\n").slice(-15).join("\n")}`);
} finally {
  say("\nTaking the nodes down");
  await stop(nodes, folder);
}
process.exit(code);
