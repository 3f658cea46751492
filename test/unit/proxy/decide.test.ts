/** The decision table: complete, without overlap, and never what must not happen. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ACTIONS, DECISIONS, FACT_VALUES, REASONS, decide, methodClass, needsPrimary, rowMatches, type Facts } from "../../../proxy/decide.ts";

function combinations(): Facts[] {
  let all: Record<string, string>[] = [{}];
  for (const [name, values] of Object.entries(FACT_VALUES)) all = all.flatMap((facts) => values.map((value) => ({ ...facts, [name]: value })));
  return all as unknown as Facts[];
}

const anyFacts = fc.record(Object.fromEntries(Object.entries(FACT_VALUES).map(([name, values]) => [name, fc.constantFrom(...values)]))) as unknown as fc.Arbitrary<Facts>;

test("every combination of facts matches exactly one row", () => {
  const all = combinations();
  assert.equal(all.length, 3 * 2 * 3 * 2 * 2 * 2 * 2);
  for (const facts of all) {
    const rows = DECISIONS.filter((row) => rowMatches(row, facts));
    assert.equal(rows.length, 1, `${rows.length} rows for ${JSON.stringify(facts)}`);
    assert.deepEqual(decide(facts), { action: rows[0]![7], reason: rows[0]![8] });
  }
});

test("every row is reached by some combination, and every action and reason is used", () => {
  const all = combinations();
  for (const row of DECISIONS) assert.ok(all.some((facts) => rowMatches(row, facts)), `dead row ${JSON.stringify(row)}`);
  assert.deepEqual(new Set(DECISIONS.map((row) => row[7])), new Set(ACTIONS));
  assert.deepEqual(new Set(DECISIONS.map((row) => row[8])), new Set(REASONS));
});

test("decide() never does what must not happen", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
  console.log(`replay with SEED=${seed}`);
  fc.assert(
    fc.property(anyFacts, (facts) => {
      const { action } = decide(facts);
      // Without a rule that says otherwise, a write is served on the primary only.
      if (action === "local" && needsPrimary(facts)) assert.equal(facts.role, "primary");
      // A follower never serves a read that its client would find stale.
      if (action === "local" && facts.rule === "none" && facts.method === "read" && facts.role !== "primary") assert.equal(facts.position, "reached");
      // No loops: what was forwarded is never forwarded again.
      if (facts.hop === "forwarded") assert.notEqual(action, "forward");
      // Nothing is forwarded into the void, and nothing from the primary or without knowing one's role.
      if (action === "forward") assert.deepEqual([facts.primary, facts.role], ["known", "follower"]);
      // Waiting ends.
      if (facts.patience === "spent") assert.notEqual(action, "wait");
      // The primary never waits and never refuses.
      if (facts.role === "primary") assert.equal(action, "local");
      // A read without a cookie is always served, whatever happens around the node.
      if (facts.rule === "none" && facts.method === "read" && facts.position === "reached") assert.equal(action, "local");
    }),
    { seed, numRuns: 2_000 },
  );
});

test("GET, HEAD and OPTIONS are reads, everything else is a write", () => {
  for (const method of ["GET", "HEAD", "OPTIONS"]) assert.equal(methodClass(method), "read");
  for (const method of ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "QUERY", ""]) assert.equal(methodClass(method), "write");
});
