/** The reference tool for LTX files, `ltx` of github.com/superfly/ltx: where it lies, built when Go is at hand. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CACHE = fileURLToPath(new URL("../../.cache", import.meta.url));

/** Path of the tool, or why there is none. */
export function findLtxTool(): { path: string } | { missing: string } {
  const built = join(CACHE, "bin/ltx");
  const found = [join(homedir(), "go/bin/ltx"), built].find((place) => existsSync(place));
  if (found !== undefined) return { path: found };
  if (spawnSync("go", ["version"]).status !== 0) return { missing: "SKIPPED: neither ltx nor go is installed, so the LTX files were NOT checked with the reference tool" };
  mkdirSync(join(CACHE, "bin"), { recursive: true });
  const install = spawnSync("go", ["install", "github.com/superfly/ltx/cmd/ltx@latest"], { env: { ...process.env, GOBIN: join(CACHE, "bin") }, encoding: "utf8", timeout: 240_000 });
  return install.status === 0 ? { path: built } : { missing: `SKIPPED: go could not build ltx, so the LTX files were NOT checked with the reference tool: ${install.stderr}` };
}
