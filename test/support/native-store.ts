/**
 * The store's tests once more on the driver fuse-native: files of test/cluster, run as they are with SLUICE_TEST_DRIVER=fuse-native.
 *
 * Always holds: a file that fails there is one test that fails here, with all that it has printed.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, test } from "node:test";
import { skipWithoutNative } from "./native-mount.ts";

export function testOnNative(...names: readonly string[]): void {
  describe("nodes with fuse-native", { skip: skipWithoutNative, timeout: 460_000 }, () => {
    for (const name of names) {
      test(`the tests of cluster/${name} hold`, async () => {
        const file = new URL(`../cluster/${name}.test.ts`, import.meta.url).pathname;
        const env = { ...process.env, SLUICE_TEST_DRIVER: "fuse-native", CHAIN_COMMITS: process.env["CHAIN_COMMITS"] ?? "150" };
        delete (env as NodeJS.ProcessEnv)["NODE_TEST_CONTEXT"];
        const child = spawn(process.execPath, ["--no-warnings", "--test", "--test-reporter=spec", file], { stdio: ["ignore", "pipe", "pipe"], env });
        let output = "";
        for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
        const code = await new Promise((resolve) => child.on("exit", resolve));
        assert.equal(code, 0, output);
      });
    }
  });
}
