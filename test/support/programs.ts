/**
 * SQLite programs for tests: other processes with a SQLite of their own, as an application is one.
 *
 * Always holds: a Program is one child process with better-sqlite3 in it, driven step by step, so that a test can hold a transaction open, read
 * beside it and kill it in the middle. What it says (`say`) is written at once, so that it survives a kill -9. The shell and Python bring
 * SQLites of other builds.
 */
import { execFileSync, fork, spawnSync, type ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import Database from "better-sqlite3";

/** What a step gets beside its arguments. */
export interface ProgramScope {
  readonly Database: typeof Database;
  readonly fs: typeof fs;
  /** Connections and the like that later steps need. */
  readonly kept: Record<string, Database.Database>;
  /** Writes one line that the test sees, even if the program is killed right after. */
  say(line: string): void;
}

type Step<A extends readonly unknown[], R> = (scope: ProgramScope, ...args: A) => R | Promise<R>;

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly message: string; readonly code?: string };
}

/** An error inside a program, with SQLite's code. */
export class ProgramError extends Error {
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(code === undefined ? message : `${code}: ${message}`);
    this.code = code;
  }
}

export class Program {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #exited: Promise<void>;
  /** What it says, in a file: a pipe would lose what a killed program has written into it but nobody has read. */
  readonly #said = join(mkdtempSync(join(tmpdir(), "sluice-program-")), "said");
  #nextId = 1;

  constructor() {
    const fd = openSync(this.#said, "w");
    this.#child = fork(new URL(import.meta.url).pathname, ["program"], { stdio: ["ignore", fd, "inherit", "ipc"], execArgv: ["--no-warnings"], serialization: "advanced" });
    closeSync(fd);
    this.#child.on("message", (answer: Answer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.error !== undefined) waiting?.reject(new ProgramError(answer.error.message, answer.error.code));
      else waiting?.resolve(answer.value);
    });
    this.#exited = new Promise((resolve) => this.#child.on("exit", () => {
      for (const { reject } of this.#waiting.values()) reject(new ProgramError("the program ended", undefined));
      this.#waiting.clear();
      resolve();
    }));
  }

  /** The lines that it has said so far, until `end`. */
  get lines(): string[] {
    return readFileSync(this.#said, "utf8").split("\n").slice(0, -1);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Runs a step in the program. The step is sent as its source: it sees its arguments and nothing of the test around it. */
  run<A extends readonly unknown[], R>(step: Step<A, R>, ...args: A): Promise<R> {
    const id = this.#nextId++;
    const answer = new Promise<R>((resolve, reject) => this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject }));
    this.#child.send({ id, source: step.toString(), args });
    return answer;
  }

  /** Opens `path` in the program, runs the SQL, closes. */
  exec(path: string, ...sql: string[]): Promise<void> {
    return this.run(({ Database }, path, sql) => {
      const db = new Database(path, { timeout: 20_000 });
      // By default this library refuses journal_mode=OFF.
      db.unsafeMode();
      try {
        for (const text of sql) db.exec(text);
      } finally {
        db.close();
      }
    }, path, sql);
  }

  /** kill -9. What it has said can still be read. Steps that were running are rejected. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Ends it and takes away what it said. */
  async end(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    await this.#exited;
    rmSync(dirname(this.#said), { recursive: true, force: true });
  }
}

/** The sqlite3 shell; returns what it printed. */
export function shell(path: string, ...commands: string[]): string {
  return execFileSync("sqlite3", ["-bail", "-cmd", ".timeout 20000", path, ...commands], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

/** A script for Python; `sys.argv[1:]` are the arguments. Returns what it printed. */
export function python(script: string, ...args: string[]): string {
  return execFileSync("python3", ["-c", script, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

/** Why a test that needs a tool must skip, or false. Says so loudly, because something then goes unchecked. */
export function skipWithout(...tools: string[]): string | false {
  const missing = tools.filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);
  if (missing.length === 0) return false;
  const reason = `SKIPPED: ${missing.join(", ")} is not installed, so this was NOT checked`;
  console.error(`\n*** ${reason}\n`);
  return reason;
}

/** The bytes of a database as SQLite sees them through its pager, WAL included. */
export function bytesOf(path: string): Buffer {
  const db = new Database(path, { readonly: true, timeout: 20_000 });
  try {
    // Until its first transaction a connection believes the page size in the file, and the WAL may hold another.
    db.exec("BEGIN; SELECT count(*) FROM sqlite_schema");
    return db.serialize();
  } finally {
    db.close();
  }
}

function program(): void {
  const kept: ProgramScope["kept"] = {};
  process.on("disconnect", () => process.exit(0));
  process.on("message", (message: { id: number; source: string; args: unknown[] }) => {
    const work = async (): Promise<void> => {
      const step = (0, eval)(`(${message.source})`) as Step<unknown[], unknown>;
      try {
        process.send!({ id: message.id, value: await step({ Database, fs, kept, say: (line) => void writeSync(1, `${line}\n`) }, ...message.args) });
      } catch (error) {
        const { message: text, code } = error as Error & { code?: string };
        process.send!({ id: message.id, error: { message: text, ...(code === undefined ? {} : { code }) } });
      }
    };
    void work();
  });
}

if (process.argv[1] === new URL(import.meta.url).pathname && process.argv[2] === "program") program();
