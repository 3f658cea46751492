/** What the end of a test run says of a failure. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inBrief } from "../support/tally.ts";

const brief = (text: string): string => inBrief({ name: "a fact", text });

test("a failure in brief is one line: all of the message, what caused it, and the line of the test", () => {
  const text = `Error: GET /me failed
  with 2 lines
    at until (file:///x/test/support/cluster.ts:24:31)
    at async TestContext.<anonymous> (file:///x/test/proxy/life.test.ts:7:5) {
  [cause]: Error: read ECONNRESET
      at TCP.onStreamRead (node:internal/stream_base_commons:216:20)
}`;
  assert.equal(brief(text), "a fact: Error: GET /me failed with 2 lines, caused by Error: read ECONNRESET (test/proxy/life.test.ts:7)");
  assert.equal(brief("plain"), "a fact: plain");
  assert.equal(brief("Error: x\n    at f (file:///x/test/support/ports.ts:3:1)"), "a fact: Error: x (test/support/ports.ts:3)");
});

test("a message that goes on and on is cut", () => {
  assert.equal(brief(`Error: ${"x".repeat(10_000)}`).length, "a fact: ".length + 300);
});
