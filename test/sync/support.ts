/** For the tests of durability sync: chain processes (see test/support/chain.ts), and what a stopped node has stored. */
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { contentOf, openStore } from "../recovery/node-store.ts";
import type { TestNode } from "../support/cluster.ts";

const CHAIN = new URL("../support/chain.ts", import.meta.url).pathname;

export interface Chain { readonly lines: string[]; readonly done: Promise<number | null>; kill(): void }

/** A chain process; its lines are collected. */
export function chain(...args: string[]): Chain {
  const child = spawn(process.execPath, ["--no-warnings", CHAIN, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  let rest = "";
  child.stdout.on("data", (data: Buffer) => {
    const parts = (rest + data.toString()).split("\n");
    rest = parts.pop()!;
    lines.push(...parts);
  });
  return { lines, done: new Promise((resolve) => child.on("exit", (code) => resolve(code))), kill: () => void child.kill("SIGKILL") };
}

/**
 * The transactions that a stopped follower has stored, published or not: its data folder is copied, and the copy does what an elected node does
 * first (attach, then settle).
 */
export async function settledContent(node: TestNode): Promise<Set<number>> {
  const scratch = fs.mkdtempSync(join(tmpdir(), "sluice-test-settled-"));
  try {
    const data = join(scratch, "data");
    fs.cpSync(node.data, data, { recursive: true, filter: (path) => !path.includes(`${node.data}/run`) });
    const { store, reports } = openStore(data, { name: node.name, boot: Buffer.from(fs.readFileSync("/proc/sys/kernel/random/boot_id", "latin1").replaceAll("-", "").trim(), "hex") });
    await store.becomeFollower({ live: false });
    await store.settle("app.db", 0);
    const failed = reports.filter(({ error }) => error !== undefined);
    if (failed.length > 0) throw new Error(failed.map(({ message, error }) => `${message}: ${String(error)}`).join("; "));
    await store.close({ clean: false });
    const content = contentOf(data, join(scratch, "copy"));
    if (content === undefined) return new Set();
    // A database in memory has no WAL, whatever its header says.
    content.fill(1, 18, 20);
    const db = new Database(content);
    try {
      return new Set(db.prepare("SELECT DISTINCT n FROM t").pluck().all() as number[]);
    } finally {
      db.close();
    }
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}
