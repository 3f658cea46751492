/**
 * `sluice mount` as an operator meets it: a real node with a real mount, an application of its own, crashes and starts again. One node only;
 * what several nodes do together is in test/cluster.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { findHolders, unmount } from "../../node/fuse/mount.ts";
import { freePorts } from "../support/ports.ts";
import { isRunning } from "../support/running.ts";

const MAIN = fileURLToPath(new URL("../../node/main.ts", import.meta.url));
const SKIP = existsSync("/dev/fuse") && process.getuid!() === 0 ? false : "SKIPPED: mounting needs /dev/fuse and root";

async function until<T>(what: string, condition: () => T | Promise<T>, explain = (): string => ""): Promise<NonNullable<T>> {
  for (const deadline = performance.now() + 120_000; ; await sleep(20)) {
    const value = await condition();
    if (value) return value;
    assert.ok(performance.now() < deadline, `waited in vain until ${what}\n${explain()}`);
  }
}

async function freePort(): Promise<number> {
  return (await freePorts(1))[0]!;
}

/** A node whose application keeps a file of the mount open and notes its pid. */
class Node {
  readonly folder = mkdtempSync(join(tmpdir(), "mount-"));
  readonly mount = join(this.folder, "mnt");
  readonly file = join(this.folder, "sluice.yml");
  readonly pids = join(this.folder, "pids");
  #child: ChildProcess | undefined;
  output = "";

  async configure(): Promise<void> {
    const [listen, admin] = [await freePort(), await freePort()];
    const application = `exec 9>>"${this.mount}/held"; echo $$ >> "${this.pids}"; exec sleep 1000`;
    writeFileSync(this.file, `
node: {name: n1}
data: data
fuse: {mount: mnt}
listen: 127.0.0.1:${listen}
admin: 127.0.0.1:${admin}
lease: {primary: "127.0.0.1:${listen}"}
log: {format: json}
exec: ${JSON.stringify(["sh", "-c", application])}
`);
  }

  run(...args: string[]): Promise<{ code: number | string; output: string }> {
    const child = spawn(process.execPath, [MAIN, ...args, "-c", this.file], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString(), this.output += chunk.toString()));
    if (args[0] === "mount") this.#child = child;
    return new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code: code ?? signal!, output })));
  }

  kill(signal: NodeJS.Signals): void {
    this.#child!.kill(signal);
  }

  /** Pid of the application of the start with this number, from 1. */
  application(start: number): Promise<number> {
    return until(`application ${start} has started`, () => Number(existsSync(this.pids) ? readFileSync(this.pids, "utf8").split("\n")[start - 1] : 0), () => this.output);
  }

  async dispose(): Promise<void> {
    this.kill("SIGKILL");
    for (const pid of existsSync(this.pids) ? readFileSync(this.pids, "utf8").split("\n").filter(Boolean).map(Number) : []) if (isRunning(pid)) process.kill(pid, "SIGKILL");
    await until("nobody holds the mount", () => findHolders(this.mount).length === 0);
    try {
      unmount(this.mount);
    } catch {
      // It is unmounted, as it should be.
    }
    rmSync(this.folder, { recursive: true });
  }
}

async function node(t: TestContext): Promise<Node> {
  const made = new Node();
  t.after(() => made.dispose());
  await made.configure();
  return made;
}

const isMounted = (path: string): boolean => readFileSync("/proc/self/mounts", "utf8").includes(` ${path} `);

test("SIGTERM ends application and mount, and exits with 0; the status shows the node meanwhile", { skip: SKIP }, async (t) => {
  const one = await node(t);
  const ended = one.run("mount");
  const pid = await one.application(1);
  assert.ok(isMounted(one.mount));
  const status = await one.run("status", "--json");
  assert.deepEqual([status.code, (JSON.parse(status.output) as { role: string }).role], [0, "primary"]);
  const second = await one.run("mount");
  assert.equal(second.code, 2);
  assert.match(second.output, /line 3: data: another node \(process \d+\) uses/);
  // The second start has taken the place of the first in `kill`.
  process.kill(Number(readFileSync(join(one.folder, "data/run/lock"), "latin1")), "SIGTERM");
  assert.equal((await ended).code, 0, one.output);
  assert.equal(isRunning(pid), false);
  assert.equal(isMounted(one.mount), false);
});

test("after kill -9 of guardian and engine the next start ends the old application, clears the dead mount and starts anew", { skip: SKIP }, async (t) => {
  const one = await node(t);
  const first = one.run("mount");
  const pid = await one.application(1);
  // The engine would end the application of a dead guardian, so both go at once.
  const engine = Number([...one.output.matchAll(/"pid":(\d+)[^\n]*"msg":"Engine started"/g)].at(-1)?.[1]);
  one.kill("SIGSTOP");
  process.kill(engine, "SIGKILL");
  one.kill("SIGKILL");
  assert.equal((await first).code, "SIGKILL");
  assert.equal(isRunning(pid), true, "nobody is left to end the application");
  const second = one.run("mount");
  assert.notEqual(await one.application(2), pid);
  assert.equal(isRunning(pid), false);
  one.kill("SIGTERM");
  assert.equal((await second).code, 0, one.output);
});

test("a program that still holds a file of the dead mount is named, and the start refused until it ends", { skip: SKIP }, async (t) => {
  const one = await node(t);
  const first = one.run("mount");
  await one.application(1);
  const holder = spawn("sh", ["-c", `exec 9<"${one.mount}/held"; exec sleep 1000`], { stdio: "ignore" });
  t.after(() => holder.kill("SIGKILL"));
  await until("the file is open", () => findHolders(one.mount).some((found) => found.pid === holder.pid && found.command.startsWith("sleep")));
  one.kill("SIGKILL");
  await first;
  const refused = await one.run("mount");
  assert.equal(refused.code, 2);
  assert.match(refused.output, new RegExp(`sluice: Cannot mount at ${one.mount}: programs still hold files of a mount whose node has died: sleep 1000 \\(process ${holder.pid}, ${one.mount}/held\\)\nEnd the programs`));
  holder.kill("SIGKILL");
  await until("the program has ended", () => !isRunning(holder.pid!));
  const second = one.run("mount");
  await one.application(2);
  one.kill("SIGTERM");
  assert.equal((await second).code, 0, one.output);
});
