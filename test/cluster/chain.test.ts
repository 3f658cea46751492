/**
 * The proof of replication: whatever several processes do to a database on the primary, followers show its committed states and no others.
 *
 * `SEED=n` replays a run, `CHAIN_COMMITS=n` makes it longer: `make test ONLY=cluster/chain CHAIN_COMMITS=20000`.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { createChain, stateOf } from "../support/chain.ts";
import { TestCluster, sluice, until } from "../support/cluster.ts";
import { LogRecorder } from "../support/log-states.ts";
import { Random, seedOfRun } from "../support/random.ts";

const CHAIN = new URL("../support/chain.ts", import.meta.url).pathname;
const COMMITS = Number(process.env["CHAIN_COMMITS"] ?? 600);

/** A chain process; its lines are collected. */
function start(...args: string[]): { lines: string[]; done: Promise<number | null>; kill(): void } {
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

test("every snapshot that a reader sees on a follower is a committed state of the primary, in order, and at the end all nodes are equal byte for byte", { timeout: 600_000 }, async (t) => {
  const seed = seedOfRun();
  t.diagnostic(`replay with: make test ONLY=cluster/chain SEED=${seed}`);
  const random = new Random(seed);
  const cluster = await TestCluster.start(["a", "b"]);
  try {
    const [a, b] = cluster.nodes as [TestCluster["nodes"][0], TestCluster["nodes"][0]];
    createChain(a.path("chain.db"));
    const recorder = new LogRecorder(a.data, "chain.db", join(cluster.folder, "kept"));
    await cluster.inStep("chain.db");
    const readers = [start("read", b.path("chain.db")), start("read", b.path("chain.db"))];
    await until("the readers to have begun", () => readers.every(({ lines }) => lines.includes("r")));
    const writers = [1, 2, 3].map((n) => start("write", a.path("chain.db"), String(seed + n), String(COMMITS / 3)));
    const codes = await Promise.all(writers.map(({ done }) => done));
    assert.deepEqual(codes, [0, 0, 0], `seed ${seed}: a writer failed`);
    await cluster.inStep("chain.db");
    for (const reader of readers) reader.kill();
    const committed = new Map(writers.flatMap(({ lines }) => lines).map((line) => line.split(" ").slice(1) as [string, string]));
    // What the primary has captured, whether or not a reader has seen it.
    let reached = 0;
    const captured = recorder.walk(join(cluster.folder, "replayed.db"), (txid) => {
      const state = stateOf(join(cluster.folder, "replayed.db"));
      assert.ok(typeof state === "object", `seed ${seed}: TXID ${txid} of the primary's log: ${String(state)}`);
      assert.ok(state.n >= reached, `seed ${seed}: TXID ${txid} of the primary's log goes back from state ${reached} to ${state.n}`);
      if (state.n > 0) assert.equal(committed.get(String(state.n)), state.hash, `seed ${seed}: TXID ${txid} of the primary's log, state ${state.n}, was never committed`);
      reached = state.n;
    });
    assert.equal(reached, Math.max(...[...committed.keys()].map(Number)), `seed ${seed}: the last state in the primary's log`);
    const ends = await Promise.all(readers.map(({ done }) => done));
    assert.deepEqual(ends, [null, null], `seed ${seed}: a reader on the follower has ended by itself: ${readers.map(({ lines }) => lines.at(-1)).join(", ")}`);

    assert.equal(committed.size, COMMITS - COMMITS % 3 - rolledBack(writers), `seed ${seed}`);
    let states = 0;
    for (const { lines } of readers) {
      let last = 0;
      for (const line of lines.filter((one) => one !== "r")) {
        const [kind, n, hash] = line.split(" ");
        assert.equal(kind, "s", `seed ${seed}: a reader on the follower: ${line}`);
        assert.ok(Number(n) >= last, `seed ${seed}: went back from ${last} to ${n}`);
        if (Number(n) > 0) assert.equal(committed.get(n!), hash, `seed ${seed}: state ${n} was never committed`);
        last = Number(n);
        states++;
      }
    }
    assert.ok(states > 10, `seed ${seed}: the readers saw only ${states} states`);
    t.diagnostic(`${committed.size} commits, ${captured} states in the log and ${states} snapshots on the follower verified`);

    const db = new Database(a.path("chain.db"), { timeout: 20_000 });
    db.pragma("wal_checkpoint(TRUNCATE)");
    assert.equal(db.pragma("integrity_check", { simple: true }), "ok");
    db.close();
    await cluster.inStep("chain.db");
    const target = join(cluster.folder, "b.db");
    const exported = await sluice("export", "-c", b.config, "--name", "chain.db", target);
    assert.equal(exported.code, 0, exported.output);
    assert.ok(fs.readFileSync(target).equals(fs.readFileSync(a.path("chain.db"))), `seed ${seed}: the follower differs`);
    assert.equal(random.seed, seed);
  } catch (error) {
    for (const node of cluster.nodes) t.diagnostic(node.output.split("\n").filter((line) => !line.includes('"level":30')).slice(-20).join("\n"));
    throw error;
  } finally {
    await cluster.dispose();
  }
});

/** Transactions that a writer counted but rolled back on purpose print no line. */
function rolledBack(writers: readonly { lines: readonly string[] }[]): number {
  return writers.reduce((sum, { lines }) => sum + (COMMITS - COMMITS % 3) / 3 - lines.length, 0);
}
