/** The plan of the fault tests: made from a seed, complete, within its bounds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeFault, kindsOf, planFaults, type PlanOptions, type Step } from "../../faults/plan.ts";

const OPTIONS: PlanOptions = { seed: 7, nodes: ["a", "b", "c"], count: 60, ttlMs: 2_000, elections: true, store: true, restMs: 500 };
const kindOf = (step: Step): string => (step.kind === "kill" || step.kind === "pause" ? `${step.kind} ${step.part}` : step.kind === "cut" && step.oneWay ? "cut one-way" : step.kind);

test("a seed gives the same plan again, another seed another one", () => {
  assert.deepEqual(planFaults(OPTIONS), planFaults(OPTIONS));
  assert.notDeepEqual(planFaults(OPTIONS), planFaults({ ...OPTIONS, seed: 8 }));
});

test("every run of as many faults as there are kinds has each kind", () => {
  for (const store of [true, false]) {
    const options = { ...OPTIONS, store, elections: store };
    const kinds = kindsOf(options);
    assert.ok(kinds.length >= (store ? 19 : 15), `${kinds.length} kinds`);
    for (let seed = 1; seed <= 50; seed++) {
      const plan = planFaults({ ...options, seed, count: kinds.length * 2 });
      for (const half of [plan.slice(0, kinds.length), plan.slice(kinds.length)]) assert.deepEqual(half.map(kindOf).sort(), [...kinds].sort());
    }
  }
});

test("faults last at most three TTL, hit nodes that there are, and at most two overlap", () => {
  let seen = 0;
  for (let seed = 1; seed <= 50; seed++) {
    const plan = planFaults({ ...OPTIONS, seed });
    for (const [index, step] of plan.entries()) {
      if ("ms" in step) assert.ok(step.ms > 0 && step.ms <= 3 * OPTIONS.ttlMs, describeFault(step));
      if ("node" in step) assert.ok(OPTIONS.nodes.includes(step.node));
      if (step.kind === "cut") assert.notEqual(step.from, step.to);
      assert.ok(!(step.overlaps && plan[index + 1]?.overlaps === true));
      seen += step.overlaps ? 1 : 0;
    }
  }
  assert.ok(seen > 100, `${seen} overlaps`);
});
