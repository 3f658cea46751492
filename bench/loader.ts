/**
 * The near end of the load processes: starts them, has them work at the same moment, adds up what they count.
 *
 * Always holds: one order at a time for each process, answered by one report; a process that dies fails whatever is waiting for it.
 */
import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface LoadSettings {
  readonly path: string;
  readonly work: "insert" | "insertTen" | "mixed" | "read";
  readonly seed: number;
  /** Left as it is when absent. */
  readonly journalMode?: "wal" | "delete";
  readonly synchronous?: "normal" | "full";
  readonly autoCheckpoint?: number;
  /** Rows that the table holds; for "read". */
  readonly rows?: number;
}

export type LoadOrder =
  | { readonly type: "open"; readonly settings: LoadSettings }
  /** From `atMs` on, for `ms` or until `count` steps are done. */
  | { readonly type: "run"; readonly atMs: number; readonly ms?: number; readonly count?: number }
  | { readonly type: "pace"; readonly atMs: number; readonly everyMs: number; readonly ms: number }
  | { readonly type: "observe"; readonly untilMs: number; readonly pauseMs: number }
  | { readonly type: "close" };

export type LoadReport =
  | { readonly type: "done"; readonly done: number; readonly elapsedMs: number }
  /** Row and moment, in ms of CLOCK_MONOTONIC. */
  | { readonly type: "times"; readonly times: readonly (readonly [number, number])[] };

/** Enough for an order to arrive at ten processes. */
const HEAD_START_MS = 40;

export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

export class Load {
  readonly #children: ChildProcess[] = [];
  readonly #failed: Promise<never>;

  /** One process for each of the settings. */
  constructor(settings: readonly LoadSettings[]) {
    const { promise, reject } = Promise.withResolvers<never>();
    this.#failed = promise;
    this.#failed.catch(() => undefined); // Whoever waits hears of it.
    for (const _ of settings) {
      const child = fork(fileURLToPath(new URL("./load.ts", import.meta.url)), { execArgv: ["--no-warnings"], stdio: ["ignore", "inherit", "inherit", "ipc"] });
      child.on("exit", (code, signal) => {
        if (code !== 0) reject(new Error(`a load process ended with ${code ?? signal}`));
      });
      this.#children.push(child);
    }
  }

  /** Processes that hold their database open. The first makes the table before the others come. */
  static async open(settings: readonly LoadSettings[]): Promise<Load> {
    const load = new Load(settings);
    for (const [i, one] of settings.entries()) await load.#ask(load.#children[i]!, { type: "open", settings: one });
    return load;
  }

  /** Any order to the first process; the next report of it. */
  async ask(order: LoadOrder): Promise<LoadReport> {
    return await this.#ask(this.#children[0]!, order);
  }

  /** The next report of the first process, without an order. */
  async next(): Promise<LoadReport> {
    return await this.#report(this.#children[0]!);
  }

  #ask(child: ChildProcess, order: LoadOrder): Promise<LoadReport> {
    const answer = this.#report(child);
    child.send(order);
    return answer;
  }

  #report(child: ChildProcess): Promise<LoadReport> {
    return Promise.race([this.#failed, new Promise<LoadReport>((resolve) => child.once("message", (message) => resolve(message as LoadReport)))]);
  }

  /** All processes at once, for `ms`. Resolves with the sum of their rates, in steps per second. */
  async rate(ms: number): Promise<number> {
    return (await this.work({ ms })).perSecond;
  }

  /** All processes at once, for a time or a number of steps each. */
  async work(extent: { readonly ms: number } | { readonly count: number }): Promise<{ done: number; perSecond: number }> {
    const atMs = monotonicMs() + HEAD_START_MS;
    const reports = await Promise.all(this.#children.map((child) => this.#ask(child, { type: "run", atMs, ...extent })));
    let done = 0;
    let perSecond = 0;
    for (const report of reports) {
      if (report.type !== "done") throw new Error("a load process answered something else");
      done += report.done;
      perSecond += report.done / (report.elapsedMs / 1_000);
    }
    return { done, perSecond };
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#children.map((child) => new Promise<void>((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      child.once("exit", () => resolve());
      if (child.connected) child.send({ type: "close" } satisfies LoadOrder);
      setTimeout(() => child.kill("SIGKILL"), 20_000).unref();
    })));
  }
}
