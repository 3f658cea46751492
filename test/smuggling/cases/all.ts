/** All written cases, and that their names are unique. */
import assert from "node:assert/strict";
import type { Case } from "./case.ts";
import { CHUNKS } from "./chunks.ts";
import { FRAMING } from "./framing.ts";
import { HEADS } from "./heads.ts";

export const CASES: readonly Case[] = [...FRAMING, ...CHUNKS, ...HEADS];

const names = CASES.map(({ name }) => name);
assert.deepEqual(names.filter((name, index) => names.indexOf(name) !== index), [], "names of several cases");
