/** The Express example with its own packages, which tests run, and Express for applications of tests. */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

export const EXAMPLE_SERVER: string = fileURLToPath(new URL("../../examples/express/server.js", import.meta.url));

/** Why tests that need Express cannot run; false when they can. */
export const expressMissing: string | false = ((): string | false => {
  try {
    createRequire(EXAMPLE_SERVER).resolve("express");
    return false;
  } catch {
    return "SKIPPED: express is not installed; run `npm install` in examples/express";
  }
})();
