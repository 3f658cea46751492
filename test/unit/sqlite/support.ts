/** Databases made by real SQLite, and real files as the formats read them. */
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import Database from "better-sqlite3";
import type { ReadAt } from "../../../node/sqlite/read-at.ts";

export const PAGE_SIZES: readonly number[] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/** Runs `body` with a folder of its own. */
export async function withFolder<T>(body: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "sluice-sqlite-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Opens a file for reading as the formats do. */
export function openFile(path: string): { read: ReadAt; size: number; [Symbol.dispose](): void } {
  const fd = openSync(path, "r");
  return { read: (buffer, offset) => readSync(fd, buffer, 0, buffer.length, offset), size: fstatSync(fd).size, [Symbol.dispose]: () => closeSync(fd) };
}

export const readerOf = (bytes: Buffer): ReadAt => (buffer, offset) => (offset >= bytes.length ? 0 : bytes.copy(buffer, 0, offset));

/** A database with rows, a freelist, and no writer. */
export function makeDatabase(path: string, pageSize: number, rows: number): void {
  const db = new Database(path);
  db.exec(`PRAGMA page_size=${pageSize}; PRAGMA journal_mode=DELETE; CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, b BLOB); CREATE TABLE gone(b BLOB);`);
  const blob = Math.floor(pageSize * 0.6);
  db.exec(`WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<${rows}) INSERT INTO t SELECT i, 0, zeroblob(${blob}) FROM s`);
  db.exec(`WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<${rows}) INSERT INTO gone SELECT zeroblob(${blob}) FROM s; DROP TABLE gone;`);
  db.close();
}

/** The pages of a file, by page number. */
export function pagesOf(path: string, pageSize: number): Map<number, Buffer> {
  const bytes = readFileSync(path);
  return new Map(Array.from({ length: bytes.length / pageSize }, (_, i) => [i + 1, bytes.subarray(i * pageSize, (i + 1) * pageSize)]));
}

/** A program that runs the SQL of each line it reads and then prints "done", or what is wrong. */
const NODE_WRITER = `
  import Database from ${JSON.stringify(import.meta.resolve("better-sqlite3"))};
  import { createInterface } from "node:readline";
  const db = new Database(process.argv[1]);
  for await (const line of createInterface({ input: process.stdin })) {
    try { db.exec(line); console.log("done"); } catch (error) { console.log(error.message); }
  }`;
const PYTHON_WRITER = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    for statement in line.split(";"):
        db.execute(statement).fetchall()
    print("done", flush=True)`;

export const WRITERS = {
  "better-sqlite3": { command: process.execPath, args: ["--input-type=module", "-e", NODE_WRITER] },
  python3: { command: "python3", args: ["-c", PYTHON_WRITER] },
} as const;

/** Why a writer cannot run here, or false. */
export function skipWriter(name: keyof typeof WRITERS): string | false {
  if (name !== "python3" || spawnSync("python3", ["-c", "import sqlite3"]).status === 0) return false;
  const reason = "SKIPPED: python3 with sqlite3 is not installed, so its journals were NOT read";
  console.error(`\n*** ${reason}\n`);
  return reason;
}

/** A process that holds a database open, so that it can be stopped in the middle of a transaction. */
export class Writer {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  #errors = "";

  constructor(name: keyof typeof WRITERS, path: string) {
    const { command, args } = WRITERS[name];
    this.#child = spawn(command, [...args, path]);
    this.#child.stderr.on("data", (text) => (this.#errors += String(text)));
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async run(...lines: string[]): Promise<void> {
    for (const line of lines) {
      this.#child.stdin.write(`${line}\n`);
      const { value } = await this.#answers.next();
      if (value !== "done") throw new Error(`the writer failed at "${line}": ${value} ${this.#errors}`);
    }
  }

  /** Ends it with SIGKILL, and returns when it is gone. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await gone;
  }
}
