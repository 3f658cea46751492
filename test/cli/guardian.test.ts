/**
 * The guardian with real processes, signals and messages, but without a mount: engine and proxy are stand-ins that keep to the messages. What
 * this cannot show: that requests of applications wait while the engine is away, and that fences hold on a mount (test/mount, test/cluster).
 */
import { once } from "node:events";
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseConfig } from "../../node/config.ts";
import { takeDataLock } from "../../node/guardian/data-lock.ts";
import { RestartPolicy } from "../../node/guardian/restart-policy.ts";
import { freePorts } from "../support/ports.ts";
import { isRunning } from "../support/running.ts";

const [PROXY_PORT] = await freePorts(1);

interface Entry { readonly pid: number; readonly event: string; readonly resume?: boolean; readonly node?: string }

/** A guardian in a process of its own, and what its stand-ins have noted. */
class Run {
  readonly folder: string;
  readonly child: ChildProcess;
  output = "";
  readonly exited: Promise<number | string>;

  constructor(t: TestContext, options: { exec?: readonly string[]; mode?: string; proxy?: boolean }) {
    this.folder = mkdtempSync(join(tmpdir(), "guardian-"));
    const text = `
node: {name: g1}
data: data
fuse: {mount: mnt}
lease: {primary: 127.0.0.1:7001}
log: {format: json}
${options.proxy === true ? `proxy: {target: 127.0.0.1:3000, listen: 127.0.0.1:${PROXY_PORT}}` : ""}
${options.exec === undefined ? "" : `exec: ${JSON.stringify(options.exec)}`}
`;
    const result = parseConfig(text, join(this.folder, "sluice.yml"), {});
    assert.ok("config" in result, JSON.stringify(result));
    this.child = spawn(process.execPath, [fileURLToPath(new URL("../support/guardian-run.ts", import.meta.url)), JSON.stringify(result.config)], {
      stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, FAKE_JOURNAL: this.journal, FAKE_MODE: options.mode ?? "" },
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) stream.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    this.exited = new Promise((resolve) => this.child.once("exit", (code, signal) => resolve(code ?? signal!)));
    t.after(async () => {
      this.child.kill("SIGKILL");
      await this.exited;
      for (const { pid } of this.entries()) await until("its processes end", () => !isRunning(pid));
      rmSync(this.folder, { recursive: true });
    });
  }

  get journal(): string {
    return join(this.folder, "journal");
  }

  entries(): Entry[] {
    if (!existsSync(this.journal)) return [];
    return readFileSync(this.journal, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line) as Entry);
  }

  async event(event: string, count = 1): Promise<Entry> {
    await until(`${count} x ${event}`, () => this.entries().filter((entry) => entry.event === event).length >= count, () => this.output);
    return this.entries().filter((entry) => entry.event === event)[count - 1]!;
  }

  async says(text: string): Promise<void> {
    await until(`the log says "${text}"`, () => this.output.includes(text), () => this.output);
  }
}

async function until(what: string, condition: () => boolean, explain = (): string => ""): Promise<void> {
  for (const deadline = performance.now() + 120_000; !condition(); await sleep(10)) {
    assert.ok(performance.now() < deadline, `waited in vain until ${what}\n${explain()}`);
  }
}

test("SIGTERM has the lease handed over, then stops proxy, engine and mount in this order and exits with 0", async (t) => {
  const run = new Run(t, { proxy: true });
  await run.event("proxyMetrics");
  run.child.kill("SIGTERM");
  assert.equal(await run.exited, 0, run.output);
  assert.deepEqual(run.entries().map((entry) => entry.event), ["init", "proxy 127.0.0.1:3000 true", "proxyMetrics", "handOff", "proxy stopped", "stop"]);
  assert.ok(run.output.indexOf('"unmount"') < run.output.indexOf('"Stopped"') && run.output.includes('"unmount"'), run.output);
  assert.equal(existsSync(join(run.folder, "data/run/mount.json")), false);
});

test("an engine that dies is started again at once and told to resume", async (t) => {
  const run = new Run(t, {});
  const first = await run.event("init");
  await run.says("Ready");
  assert.deepEqual([first.resume, first.node], [false, "g1"]);
  process.kill(first.pid, "SIGKILL");
  const second = await run.event("init", 2);
  assert.equal(second.resume, true);
  assert.notEqual(second.pid, first.pid);
  assert.equal(run.child.exitCode, null);
});

test("the application is started once the node is ready, and again by no death of the engine; its exit code is the node's", async (t) => {
  const run = new Run(t, { exec: ["sh", "-c", 'echo "{\\"pid\\":$$,\\"event\\":\\"application\\"}" >> "$FAKE_JOURNAL"; while ! [ -e "$FAKE_JOURNAL.end" ]; do sleep 0.02; done; exit 9'] });
  const application = await run.event("application");
  const events = run.entries().map((entry) => entry.event);
  assert.ok(events.indexOf("init") < events.indexOf("application"));
  const recorded = (): number | undefined => (JSON.parse(readFileSync(join(run.folder, "data/run/mount.json"), "utf8")) as { application?: { pid: number } }).application?.pid;
  await until("the record of the mount names the application", () => recorded() === application.pid, () => run.output);
  process.kill(run.entries()[0]!.pid, "SIGKILL");
  await run.event("init", 2);
  await until("the second engine is ready", () => run.output.split('"Ready"').length === 3, () => run.output);
  writeFileSync(`${run.journal}.end`, "");
  assert.equal(await run.exited, 9, run.output);
  assert.equal(run.entries().filter((entry) => entry.event === "application").length, 1);
});

test("the application is stopped before the engine, with everything that it has started", async (t) => {
  const run = new Run(t, { exec: ["sh", "-c", 'note() { echo "{\\"pid\\":$1,\\"event\\":\\"$2\\"}" >> "$FAKE_JOURNAL"; }; sleep 1000 & note $! grandchild; trap "note $$ terminated; exit 0" TERM; note $$ application; wait; wait'] });
  const grandchild = await run.event("grandchild");
  await run.event("application");
  run.child.kill("SIGINT");
  assert.equal(await run.exited, 0, run.output);
  assert.deepEqual(run.entries().slice(-2).map((entry) => entry.event), ["terminated", "stop"]);
  assert.equal(isRunning(grandchild.pid), false);
});

test("signals for the application are passed on", async (t) => {
  const run = new Run(t, { exec: ["sh", "-c", 'trap "exit 42" HUP; echo "{\\"pid\\":$$,\\"event\\":\\"application\\"}" >> "$FAKE_JOURNAL"; while :; do sleep 0.02; done'] });
  await run.event("application");
  run.child.kill("SIGHUP");
  assert.equal(await run.exited, 42, run.output);
});

test("a second signal hurries: an application that ignores SIGTERM and an engine that does not stop are killed", async (t) => {
  const run = new Run(t, { mode: "stubborn", exec: ["sh", "-c", 'trap "" TERM; echo "{\\"pid\\":$$,\\"event\\":\\"application\\"}" >> "$FAKE_JOURNAL"; while :; do sleep 0.02; done'] });
  await run.event("application");
  run.child.kill("SIGTERM");
  await run.says("Stopping");
  assert.equal(run.child.exitCode, null);
  run.child.kill("SIGTERM");
  assert.equal(await run.exited, 0, run.output);
  assert.match(run.output, /did not finish in time/);
  for (const { pid } of run.entries()) assert.equal(isRunning(pid), false);
});

test("a command that cannot be started ends the node with the code of a shell", async (t) => {
  const run = new Run(t, { exec: ["/nonexistent/program"] });
  assert.equal(await run.exited, 127, run.output);
});

test("an engine that dies before it has served five times ends the node", async (t) => {
  const run = new Run(t, { mode: "die" });
  assert.equal(await run.exited, 1, run.output);
  assert.equal(run.entries().filter((entry) => entry.event === "init").length, 5);
  assert.match(run.output, /giving up/);
});

test("an engine that says at its start that it cannot go on ends the node with its sentence", async (t) => {
  const run = new Run(t, { mode: "fatal" });
  assert.equal(await run.exited, 1, run.output);
  assert.match(run.output, /Cannot follow x/);
});

test("a proxy that dies is started again; the mount and the engine stay", async (t) => {
  const run = new Run(t, { proxy: true });
  const first = await run.event("proxy 127.0.0.1:3000 true");
  process.kill(first.pid, "SIGKILL");
  await run.event("proxy 127.0.0.1:3000 true", 2);
  assert.equal(run.entries().filter((entry) => entry.event === "init").length, 1);
});

test("a proxy that is told to end is followed by another one, and ends then; one that dies while the node stops is not", async (t) => {
  const run = new Run(t, { proxy: true });
  const first = await run.event("proxy 127.0.0.1:3000 true");
  process.kill(first.pid, "SIGTERM");
  assert.equal((await run.event("proxy followed")).pid, first.pid);
  const events = run.entries().map(({ event }) => event);
  assert.equal(events.slice(0, events.indexOf("proxy followed")).filter((event) => event.startsWith("proxy 127")).length, 2);
  run.child.kill("SIGTERM");
  assert.equal(await run.exited, 0, run.output);
  assert.deepEqual([run.entries().filter(({ event }) => event.startsWith("proxy 127")).length, run.entries().filter(({ event }) => event === "proxy stopped").length], [2, 1]);
});

test("when the guardian is killed, its children end and the data folder is free again; until then it is not", async (t) => {
  const run = new Run(t, { proxy: true });
  await run.event("proxyMetrics");
  const data = join(run.folder, "data");
  const held = await takeDataLock(data, { create: true });
  assert.deepEqual(held, { heldBy: run.child.pid });
  const gone = once(run.child, "exit");
  run.child.kill("SIGKILL");
  await run.event("disconnected");
  await gone;
  // Waits for orphans by itself, though not for a holder that is still alive.
  const lock = await takeDataLock(data, { create: true });
  assert.ok(lock !== undefined && "release" in lock);
  lock.release();
});

test("five deaths within ten seconds make a pause of one second, fewer or slower ones none", () => {
  const fast = new RestartPolicy();
  assert.deepEqual([0, 1_000, 2_000, 3_000, 4_000, 5_000].map((at) => fast.died(at)), [0, 0, 0, 0, 1_000, 1_000]);
  assert.equal(fast.died(60_000), 0);
  const slow = new RestartPolicy();
  for (let at = 0; at < 100_000; at += 2_500) assert.equal(slow.died(at), 0);
});
