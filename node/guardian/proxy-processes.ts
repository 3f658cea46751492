/**
 * The proxy's processes: the newest, which takes connections, and for moments those before it, which finish what they have.
 *
 * Always holds: the socket on which clients connect is the guardian's, which never accepts; each process has a copy. From the first "listening"
 * until `drain`, a new connection is accepted or waits in the kernel's queue, whatever becomes of the processes: none is refused. A process
 * that has to go is followed first and told to stop then; one that died is followed at once; one that cannot start takes nobody's place.
 *
 * ```
 *   starting --listening--> serving --leaving, or replace()--> followed: its successor is starting
 *   followed --the successor listens--> told to stop --exit
 *   followed --the successor dies--> serving again, unless it leaves by itself
 *   starting, serving --exit--> (pause) starting
 *   any --drain(), end()--> told to stop --exit
 * ```
 */
import type { ChildProcess } from "node:child_process";
import { closeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { assert } from "../core/assert.ts";
import type { GuardianLog } from "./guardian-log.ts";
import { isMessage, type GuardianToProxy, type ProxyToGuardian } from "./messages.ts";
import { RestartPolicy } from "./restart-policy.ts";

export interface ProxyParts {
  /** The socket, bound, as bindTcp makes it. It is closed here. */
  readonly socketFd: number;
  spawn(): ChildProcess;
  /** For the operator's counters; those of the newest process. */
  onMetrics(metrics: unknown): void;
  readonly log: GuardianLog;
  /** How long a process may take to stop, in ms. */
  readonly stopMs: number;
}

interface Generation {
  readonly child: ChildProcess;
  readonly gone: Promise<void>;
  listening: boolean;
  /** It has to end, whether or not it is followed. */
  leaving: boolean;
  told: boolean;
  /** It was told to stop, and no request of its is running any more. */
  drained: boolean;
  /** Looks in a row without a word from it. */
  silent: number;
}

const LOOK_MS = 1_000;
/**
 * A process says something each second. One that is silent for so many looks hangs, and is killed: connections would wait in it for ever. Looks
 * are counted, not time, so that a machine that slept kills nobody.
 */
const SILENT_LOOKS_MAX = 30;

export class ProxyProcesses {
  readonly #parts: ProxyParts;
  readonly #policy = new RestartPolicy();
  #newest: Generation | undefined;
  readonly #earlier = new Set<Generation>();
  #state: "idle" | "running" | "ending" = "idle";
  #pause: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  readonly #drained = Promise.withResolvers<void>();

  constructor(parts: ProxyParts) {
    this.#parts = parts;
  }

  start(): void {
    assert(this.#state === "idle", "the proxy is started once");
    this.#state = "running";
    this.#launch();
    this.#look = setInterval(() => this.#lookAtAll(), LOOK_MS).unref();
  }

  /** Starts a process from the files as they are now, and ends the present one once the new one listens. Resolves when one of them has ended. */
  async replace(): Promise<void> {
    const present = this.#newest;
    // One that does not serve yet has nothing to finish; where none is, the next start takes the files as they are.
    if (this.#state !== "running" || present === undefined) return;
    if (!present.listening) {
      present.child.kill("SIGKILL");
      return;
    }
    this.#earlier.add(present);
    await Promise.race([present.gone, this.#launch().gone]);
  }

  /** The node stops: from now on connections are refused. Resolves when no request is running any more, after `ms`, or when `hurry` is aborted. */
  async drain(ms: number, hurry: AbortSignal): Promise<void> {
    if (this.#state === "ending") return;
    this.#state = "ending";
    clearTimeout(this.#pause);
    // Before the processes close their copies: theirs is then the last, and they take what waits in the queue.
    closeSync(this.#parts.socketFd);
    for (const one of this.#all()) this.#tellToStop(one, false);
    this.#checkDrained();
    if (!hurry.aborted) await Promise.race([this.#drained.promise, sleep(ms, undefined, { ref: false }), new Promise((resolve) => hurry.addEventListener("abort", resolve))]);
  }

  /** Ends all processes, by SIGKILL after `stopMs` or when `hurry` is aborted; resolves when they are gone. */
  async end(hurry: AbortSignal): Promise<void> {
    await this.drain(0, hurry);
    const kill = (): void => {
      for (const { child } of this.#all()) child.kill("SIGKILL");
    };
    const timer = setTimeout(kill, this.#parts.stopMs);
    if (hurry.aborted) kill();
    hurry.addEventListener("abort", kill);
    await this.#gone();
    clearTimeout(timer);
    clearInterval(this.#look);
    hurry.removeEventListener("abort", kill);
  }

  #all(): Generation[] {
    return [...this.#earlier, ...(this.#newest === undefined ? [] : [this.#newest])];
  }

  async #gone(): Promise<void> {
    await Promise.all(this.#all().map(({ gone }) => gone));
  }

  #launch(): Generation {
    const child = this.#parts.spawn();
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    const one: Generation = { child, gone, listening: false, leaving: false, told: false, drained: false, silent: 0 };
    this.#newest = one;
    child.on("message", (message) => {
      if (isMessage(message)) this.#hear(one, message as ProxyToGuardian);
    });
    let over = false;
    const leave = (how: string): void => {
      if (over) return;
      over = true;
      resolve();
      this.#left(one, how);
    };
    // `error` without a pid: it was never started.
    child.once("exit", (code, signal) => leave(signal === null ? `exit code ${code ?? "?"}` : signal));
    child.on("error", (error) => {
      if (child.pid === undefined) leave(error.message);
    });
    return one;
  }

  #hear(one: Generation, message: ProxyToGuardian): void {
    one.silent = 0;
    switch (message.type) {
      case "listening":
        one.listening = true;
        if (one === this.#newest) for (const other of this.#earlier) this.#tellToStop(other, true);
        return;
      case "leaving":
        one.leaving = true;
        if (this.#state === "ending") this.#tellToStop(one, false);
        else if (one === this.#newest) {
          this.#earlier.add(one);
          this.#launch();
        } else if (this.#newest?.listening === true) this.#tellToStop(one, true);
        return;
      case "drained":
        one.drained = true;
        this.#checkDrained();
        return;
      case "metrics":
        if (one === this.#newest) this.#parts.onMetrics(message.metrics);
        return;
      case "fatal":
        this.#parts.log.error({ hint: message.hint }, message.message);
    }
  }

  #tellToStop(one: Generation, followed: boolean): void {
    if (one.told) return;
    one.told = true;
    one.child.send({ type: "stop", followed } satisfies GuardianToProxy, () => {});
    // At the end of the node `end` bounds it.
    if (followed) setTimeout(() => one.child.kill("SIGKILL"), this.#parts.stopMs).unref();
  }

  #checkDrained(): void {
    if (this.#state === "ending" && this.#all().every(({ drained }) => drained)) this.#drained.resolve();
  }

  #left(one: Generation, how: string): void {
    const isNewest = !this.#earlier.delete(one) && one === this.#newest;
    if (isNewest) this.#newest = undefined;
    if (this.#state === "ending") this.#checkDrained();
    if (!isNewest || this.#state === "ending") return;
    const before = [...this.#earlier].findLast(({ leaving, told }) => !leaving && !told);
    if (before !== undefined) {
      this.#earlier.delete(before);
      this.#newest = before;
      this.#parts.log.error({ how }, "The new proxy ended before it listened; the one before it goes on");
      return;
    }
    const pauseMs = this.#policy.died(performance.now());
    this.#parts.log.error({ how, pauseMs }, "The proxy ended; starting it again. New connections wait meanwhile");
    this.#pause = setTimeout(() => this.#launch(), pauseMs);
  }

  #lookAtAll(): void {
    for (const one of this.#all()) {
      if (++one.silent !== SILENT_LOOKS_MAX) continue;
      this.#parts.log.error({ pid: one.child.pid }, "The proxy says nothing any more; killing it");
      one.child.kill("SIGKILL");
    }
  }
}
