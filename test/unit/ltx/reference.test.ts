/**
 * The reference tool, `ltx verify` of github.com/superfly/ltx, accepts the files that are written here, and refuses a damaged one.
 * Skipped, saying so, where neither the tool nor Go to build it is at hand.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CHECKSUM_FLAG } from "../../../node/core/checksums.ts";
import { compactLtx } from "../../../node/ltx/compact.ts";
import { ltxFileName } from "../../../node/ltx/file-name.ts";
import { encodeFile, headerOf, PAGE_SIZES, pageOf, snapshotPages } from "./support.ts";

const CACHE = fileURLToPath(new URL("../../../.cache", import.meta.url));

/** Path of the tool, or why there is none. */
function findTool(): { path: string } | { missing: string } {
  const places = [join(homedir(), "go/bin/ltx"), join(CACHE, "bin/ltx")];
  const found = places.find((place) => existsSync(place));
  if (found !== undefined) return { path: found };
  if (spawnSync("go", ["version"]).status !== 0) return { missing: "SKIPPED: neither ltx nor go is installed, so the LTX files were NOT checked with the reference tool" };
  mkdirSync(join(CACHE, "bin"), { recursive: true });
  const install = spawnSync("go", ["install", "github.com/superfly/ltx/cmd/ltx@latest"], { env: { ...process.env, GOBIN: join(CACHE, "bin") }, encoding: "utf8", timeout: 240_000 });
  if (install.status !== 0) return { missing: `SKIPPED: go could not build ltx, so the LTX files were NOT checked with the reference tool: ${install.stderr}` };
  return { path: join(CACHE, "bin/ltx") };
}

const tool = findTool();
if ("missing" in tool) console.error(`\n*** ${tool.missing}\n`);

test("`ltx verify` accepts transactions, snapshots, deletions and merged files of all page sizes, and refuses a damaged one", { skip: "missing" in tool && tool.missing }, () => {
  assert.ok("path" in tool);
  const folder = mkdtempSync(join(tmpdir(), "sluice-ltx-"));
  try {
    const paths: string[] = [];
    const write = (name: string, file: Buffer): Buffer => {
      paths.push(join(folder, `${paths.length}-${name}`));
      writeFileSync(paths.at(-1)!, file);
      return file;
    };
    for (const pageSize of PAGE_SIZES) {
      for (const compress of [true, false]) {
        const commit = 40;
        const snapshot = write(ltxFileName(1, 3), encodeFile(headerOf({ pageSize, minTxid: 1, maxTxid: 3, commit }), snapshotPages(commit, pageSize), { compress }));
        const pre = snapshot.readBigUInt64BE(snapshot.length - 16);
        const pages = new Map([2, 3, 39].map((pgno) => [pgno, pageOf(pgno, pageSize, 1)]));
        const before = new Map([2, 3, 39].map((pgno) => [pgno, pageOf(pgno, pageSize)]));
        const parts = [before, pages].map((set) => encodeFile(headerOf({ pageSize, commit }), set).subarray(-16).readBigUInt64BE(0));
        const post = CHECKSUM_FLAG | (pre ^ parts[0]! ^ parts[1]!);
        const change = write(ltxFileName(4, 9), encodeFile(headerOf({ pageSize, minTxid: 4, maxTxid: 9, commit, preApplyChecksum: pre }), pages, { compress, postApply: post }));
        const chunks: Buffer[] = [];
        compactLtx([snapshot, change].map((file, i) => ({ name: `part ${i}`, size: file.length, read: (b, offset) => file.copy(b, 0, offset) })), (chunk) => chunks.push(chunk), { compress });
        write(ltxFileName(1, 9), Buffer.concat(chunks));
      }
    }
    write(ltxFileName(4, 4), encodeFile(headerOf({ minTxid: 4, commit: 0 }), new Map()));
    write(ltxFileName(5, 5), encodeFile(headerOf({ minTxid: 5 }), new Map(), { postApply: CHECKSUM_FLAG | 77n }));
    assert.equal(paths.length, PAGE_SIZES.length * 6 + 2);
    assert.equal(execFileSync(tool.path, ["verify", ...paths], { encoding: "utf8" }).trim(), "ok");

    const damaged = encodeFile(headerOf(), new Map([[1, pageOf(1, 4096)]]));
    damaged.writeUInt32BE(1, 32);
    write("damaged.ltx", damaged);
    const refused = spawnSync(tool.path, ["verify", paths.at(-1)!], { encoding: "utf8" });
    assert.notEqual(refused.status, 0);
    assert.match(refused.stdout + refused.stderr, /checksum mismatch/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
