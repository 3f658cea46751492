/** The tables of the FUSE protocol agree with the kernel header and with each other. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { STRUCTS } from "../../../node/fuse/abi.ts";
import { HANDLERS } from "../../../node/fuse/handlers.ts";
import { OPCODE_LIMIT, OPCODES } from "../../../node/fuse/opcodes.ts";

/** struct → {SIZE, field: offset}. */
function readFixture(): Map<string, Record<string, number>> {
  const structs = new Map<string, Record<string, number>>();
  for (const line of readFileSync(new URL("../../fixtures/fuse-abi.txt", import.meta.url), "utf8").split("\n")) {
    const match = /^(fuse_\w+) \((\d+)\): (.*)$/.exec(line);
    if (match === null) continue;
    const fields: Record<string, number> = { SIZE: Number(match[2]) };
    for (const field of match[3]!.split(" ")) {
      const part = /^(\w+)(?:\[\])?@(\d+)/.exec(field);
      assert.ok(part, `field of ${match[1]}: ${field}`);
      fields[part[1]!] = Number(part[2]);
    }
    structs.set(match[1]!, fields);
  }
  return structs;
}

test("every offset and size that is used is the kernel's", () => {
  const kernel = readFixture();
  assert.ok(kernel.size > 30);
  for (const [name, layout] of Object.entries(STRUCTS)) {
    const fields = kernel.get(name);
    assert.ok(fields, name);
    for (const [field, offset] of Object.entries(layout)) assert.equal(offset, fields[field], `${name}.${field}`);
  }
});

test("every opcode of the table has a handler, and every handler an opcode", () => {
  assert.deepEqual(OPCODES.map((opcode) => opcode.number).sort((a, b) => a - b), Object.keys(HANDLERS).map(Number));
  assert.equal(new Set(OPCODES.map((opcode) => opcode.name)).size, OPCODES.length);
  assert.ok(OPCODES.every((opcode) => opcode.number < OPCODE_LIMIT));
});

test("FSYNC is served: answering ENOSYS once would make the kernel skip it for ever", () => {
  assert.ok(OPCODES.some((opcode) => opcode.name === "FSYNC" && opcode.replies));
});

test("what only gives back is served while the gate is closed", () => {
  const always = OPCODES.filter((opcode) => opcode.gate).map((opcode) => opcode.name).sort();
  assert.deepEqual(always, ["BATCH_FORGET", "DESTROY", "FLUSH", "FORGET", "INIT", "INTERRUPT", "NOTIFY_REPLY", "RELEASE", "RELEASEDIR", "STATFS"]);
});
