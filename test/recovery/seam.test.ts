/** The seam to the disk is the only way by which the node changes its own files: what the crash points replay would be incomplete otherwise. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** Calls that change a file, a size or a name. Owner and mode are left out: no recovery depends on them. */
const CHANGING = /\bfs\.(?:promises\.)?(?:write|append|rename|rm|unlink|truncate|ftruncate|fsync|fdatasync|link|symlink|copyFile|cp|mkdir|createWriteStream)\w*\(/g;

test("store, replication, identity and role change files through node/io/files.ts alone", () => {
  const paths = globSync("node/{store,replication,ltx}/**/*.ts", { cwd: ROOT }).concat("node/identity.ts", "node/identity-files.ts", "node/engine-role.ts");
  assert.ok(paths.length > 25, `only ${paths.length} files were seen`);
  const found = paths.flatMap((path) => [...readFileSync(`${ROOT}/${path}`, "utf8").matchAll(CHANGING)].map(([call]) => `${path}: ${call}`));
  assert.deepEqual(found.filter((line) => !line.startsWith("node/store/transfer.ts: fs.rmSync(")), [], "an export's working folder lies outside the data folder");
  assert.ok([...readFileSync(`${ROOT}/node/io/files.ts`, "utf8").matchAll(CHANGING)].length >= 5, "the seam itself has such calls, so the expression finds them");
});
