/** A large file is brought to the disk while it is written, and no failure of that is lost. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { files, setFaultHook } from "../../../node/io/files.ts";
import { BackgroundSync } from "../../../node/store/background-sync.ts";

const STEP = 32 << 20;

async function withFile(run: (sync: BackgroundSync, calls: () => number, failOn: (call: number) => void) => Promise<void>): Promise<void> {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-sync-"));
  const fd = files.open("test:open", join(folder, "file"), "w");
  let calls = 0;
  let failing = 0;
  setFaultHook((label) => {
    if (label === "test:sync" && ++calls === failing) throw Object.assign(new Error("the disk is broken"), { code: "EIO" });
  });
  try {
    await run(new BackgroundSync("test:sync", fd), () => calls, (call) => (failing = call));
  } finally {
    setFaultHook(undefined);
    fs.closeSync(fd);
    fs.rmSync(folder, { recursive: true });
  }
}

test("a sync begins whenever enough was written, one at a time, and the end makes one more", async () => {
  await withFile(async (sync, calls) => {
    sync.wrote(STEP - 1);
    assert.equal(calls(), 0);
    sync.wrote(1);
    sync.wrote(STEP);
    assert.equal(calls(), 1, "the first one still runs");
    await sync.settled();
    sync.wrote(1);
    assert.equal(calls(), 2);
    await sync.finish();
    assert.equal(calls(), 3);
  });
});

test("a sync in the background that failed fails the end, although a later one would succeed: the kernel reports it once", async () => {
  await withFile(async (sync, _calls, failOn) => {
    failOn(1);
    sync.wrote(STEP);
    await sync.settled();
    await assert.rejects(sync.finish(), /the disk is broken/);
  });
});
