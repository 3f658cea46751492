/**
 * How fast may an application write, and read and write, in the mount of a primary that has a follower?
 *
 * Always holds: native and mount run the same program on the same file system, in turns of the same length; before the next native turn the
 * follower has caught up, so that neither side pays for the other. At the end the follower holds every row.
 */
import { mkdirSync } from "node:fs";
import Database from "better-sqlite3";
import { Load, type LoadSettings } from "./loader.ts";
import { Nodes } from "./nodes.ts";
import type { Bench, Outcome, Question } from "./question.ts";
import { ratios, spreadOf } from "./statistics.ts";
import type { RowId } from "./targets.ts";

interface WriteLoad {
  readonly work: LoadSettings["work"];
  readonly journalMode: NonNullable<LoadSettings["journalMode"]>;
  readonly synchronous: NonNullable<LoadSettings["synchronous"]>;
  readonly processes: number;
}

const LOADS = {
  "insert": { work: "insert", journalMode: "wal", synchronous: "normal", processes: 1 },
  "insert-10": { work: "insert", journalMode: "wal", synchronous: "normal", processes: 10 },
  "insert-full": { work: "insertTen", journalMode: "wal", synchronous: "full", processes: 1 },
  "insert-delete": { work: "insert", journalMode: "delete", synchronous: "full", processes: 1 },
  "mixed": { work: "mixed", journalMode: "wal", synchronous: "normal", processes: 1 },
} as const satisfies Partial<Record<RowId, WriteLoad>>;

/** Rows before the first turn, so that there is something to read and the tree has its usual depth. */
const PREFILL_ROWS = 20_000;

const question = (id: keyof typeof LOADS): Question => ({ rows: [id], run: async (bench) => [await measure(bench, id)] });

export const WRITE_QUESTIONS: readonly Question[] = (Object.keys(LOADS) as (keyof typeof LOADS)[]).map(question);

async function measure(bench: Bench, id: keyof typeof LOADS): Promise<Outcome> {
  const kind: WriteLoad = LOADS[id];
  const { rounds, roundMs, warmMs } = bench.effort;
  const nodes = bench.use(await Nodes.make(bench.folder, bench.driver));
  await nodes.start();
  mkdirSync(bench.path("native"));
  const name = "bench.db";
  const paths = [bench.path("native", name), nodes.primary.path(name)] as const;
  for (const path of paths) prefill(path, kind.journalMode);
  const loads: Load[] = [];
  for (const path of paths) {
    const { processes, ...rest } = kind;
    loads.push(bench.use(await Load.open(Array.from({ length: processes }, (_, i) => ({ ...rest, path, seed: i + 1 })))));
  }
  const [native, mount] = loads as [Load, Load];
  await nodes.inStep(name);
  // Neither side's first turn counts: caches, compiled code, file system metadata.
  await native.rate(warmMs);
  await mount.rate(warmMs);
  await nodes.inStep(name);

  const before: number[] = [];
  const after: number[] = [];
  const drains: number[] = [];
  for (let round = 0; round < rounds; round++) {
    before.push(await native.rate(roundMs));
    after.push(await mount.rate(roundMs));
    drains.push(await nodes.inStep(name));
  }
  const rows = [nodes.primary, nodes.follower].map((node) => countRows(node.path(name)));
  if (rows[0] !== rows[1] || rows[0]! <= PREFILL_ROWS) throw new Error(`the primary holds ${rows[0]} rows, the follower ${rows[1]}`);
  return {
    id, native: spreadOf(before), mount: spreadOf(after), score: spreadOf(ratios(after, before)),
    notes: [`after a turn of ${roundMs} ms the follower had everything within ${Math.round(spreadOf(drains).median)} ms (worst ${Math.round(spreadOf(drains).max)} ms)`],
  };
}

function prefill(path: string, journalMode: string): void {
  const db = new Database(path);
  db.pragma(`journal_mode = ${journalMode}`);
  db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
  db.prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO t(body) SELECT randomblob(100) FROM n").run(PREFILL_ROWS);
  db.close();
}

function countRows(path: string): number {
  const db = new Database(path);
  try {
    return db.prepare("SELECT count(*) FROM t").pluck().get() as number;
  } finally {
    db.close();
  }
}
