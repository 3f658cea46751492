/** Ids of a `-wal`: which file each means, and who gets which. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ALIAS_STEP, ALIASES_MAX, Aliases, aliasesOf, fileId } from "../../../node/fuse/aliases.ts";
import { TRUSTED_DIRECTORY_ID, VIRTUAL_BASE } from "../../../node/fuse/policy.ts";

test("every id says which file it means, and none is one of another kind", () => {
  for (const file of [1, 2, 123_456, ALIAS_STEP - 1]) {
    for (let k = 0; k <= ALIASES_MAX; k++) {
      const id = file + k * ALIAS_STEP;
      assert.ok(Number.isSafeInteger(id) && id < TRUSTED_DIRECTORY_ID, String(id));
      assert.equal(fileId(id), file);
    }
  }
  for (const other of [TRUSTED_DIRECTORY_ID, VIRTUAL_BASE, VIRTUAL_BASE + 5]) assert.equal(fileId(other), other);
});

test("each program gets an id of its own while there is one, the file's number first, and one that is given back is given out again", () => {
  const aliases = new Aliases();
  const given: number[] = [];
  for (let k = 0; k <= ALIASES_MAX; k++) {
    const id = aliases.next(7);
    assert.equal(id, aliases.next(7), "as long as nobody opens it");
    assert.equal(fileId(id), 7);
    aliases.opened(id);
    given.push(id);
  }
  assert.equal(given[0], 7);
  assert.equal(new Set(given).size, ALIASES_MAX + 1);
  aliases.opened(given[3]!);
  aliases.released(given[3]!);
  assert.ok(given.includes(aliases.next(7)), "one that is shared");
  assert.notEqual(aliases.next(7), aliases.next(7), "each in turn");
  aliases.released(given[3]!);
  assert.equal(aliases.next(7), given[3]);
});

test("a release that an earlier engine would have known of counts for nothing", () => {
  const aliases = new Aliases();
  aliases.released(9);
  aliases.opened(9);
  assert.equal(aliases.next(9), 9 + ALIAS_STEP);
  aliases.released(9);
  assert.equal(aliases.next(9), 9);
});

test("where the number itself is not given out, all others are, and those are all that a file can have", () => {
  const aliases = new Aliases(1);
  const given = new Set<number>();
  for (let k = 0; k < ALIASES_MAX; k++) {
    const id = aliases.next(7);
    aliases.opened(id);
    given.add(id);
  }
  assert.deepEqual([...given], aliasesOf(7).slice(1));
  for (let k = 0; k < 2 * ALIASES_MAX; k++) {
    const id = aliases.next(7);
    assert.ok(given.has(id), String(id));
  }
});
