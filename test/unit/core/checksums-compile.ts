/**
 * Compiles node/core/checksums.as.ts. Run it after a change of that file: it writes node/core/checksums-wasm.ts.
 *
 * Always holds: the result depends only on the sources and the pinned compiler; checksums.test.ts compares it with what is committed.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const SOURCE = fileURLToPath(new URL("../../../node/core/checksums.as.ts", import.meta.url));
export const TARGET: string = fileURLToPath(new URL("../../../node/core/checksums-wasm.ts", import.meta.url));

/** The module text of checksums-wasm.ts, made from the sources. */
export async function compileChecksums(memoryPages: number): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "sluice-asc-"));
  try {
    const outFile = join(folder, "checksums.wasm");
    const { error, stderr } = await asc.main([
      SOURCE, "--outFile", outFile, "-O3", "--noAssert", "--runtime", "stub", "--use", "abort=", "--enable", "simd",
      "--initialMemory", String(memoryPages), "--maximumMemory", String(memoryPages),
    ]);
    if (error !== null) throw new Error(`asc failed: ${stderr.toString()}`, { cause: error });
    const base64 = readFileSync(outFile).toString("base64");
    const lines = base64.match(/.{1,120}/g) ?? [];
    return [
      "/** Made by test/unit/core/checksums-compile.ts from checksums.as.ts; not edited by hand. A WebAssembly module, in base64. */",
      "export const CHECKSUMS_WASM: string =",
      ...lines.map((line, i) => `  "${line}"${i === lines.length - 1 ? ";" : " +"}`),
      "",
    ].join("\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** 16 KiB table, 8 MiB arena and the reserved parts behind it: see checksums-memory.ts, which checks it. */
export const MEMORY_PAGES = 142;

if (import.meta.main) writeFileSync(TARGET, await compileChecksums(MEMORY_PAGES));
