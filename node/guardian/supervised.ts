/**
 * A child process that is started again when it dies, until it is told to end.
 *
 * Always holds: at most one process lives at a time; after `end` has resolved none does and none is started any more.
 *
 * ```
 *   idle --start--> running --exit--> pausing --timer--> running
 *                   running --restart, exit--> running
 *                   running, pausing --end--> ending --exit--> ended
 * ```
 */
import type { ChildProcess } from "node:child_process";
import { assert } from "../core/assert.ts";
import { isMessage } from "./messages.ts";
import { RestartPolicy } from "./restart-policy.ts";

export interface SupervisedOptions {
  /** Starts the process; `restart` is false the first time. */
  spawn(restart: boolean): ChildProcess;
  onMessage(message: { readonly type: string }): void;
  /** The process is gone without having been told to; `pauseMs` passes before the next start. */
  onDeath(how: string, pauseMs: number): void;
}

export class Supervised {
  readonly #options: SupervisedOptions;
  readonly #policy = new RestartPolicy();
  #state: "idle" | "running" | "pausing" | "ending" | "ended" = "idle";
  #child: ChildProcess | undefined;
  #pause: NodeJS.Timeout | undefined;
  #gone: Promise<void> = Promise.resolve();
  #restarting = false;

  constructor(options: SupervisedOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  start(): void {
    assert(this.#state === "idle", "a supervised process is started once");
    this.#launch(false);
  }

  #launch(restart: boolean): void {
    this.#state = "running";
    const child = this.#options.spawn(restart);
    this.#child = child;
    child.on("message", (message) => {
      if (this.#child === child && isMessage(message)) this.#options.onMessage(message);
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    let over = false;
    const leave = (how: string): void => {
      if (over) return;
      over = true;
      this.#child = undefined;
      resolve();
      if (this.#state === "running") this.#died(how);
    };
    // `exit`, not `close`: grandchildren may hold the inherited output open. `error` without a pid: it was never started.
    child.once("exit", (code, signal) => leave(signal === null ? `exit code ${code ?? "?"}` : signal));
    child.on("error", (error) => {
      if (child.pid === undefined) leave(error.message);
    });
  }

  #died(how: string): void {
    if (this.#restarting) {
      this.#restarting = false;
      this.#launch(true);
      return;
    }
    const pauseMs = this.#policy.died(performance.now());
    this.#state = "pausing";
    this.#pause = setTimeout(() => this.#launch(true), pauseMs);
    this.#options.onDeath(how, pauseMs);
  }

  /** Sends if the process lives; a message to a dead one is dropped, because its successor starts from `init`. */
  send(message: object): void {
    if (this.#child?.connected === true) this.#child.send(message, () => {});
  }

  /** Ends the process in order (by `ask`; after `graceMs` by SIGKILL); it is started again at once, which is no death that counts. */
  async restart(ask: () => void, graceMs: number): Promise<void> {
    const child = this.#child;
    if (child === undefined || this.#state !== "running") return;
    this.#restarting = true;
    ask();
    const timer = setTimeout(() => void child.kill("SIGKILL"), graceMs);
    await this.#gone;
    clearTimeout(timer);
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** From now on a death is not followed by a start. The process lives on. */
  retire(): void {
    clearTimeout(this.#pause);
    if (this.#state !== "ended") this.#state = this.#child === undefined ? "ended" : "ending";
  }

  /** Ends the process with `signal`, after `graceMs` or when `hurry` is aborted with SIGKILL; resolves when it is gone. */
  async end(signal: NodeJS.Signals | undefined, graceMs: number, hurry?: AbortSignal): Promise<void> {
    this.retire();
    const child = this.#child;
    if (child !== undefined) {
      if (signal !== undefined) child.kill(signal);
      const kill = (): void => void child.kill("SIGKILL");
      const timer = setTimeout(kill, graceMs);
      if (hurry?.aborted === true) kill();
      hurry?.addEventListener("abort", kill);
      await this.#gone;
      clearTimeout(timer);
      hurry?.removeEventListener("abort", kill);
    }
    this.#state = "ended";
  }

  /** Resolves when the present process is gone. */
  get gone(): Promise<void> {
    return this.#child === undefined ? Promise.resolve() : this.#gone;
  }
}
