/** What the second driver decides by itself, and how a driver is chosen: pure. */
import assert from "node:assert/strict";
import { constants as os } from "node:os";
import { describe, test } from "node:test";
import type { DriverChoice } from "../../../node/fuse/driver.ts";
import { Guard, type Verdict } from "../../../node/fuse-native/guard.ts";
import { chooseDriver, explain } from "../../../node/fuse-native/host.ts";
import { isAppError } from "../../../proto/errors.ts";

function guard(role: "primary" | "follower"): Guard {
  const made = new Guard((name) => !name.startsWith("cache/"));
  made.role = role;
  made.gateOpen = true;
  made.names = new Set([".lag", ".primary", "app.db-pos", "sub/other.db-pos"]);
  return made;
}

const { EROFS, EPERM, EAGAIN, ENOENT } = os.errno;

describe("the guard of a fuse-native mount", () => {
  test("asks the engine about nothing on a follower, and refuses what would change a replicated database", () => {
    const follower = guard("follower");
    const rows: [Verdict, Verdict][] = [
      [follower.change("app.db"), -EROFS], [follower.change("app.db-wal"), -EROFS], [follower.change("app.db-shm"), -EROFS], [follower.change("sub/other.db"), -EROFS],
      [follower.change("notes.txt"), "allow"], [follower.change("cache/x.db"), "allow"], [follower.change("app.db-pos"), -EPERM],
      [follower.create("new.db"), "allow"], [follower.create("new.db-journal"), -EROFS], [follower.create("new.db-wal"), -EROFS], [follower.create("app.db-wal"), "allow"],
      [follower.create("cache/x.db-journal"), "allow"], [follower.create(".lag"), -EPERM],
      [follower.rename("app.db", "x", false), -EROFS], [follower.rename("x", "app.db", false), -EROFS], [follower.rename("sub", "sub2", true), -EROFS], [follower.rename("x", "y", true), "allow"],
    ];
    for (const [verdict, expected] of rows) assert.equal(verdict, expected);
  });

  test("asks on a primary about every change but one of a -shm or a folder, on whose lock it may itself be waiting", () => {
    const primary = guard("primary");
    assert.equal(primary.change("app.db"), "ask");
    assert.equal(primary.change("app.db-shm"), "allow");
    assert.equal(primary.create("new.db-journal"), "allow");
    assert.equal(primary.rename("app.db", "b.db", false), "ask");
    assert.equal(primary.rename("sub", "sub2", true), "allow");
    assert.equal(primary.rename("app.db-shm", "x", false), "allow");
  });

  test("lets nobody in before the gate is open, and nobody open what is hidden", () => {
    const closed = new Guard(() => true);
    for (const verdict of [closed.open("a"), closed.create("a"), closed.change("a"), closed.rename("a", "b", false)]) assert.equal(verdict, -EAGAIN);
    const open = guard("follower");
    open.hidden.add("coming.db");
    assert.equal(open.open("coming.db"), -ENOENT);
    assert.equal(open.change("coming.db-wal"), -EROFS);
  });
});

describe("the choice of a driver", () => {
  const passes: DriverChoice = { driver: "passthrough", reason: "kernel 6.18 passes files through" };
  const cannot: DriverChoice = { driver: "fuse-native", reason: "CAP_SYS_ADMIN is missing" };

  test("is passthrough where it works, else fuse-native with the reason, and what the configuration names in any case", () => {
    assert.deepEqual(chooseDriver("auto", passes, () => assert.fail("not asked")), passes);
    assert.deepEqual(chooseDriver("passthrough", passes, () => assert.fail("not asked")), passes);
    assert.deepEqual(chooseDriver("auto", cannot, () => undefined), { driver: "fuse-native", reason: "passthrough cannot be used: CAP_SYS_ADMIN is missing" });
    assert.equal(chooseDriver("fuse-native", passes, () => undefined).driver, "fuse-native");
  });

  test("says what is missing when no driver can run", () => {
    const refused = (wanted: "auto" | "passthrough" | "fuse-native", pattern: RegExp): void => {
      assert.throws(() => chooseDriver(wanted, cannot, () => "libfuse.so.2 is missing"), (error: unknown) => isAppError(error, "DRIVER_UNAVAILABLE") && pattern.test(error.message));
    };
    refused("auto", /passthrough: CAP_SYS_ADMIN is missing; fuse-native: libfuse\.so\.2 is missing/);
    refused("passthrough", /CAP_SYS_ADMIN is missing/);
    refused("fuse-native", /libfuse\.so\.2 is missing/);
  });

  test("names the library, the package or the build that cannot be loaded", () => {
    assert.match(explain("Error: libfuse.so.2: cannot open shared object file: No such file or directory"), /libfuse2/);
    assert.match(explain("Error: Cannot find module 'fuse-native'\nRequire stack:"), /npm package fuse-native is not installed/);
    assert.match(explain("Error: No native build was found for platform=linux arch=arm64"), /no build for/);
    assert.match(explain("node:internal\nTypeError: something else\n    at x"), /TypeError: something else/);
  });
});
