/** The decision table: complete, without overlap, the same as in ARCHITECTURE.md, and never what must not happen. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { ACTIONS, DECISIONS, FACT_VALUES, REASONS, decide, everyCombination, methodClass, needsPrimary, rowMatches, type Facts, type Row } from "../../../proxy/decide.ts";

const anyFacts = fc.record(Object.fromEntries(Object.entries(FACT_VALUES).map(([name, values]) => [name, fc.constantFrom(...values)]))) as unknown as fc.Arbitrary<Facts>;

test("every combination of facts matches exactly one row, and decide() says what that row says", () => {
  const all = everyCombination();
  assert.equal(all.length, 3 * 2 * 3 * 3 * 2 ** 5);
  assert.equal(new Set(all.map((facts) => JSON.stringify(facts))).size, all.length);
  for (const facts of all) {
    const rows = DECISIONS.filter((row) => rowMatches(row, facts));
    assert.equal(rows.length, 1, `${rows.length} rows for ${JSON.stringify(facts)}`);
    assert.deepEqual({ ...decide(facts) }, { action: rows[0]![9], reason: rows[0]![10] }, JSON.stringify(facts));
  }
});

test("every row is reached by some combination, and every action and reason is used", () => {
  const all = everyCombination();
  for (const row of DECISIONS) assert.ok(all.some((facts) => rowMatches(row, facts)), `dead row ${JSON.stringify(row)}`);
  assert.deepEqual(new Set(DECISIONS.map((row) => row[9])), new Set(ACTIONS));
  assert.deepEqual(new Set(DECISIONS.map((row) => row[10])), new Set(REASONS));
});

/** A row of the code as a line of the document: `_` is an empty cell, several values stand side by side. */
const lineOf = (row: Row): string => `| ${row.map((cell) => (cell === undefined ? "" : typeof cell === "string" ? cell : cell.join(", "))).join(" | ")} |`.replaceAll("|  |", "| |").replaceAll("|  |", "| |");

test("ARCHITECTURE.md shows the table, row by row", () => {
  const text = readFileSync(new URL("../../../ARCHITECTURE.md", import.meta.url), "utf8");
  const head = `| ${Object.keys(FACT_VALUES).join(" | ")} | action | reason |`;
  const begin = text.indexOf(head);
  assert.ok(begin >= 0, `no line "${head}"`);
  const [, , ...below] = text.slice(begin).split("\n");
  const shown = below.slice(0, below.findIndex((line) => !line.startsWith("|")));
  assert.deepEqual(shown, DECISIONS.map(lineOf));
});

test("decide() never does what must not happen", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
  console.log(`replay with SEED=${seed}`);
  fc.assert(
    fc.property(anyFacts, (facts) => {
      const { action } = decide(facts);
      // Without a rule that says otherwise, a write is served on the primary only.
      if (action === "local" && needsPrimary(facts)) assert.equal(facts.role, "primary");
      // A follower never serves a read that its client would find stale, unless the client or a rule allows it.
      if (action === "local" && facts.rule === "none" && facts.method === "read" && facts.role !== "primary" && facts.consistency !== "eventual") assert.equal(facts.position, "reached");
      // No loops: what was forwarded is never forwarded again.
      if (facts.hop === "forwarded") assert.notEqual(action, "forward");
      // Nothing is forwarded into the void, and nothing from the primary or without knowing one's role.
      if (action === "forward") assert.deepEqual([facts.primary, facts.role], ["known", "follower"]);
      // Waiting and holding end.
      if (facts.lag === "spent") assert.notEqual(action, "wait");
      if (facts.hold === "spent") assert.notEqual(action, "hold");
      // Only reads wait for a position; a write would change what others wait for.
      if (action === "wait") assert.equal(needsPrimary(facts), false);
      // Nothing is held that has somewhere to go.
      if (action === "hold") assert.ok(facts.role === "unknown" || facts.primary === "unknown");
      // The primary never waits, holds or refuses.
      if (facts.role === "primary") assert.equal(action, "local");
      // A read that asks for nothing is always served, whatever happens around the node.
      if (facts.rule === "none" && facts.method === "read" && (facts.position === "reached" || facts.consistency === "eventual")) assert.equal(action, "local");
    }),
    { seed, numRuns: 5_000 },
  );
});

/** What stands in place of time and network: after how many rounds a primary appears, and the node catches up. */
const anyCourse = fc.record({ facts: anyFacts, primaryAfter: fc.nat(6), reachedAfter: fc.nat(6), lagRounds: fc.nat(4), holdRounds: fc.nat(4) });

test("a request that waits and holds comes to an end, and is forwarded over at most one hop", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
  console.log(`replay with SEED=${seed}`);
  fc.assert(
    fc.property(anyCourse, ({ facts: first, primaryAfter, reachedAfter, lagRounds, holdRounds }) => {
      const facts = { ...first };
      let [lag, hold, hops] = [lagRounds, holdRounds, 0];
      for (let round = 0; ; round++) {
        assert.ok(round <= lagRounds + holdRounds + 2, "it goes on for ever");
        if (round >= primaryAfter) facts.primary = "known";
        if (round >= reachedAfter) facts.position = "reached";
        facts.lag = lag > 0 ? "left" : "spent";
        facts.hold = hold > 0 ? "left" : "spent";
        const { action } = decide(facts);
        if (action === "wait") lag--;
        else if (action === "hold") hold--;
        else if (action === "forward") {
          // The next node sees it as forwarded; let it not be the primary, the worst case.
          hops++;
          facts.hop = "forwarded";
          facts.role = "follower";
        } else break;
      }
      assert.ok(hops <= 1);
    }),
    { seed, numRuns: 5_000 },
  );
});

test("GET, HEAD and OPTIONS are reads, everything else is a write", () => {
  for (const method of ["GET", "HEAD", "OPTIONS"]) assert.equal(methodClass(method), "read");
  for (const method of ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "QUERY", ""]) assert.equal(methodClass(method), "write");
});
