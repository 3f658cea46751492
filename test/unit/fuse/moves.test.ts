/** Operations and renames of directories keep out of each other's way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Moves } from "../../../node/fuse/moves.ts";

test("without a move, operations begin at once", () => {
  const moves = new Moves();
  assert.equal(moves.enter({ path: "a/b" }), undefined);
  assert.equal(moves.enter({ path: "a/b" }), undefined);
});

test("a move waits for the operations below it, and for no others", async () => {
  const moves = new Moves();
  const below = { path: "a/b" };
  const into = { path: "x", to: "b/x" };
  moves.enter(below);
  moves.enter(into);
  moves.enter({ path: "ab" });
  let begun = false;
  const beginning = moves.begin({ path: "a", to: "b" }).then(() => { begun = true; });
  await turn();
  assert.equal(begun, false);
  moves.leave(below);
  await turn();
  assert.equal(begun, false);
  moves.leave(into);
  await beginning;
});

test("an operation that met a move goes on under its new path, or its old one when the move failed", async () => {
  for (const moved of [true, false]) {
    const moves = new Moves();
    await moves.begin({ path: "a", to: "b/c" });
    const operation = { path: "a/x", to: "a/y" };
    const waiting = moves.enter(operation);
    assert.ok(waiting);
    assert.equal(moves.enter({ path: "other" }), undefined);
    moves.end(moved);
    await waiting;
    assert.deepEqual(operation, moved ? { path: "b/c/x", to: "b/c/y" } : { path: "a/x", to: "a/y" });
  }
});

test("a second move waits for the first and is corrected by it", async () => {
  const moves = new Moves();
  await moves.begin({ path: "a", to: "b" });
  const second = { path: "a/in", to: "c" };
  const waiting = moves.begin(second);
  moves.end(true);
  await waiting;
  assert.equal(second.path, "b/in");
  assert.equal(moves.enter({ path: "c/x" }) instanceof Promise, true);
});
