/**
 * What a question is: a program that measures one or more rows of the table, and what it is given.
 *
 * Always holds: a question starts and ends its own nodes and processes by `use`, so that whatever happens they are taken down; it answers one
 * outcome for each of its rows. A question that cannot run throws a Skip with the reason, and the report says so.
 */
import { join } from "node:path";
import type { RowId } from "./targets.ts";
import type { Spread } from "./statistics.ts";

export interface Outcome {
  readonly id: RowId;
  /** Absent where nothing native can be compared. */
  readonly native?: Spread;
  readonly mount: Spread;
  /** What is held against the marks: a ratio, or the value itself. */
  readonly score: Spread;
  /** What a reader of the table must know about this row. */
  readonly notes: readonly string[];
}

/** How long and how often things are measured. */
export interface Effort {
  readonly rounds: number;
  /** One side of one round, in ms. */
  readonly roundMs: number;
  /** One side, before anything counts, in ms: until V8 has compiled what runs all the time. A node runs for days; a turn lasts moments. */
  readonly warmMs: number;
  readonly readDatabaseMiB: number;
  readonly bigDatabaseMiB: number;
  readonly bigRounds: number;
  readonly latencyMs: number;
  readonly latencyRounds: number;
}

export interface Question {
  /** Its rows; `--only` selects by them. */
  readonly rows: readonly RowId[];
  run(bench: Bench): Promise<readonly Outcome[]>;
}

export class Skip extends Error {}

/** The node does not run as it was asked to: no other question would get further. */
export class Unavailable extends Skip {}

/** What a question works with. */
export class Bench {
  /** An empty folder on the file system that is measured. */
  readonly folder: string;
  readonly effort: Effort;
  readonly driver: "passthrough" | "fuse-native";
  readonly say: (text: string) => void;
  readonly #used: (() => void | Promise<void>)[] = [];

  constructor(parts: { readonly folder: string; readonly effort: Effort; readonly driver: Bench["driver"]; readonly say: (text: string) => void }) {
    this.folder = parts.folder;
    this.effort = parts.effort;
    this.driver = parts.driver;
    this.say = parts.say;
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** Registers something to be taken down at the end of the question, last come first gone. */
  use<T extends { dispose(): void | Promise<void> }>(thing: T): T {
    this.#used.push(() => thing.dispose());
    return thing;
  }

  async dispose(): Promise<void> {
    for (let end = this.#used.pop(); end !== undefined; end = this.#used.pop()) {
      try {
        await end();
      } catch (error) {
        this.say(`Taking down: ${String(error)}`);
      }
    }
  }
}
