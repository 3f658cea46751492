/**
 * Real servers for the lease tests: a process on free ports of the loopback, with its data in a folder.
 *
 * Always holds: a server is killed with SIGKILL and comes back on the same ports with the same data; `end` takes it and its folder away.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export { freePorts } from "../support/ports.ts";

export class Server {
  readonly folder: string;
  readonly #command: (folder: string) => readonly string[];
  readonly #isReady: () => Promise<boolean>;
  #child: ChildProcess | undefined;

  constructor(options: { readonly command: (folder: string) => readonly string[]; readonly isReady: () => Promise<boolean> }) {
    this.folder = mkdtempSync(join(tmpdir(), "lease-server-"));
    this.#command = options.command;
    this.#isReady = options.isReady;
  }

  async start(): Promise<void> {
    const [program, ...args] = this.#command(this.folder);
    const output = openSync(join(this.folder, "output"), "a");
    const child = spawn(program!, args, { stdio: ["ignore", output, output] });
    this.#child = child;
    await once(child, "spawn");
    for (const end = performance.now() + 90_000; performance.now() < end; await sleep(50)) {
      if (await this.#isReady().catch(() => false)) return;
      if (child.exitCode !== null) break;
    }
    assert.fail(`${program!} does not start: ${readFileSync(join(this.folder, "output"), "utf8").slice(-2_000)}`);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A JSON answer, or the error that it is none. */
export async function ask(url: string, init: RequestInit = {}): Promise<unknown> {
  const answer = await fetch(url, { ...init, signal: AbortSignal.timeout(10_000) });
  if (!answer.ok && answer.status !== 404) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.status === 404 ? undefined : answer.json();
}
