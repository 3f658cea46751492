/** The role machine: the table in ARCHITECTURE.md is the one in the code, and what must never happen does not, whatever comes in which order. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { EFFECTS, EVENTS, STATES, TRANSITIONS, holdsLease, mayWrite, step, type RoleEvent, type RoleState } from "../../../node/roles/role-machine.ts";

test("ARCHITECTURE.md shows exactly the transitions of the code", () => {
  const text = readFileSync(new URL("../../../ARCHITECTURE.md", import.meta.url), "utf8");
  const section = text.split(/^## /m).find((part) => part.startsWith("Roles\n"));
  assert.ok(section !== undefined, "there is a section Roles");
  const rows = section.split("\n").filter((line) => line.startsWith("| ")).slice(1).map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  assert.ok(rows.length > 10);
  assert.deepEqual(rows, TRANSITIONS.map(({ from, on, to, effects }) => [from.join(", "), on.join(", "), to, effects.join(", ")]));
});

test("every pair of state and event has at most one row, and every state, event and effect is used", () => {
  let pairs = 0;
  for (const state of STATES) {
    for (const event of EVENTS) {
      const rows = TRANSITIONS.filter(({ from, on }) => from.includes(state) && on.includes(event));
      assert.ok(rows.length <= 1, `${state} on ${event}`);
      pairs++;
      const [row] = rows;
      assert.deepEqual(step(state, event), row === undefined ? undefined : { state: row.to, effects: row.effects });
    }
  }
  assert.equal(pairs, STATES.length * EVENTS.length);
  for (const event of EVENTS) assert.ok(TRANSITIONS.some(({ on }) => on.includes(event)), event);
  for (const effect of EFFECTS.filter((name) => name !== "release")) assert.ok(TRANSITIONS.some(({ effects }) => effects.includes(effect)), effect);
  for (const state of STATES) assert.ok(TRANSITIONS.some(({ from, to }) => to === state || from.includes(state)), state);
});

test("whatever happens in whatever order: a node writes only between opened (or a renewal out of doubt) and a fence, and a lease that is lost is closed", () => {
  fc.assert(fc.property(fc.array(fc.constantFrom(...EVENTS), { maxLength: 60 }), (events) => {
    let state: RoleState = "follower";
    let open = false;
    for (const event of events) {
      const next = step(state, event);
      if (next === undefined) continue;
      const [from, to]: [RoleState, RoleState] = [state, next.state];
      if (mayWrite(to) && !mayWrite(from)) {
        assert.ok(event === "opened" || event === "renewed" || event === "kept", `${from} ${event}`);
        // Out of doubt or of a handoff the fence is lowered; after opening it is lowered by the opening.
        if (event !== "opened") assert.ok(next.effects.includes("unfence"));
        open = true;
      }
      if (mayWrite(from) && !mayWrite(to) && to !== "stopped") {
        assert.ok(next.effects.includes("fence") || next.effects.includes("hand"), `${from} ${event}`);
        open = false;
      }
      const loses: readonly RoleEvent[] = ["lost", "taken", "free"];
      if (holdsLease(from) && loses.includes(event)) assert.ok(to === "closing" && next.effects.includes("close"), `${from} ${event}`);
      if (to === "electing" && from !== "electing") assert.equal(from, "follower");
      assert.ok(!open || mayWrite(to) || to === "stopped");
      state = to;
    }
  }), { numRuns: 2_000 });
});
