/** Decisions of the mount that depend on a path alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withoutPrivileges } from "../../../node/fuse/backing.ts";
import { isKernelNewEnough } from "../../../node/fuse/driver.ts";
import { parseMountInfo } from "../../../node/fuse/mount.ts";
import * as policy from "../../../node/fuse/policy.ts";

test("attributes of -wal and -shm are never kept by the kernel, those of -journal for a second, others long", () => {
  for (const [path, seconds] of [["app.db", 3600], ["app.db-wal", 0], ["sub/app.db-shm", 0], ["app.db-journal", 1], ["-wal", 3600], ["notes.txt", 3600]] as const) {
    assert.equal(policy.attributeSeconds(path), seconds, path);
  }
});

test("the absence of names that may become virtual is never kept", () => {
  for (const [path, seconds] of [["app.db-pos", 0], ["sub/app.db-pos", 0], [".primary", 0], [".lag", 0], ["app.db", 3600], ["sub/.primary", 3600]] as const) {
    assert.equal(policy.absenceSeconds(path), seconds, path);
  }
});

test("a trusted name leads back to its path, and never out of the mount", () => {
  for (const path of ["app.db", "sub/a b.db", "ü/%2F.db"]) assert.equal(policy.pathOfTrustedName(policy.trustedName(path)), path);
  for (const name of ["..", "a%2F..%2Fb", "%2Fetc", "a%2F%2Fb", "", ".", "%ff", "a%00b"]) assert.equal(policy.pathOfTrustedName(name), undefined, name);
});

test("only a journal header of 28 zero bytes is a commit", () => {
  assert.equal(policy.isZeroedJournal(Buffer.alloc(28)), true);
  assert.equal(policy.isZeroedJournal(Buffer.alloc(27)), false);
  const unsynced = Buffer.alloc(28); // magic and count are not written yet, sector and page size are
  unsynced.writeUInt32BE(512, 20);
  assert.equal(policy.isZeroedJournal(unsynced), false);
});

test("a write takes set-user-id away, and set-group-id where the group may execute", () => {
  for (const [mode, left] of [[0o4755, 0o755], [0o2755, 0o755], [0o2644, 0o2644], [0o6777, 0o777], [0o644, 0o644]] as const) assert.equal(withoutPrivileges(mode), left);
});

test("kernels are told apart by number, not by text", () => {
  for (const [release, enough] of [["6.12.0", true], ["6.9.1", false], ["6.18.44-x", true], ["7.0", true], ["5.99", false], ["10.1-rc1", true]] as const) {
    assert.equal(isKernelNewEnough(release), enough, release);
  }
});

test("mountinfo lines are read with spaces and letters in the path", () => {
  const text = "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:52 / /sluice-ü rw shared:2 - fuse.sluice sluice rw\n";
  assert.deepEqual(parseMountInfo(text), [
    { mountPoint: "/mnt/a b", type: "ext3", device: "98:0" },
    { mountPoint: "/sluice-ü", type: "fuse.sluice", device: "0:52" },
  ]);
});
