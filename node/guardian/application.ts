/**
 * The application (`exec`): started once, never again; its end ends the node with the same code.
 *
 * Always holds: it inherits the environment, the working folder and the standard streams. On a terminal it stays in the terminal's process
 * group, so that it can read and is interrupted as usual; elsewhere it leads a group of its own, and the whole group is ended with it.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { identify, type ProcessId } from "./process-id.ts";

/** Signals that are meant for the application and are passed on as they come. */
export const PASSED_SIGNALS = ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const satisfies NodeJS.Signals[];

/** Exit codes of a shell for a command that is not found, or cannot be executed. */
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

export class Application {
  readonly #child: ChildProcess;
  readonly #group: boolean;
  /** Its exit code, or 128 + the number of the signal that ended it; `error` when it could not be started. */
  readonly exited: Promise<{ readonly code: number; readonly error?: Error }>;
  /** Absent when it could not be started. */
  readonly id: (ProcessId & { readonly group: boolean }) | undefined;

  constructor(command: readonly string[]) {
    this.#group = !process.stdin.isTTY;
    const child = spawn(command[0]!, command.slice(1), { stdio: "inherit", detached: this.#group });
    this.#child = child;
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => resolve({ code: code ?? 128 + constants.signals[signal!] }));
      child.on("error", (error: NodeJS.ErrnoException) => {
        if (child.pid === undefined) resolve({ code: error.code === "ENOENT" ? NOT_FOUND : NOT_EXECUTABLE, error });
      });
    });
    const id = child.pid === undefined ? undefined : identify(child.pid);
    this.id = id === undefined ? undefined : { ...id, group: this.#group };
  }

  signal(name: NodeJS.Signals): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(name);
  }

  /** SIGTERM, then SIGKILL after `graceMs` or when `hurry` is aborted; resolves when it and its group are gone. */
  async stop(graceMs: number, hurry: AbortSignal): Promise<void> {
    if (this.#child.pid === undefined) return;
    await endProcess({ pid: this.#child.pid, group: this.#group }, graceMs, hurry, () => this.#child.exitCode !== null || this.#child.signalCode !== null);
  }
}

const POLL_MS = 10;

/**
 * Ends a process, or the whole group that it leads: SIGTERM, then SIGKILL after `graceMs` or when `hurry` is aborted.
 * `isGone` says whether the process itself is gone; what else lives in the group is looked for.
 */
export async function endProcess(target: { readonly pid: number; readonly group: boolean }, graceMs: number, hurry: AbortSignal | undefined, isGone: () => boolean): Promise<void> {
  const send = (signal: NodeJS.Signals | 0): boolean => {
    try {
      return process.kill(target.group ? -target.pid : target.pid, signal);
    } catch {
      return false;
    }
  };
  const over = (): boolean => isGone() && (!target.group || !send(0));
  if (over()) return;
  send("SIGTERM");
  const deadline = performance.now() + graceMs;
  while (!over()) {
    if (performance.now() >= deadline || hurry?.aborted === true) send("SIGKILL");
    await sleep(POLL_MS);
  }
}
