/**
 * Real nodes under a seeded sequence of faults, with clients at their proxies: what was acknowledged stays, and all nodes end equal.
 *
 * `SEED=n make test ONLY=faults` replays the plan of a run; how requests and faults interleave is not repeated exactly. `make chaos` goes on for
 * as long as wanted.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { seedOfRun } from "../support/random.ts";
import { leaseKind } from "./leases.ts";
import { whyNoNetwork } from "./network.ts";
import { replayLine, runFaults } from "./run.ts";

const skip = whyNoNetwork();
if (skip !== false) console.error(`\n*** ${skip}\n`);

async function hold(t: TestContext, lease: string, count: number): Promise<void> {
  const seed = seedOfRun();
  const options = { seed, nodes: ["a", "b", "c"], count, lease: leaseKind(lease), ttlMs: 1_500, restMs: 800 };
  t.diagnostic(`seed ${seed}; again: ${replayLine(options)}`);
  const said: string[] = [];
  const result = await runFaults({ ...options, say: (line) => said.push(line) }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}\n${said.join("\n")}`, { cause: error });
  });
  t.diagnostic(`${result.faults} faults, ${result.acknowledged} writes acknowledged, ${result.unknown} unknown, ${result.reads} reads`);
  assert.deepEqual(result.violations, [], said.join("\n"));
  // A run in which clients were hardly served would prove nothing.
  assert.ok(result.acknowledged > 100 && result.reads > 100, `${result.acknowledged} writes, ${result.reads} reads`);
}

test("with a primary by configuration no acknowledged write is lost under faults of all kinds, no read goes back, and three nodes end equal", { skip, timeout: 560_000 }, async (t) => {
  await hold(t, "static", 20);
});

test("with elections over etcd, under 40 faults of all kinds, what is not there at the end is listed in diverged/, no epoch has two writers, and three nodes end equal", { skip, timeout: 560_000 }, async (t) => {
  await hold(t, "etcd", 40);
});
