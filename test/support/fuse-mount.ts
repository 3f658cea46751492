/**
 * A real mount for a test: this process mounts and keeps the descriptor, as the guardian does, and a child serves it.
 *
 * Always holds: dispose() unmounts, ends the child and removes the folder, also after a failure. The test's own file calls on the mount are
 * served by the child, so they may be synchronous; a child that is dead makes them wait for ever, so tests with a dead server use programs.
 */
import { fork, spawn, type ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { mountFuse, unmount } from "../../node/fuse/mount.ts";
import { probeDriver } from "../../node/fuse/driver.ts";
import type { ServerOptions } from "./fuse-server.ts";

const choice = probeDriver(tmpdir());
/** For `skip:` of a test; false where this host can mount. */
export const skipWithoutMount: string | false = choice.driver === "passthrough" ? false : `NOT TESTED HERE: no FUSE passthrough on this host: ${choice.reason}`;
if (skipWithoutMount !== false) console.error(skipWithoutMount);

export interface HookCall {
  readonly hook: string;
  readonly args: readonly unknown[];
}

export class TestMount {
  readonly folder: string;
  readonly mountPoint: string;
  readonly filesDir: string;
  readonly runDir: string;
  readonly hooks: HookCall[] = [];
  readonly #options: Partial<ServerOptions>;
  readonly #fuseFd: number;
  readonly #calls = new Map<number, (value: unknown) => void>();
  #child: ChildProcess | undefined;
  #nextCall = 1;
  #mounted = true;

  static async start(options: Partial<ServerOptions> = {}): Promise<TestMount> {
    const mount = new TestMount(options);
    try {
      await mount.serve(false);
    } catch (error) {
      await mount.dispose();
      throw error;
    }
    return mount;
  }

  private constructor(options: Partial<ServerOptions>) {
    this.#options = options;
    this.folder = fs.mkdtempSync(join(tmpdir(), "sluice-fuse-"));
    [this.mountPoint, this.filesDir, this.runDir] = ["mount", "files", "run"].map((name) => join(this.folder, name)) as [string, string, string];
    for (const folder of [this.mountPoint, this.filesDir, this.runDir]) fs.mkdirSync(folder);
    this.#fuseFd = mountFuse(this.mountPoint);
  }

  /** Starts a serving child, which goes on for a killed one when `resume` is set. */
  async serve(resume: boolean): Promise<void> {
    const options: ServerOptions = {
      mountPoint: this.mountPoint, filesDir: this.filesDir, runDir: this.runDir, resume, trusted: [], gate: "open", role: "primary", virtual: {}, refuse: [], hookDelay: 0, ...this.#options,
    };
    const child = fork(new URL("fuse-server.ts", import.meta.url), [JSON.stringify(options)], {
      execPath: process.execPath, execArgv: [], serialization: "advanced", stdio: ["ignore", "inherit", "inherit", this.#fuseFd, "ipc"],
    });
    this.#child = child;
    await new Promise<void>((resolve, reject) => {
      child.on("message", (message: { ready?: true; id?: number; value?: unknown; hook?: string; args?: unknown[] }) => {
        if (message.ready) resolve();
        if (message.hook !== undefined) this.hooks.push({ hook: message.hook, args: message.args ?? [] });
        if (message.hook === "report") console.error("fuse server:", ...(message.args ?? []));
        if (message.id !== undefined) this.#calls.get(message.id)?.(message.value);
      });
      child.on("exit", (code, signal) => { reject(new Error(`the server ended: ${code ?? signal}`)); });
      child.on("error", reject);
    });
  }

  get serverPid(): number {
    return this.#child?.pid ?? 0;
  }

  path(name: string): string {
    return join(this.mountPoint, name);
  }

  backing(name: string): string {
    return join(this.filesDir, name);
  }

  /** Calls a method of the child's MountControl. */
  async call<T = void>(method: string, ...args: unknown[]): Promise<T> {
    const id = this.#nextCall++;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#calls.set(id, resolve);
    this.#child?.send({ id, method, args });
    const value = await promise;
    this.#calls.delete(id);
    return value as T;
  }

  /**
   * kill -9, and wait until nothing of it runs any more. That is earlier than its exit when it was killed in a call on its own mount:
   * such a thread ends when the next server has answered it.
   */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await until("the killed server is gone", () => hasStopped(child.pid ?? 0));
  }

  /** Lets go of the connection while the mount stays: a dead mount. */
  async abandon(): Promise<void> {
    await this.kill();
    fs.closeSync(this.#fuseFd);
  }

  unmount(): "unmounted" | "detached" {
    this.#mounted = false;
    return unmount(this.mountPoint);
  }

  async dispose(): Promise<void> {
    try {
      if (this.#mounted) this.unmount();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    }
    await this.kill();
    try {
      fs.closeSync(this.#fuseFd);
    } catch {
      // abandon() has closed it.
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Whether a process is gone, or is a zombie of which at most threads remain that wait for an answer of the kernel. */
function hasStopped(pid: number): boolean {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return true;
  }
}

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. Never the synchronous variants: this process must go on taking the server's messages. */
export function run(command: string, args: readonly string[], options: { input?: string; env?: NodeJS.ProcessEnv; uid?: number; gid?: number; cwd?: string } = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const { input, ...rest } = options;
    const child = spawn(command, args, { stdio: "pipe", ...rest });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => { stdout += text; });
    child.stderr.setEncoding("utf8").on("data", (text: string) => { stderr += text; });
    child.on("error", reject);
    child.on("close", (status) => { resolve({ status, stdout, stderr }); });
    child.stdin.on("error", () => {});
    child.stdin.end(input ?? "");
  });
}

/** Waits until something holds; the limit is generous, since it only ends what will never hold. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, limit = 120_000): Promise<void> {
  for (const end = performance.now() + limit; !(await holds());) {
    if (performance.now() > end) throw new Error(`waited ${limit} ms for: ${what}`);
    await delay(5);
  }
}
