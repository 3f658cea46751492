/**
 * How much memory the processes of a node take, sampled while they work.
 *
 * Always holds: PSS from /proc/PID/smaps_rollup, so a page that several processes share counts once. A second node on the same machine shares
 * the program's text as well and makes PSS smaller than on a machine of its own; `alone` answers for that case, from /proc/PID/smaps.
 */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

interface Processes {
  readonly guardian: number;
  readonly engine: number;
  readonly proxy: number;
}

/** In MiB. */
export interface NodeMemory extends Processes {
  readonly total: number;
}

const EVERY_MS = 150;
const KIB_PER_MIB = 1_024;
const NOTHING: NodeMemory = { guardian: 0, engine: 0, proxy: 0, total: 0 };

export class MemoryMeter {
  readonly #nodes: ReadonlyMap<string, Processes>;
  readonly #peaks = new Map<string, NodeMemory>();
  readonly #alone = new Map<string, number>();
  readonly #loop: Promise<void>;
  #running = true;

  constructor(nodes: Readonly<Record<string, () => Processes>>) {
    this.#nodes = new Map(Object.entries(nodes).map(([name, processes]) => [name, processes()]));
    this.#loop = this.#sample();
    this.#loop.catch(() => undefined); // stop() reports it.
  }

  async #sample(): Promise<void> {
    while (this.#running) {
      for (const [name, pids] of this.#nodes) {
        const [guardian, engine, proxy] = await Promise.all([pss(pids.guardian), pss(pids.engine), pss(pids.proxy)]);
        const now = { guardian, engine, proxy, total: guardian + engine + proxy };
        if (now.total > this.peak(name).total) this.#peaks.set(name, now);
      }
      await sleep(EVERY_MS);
    }
    for (const [name, pids] of this.#nodes) this.#alone.set(name, aloneOf([pids.guardian, pids.engine, pids.proxy]));
  }

  /** The moment at which the node's processes together took most. */
  peak(name: string): NodeMemory {
    return this.#peaks.get(name) ?? NOTHING;
  }

  /** What the node would take on a machine of its own, in MiB, at the time of `stop`. */
  alone(name: string): number {
    return this.#alone.get(name) ?? 0;
  }

  /** Takes a last sample and ends. Rejects when a process has gone meanwhile. */
  async stop(): Promise<void> {
    this.#running = false;
    await this.#loop;
  }

  dispose(): void {
    this.#running = false;
  }
}

async function pss(pid: number): Promise<number> {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/smaps_rollup`, "latin1"))![1]) / KIB_PER_MIB;
}

/** Anonymous memory of all processes, and of each mapped file the most that one of them has of it. MiB. */
function aloneOf(pids: readonly number[]): number {
  let own = 0;
  const files = new Map<string, number>();
  for (const pid of pids) {
    const mine = new Map<string, number>();
    let file = "";
    for (const line of readFileSync(`/proc/${pid}/smaps`, "latin1").split("\n")) {
      const head = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+)\s*(.*)$/.exec(line);
      if (head !== null) file = head[1] === "0" ? "" : head[2]!;
      const rss = /^Rss:\s+(\d+) kB$/.exec(line);
      const anonymous = /^Anonymous:\s+(\d+) kB$/.exec(line);
      if (rss !== null && file !== "") mine.set(file, (mine.get(file) ?? 0) + Number(rss[1]));
      if (rss !== null && file === "") own += Number(rss[1]);
      if (anonymous !== null && file !== "") {
        own += Number(anonymous[1]);
        mine.set(file, (mine.get(file) ?? 0) - Number(anonymous[1]));
      }
    }
    for (const [name, size] of mine) files.set(name, Math.max(files.get(name) ?? 0, size));
  }
  return (own + [...files.values()].reduce((sum, size) => sum + size, 0)) / KIB_PER_MIB;
}
