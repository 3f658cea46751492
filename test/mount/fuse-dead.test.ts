/** Mount points are judged before they are used: free, occupied, dead; and who still holds files of a dead mount is named. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { probeDriver } from "../../node/fuse/driver.ts";
import { cleanDeadMount, findHolders, inspectMountPoint } from "../../node/fuse/mount.ts";
import { skipWithoutMount, TestMount, until } from "../support/fuse-mount.ts";

test("a mount point is told apart by what lies there", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    const folder = join(mount.folder, "place");
    assert.deepEqual(inspectMountPoint(folder), { state: "absent" });
    fs.mkdirSync(folder);
    assert.deepEqual(inspectMountPoint(folder), { state: "free" });
    fs.writeFileSync(join(folder, "x"), "");
    assert.deepEqual(inspectMountPoint(folder), { state: "notEmpty", names: ["x"] });
    assert.deepEqual(inspectMountPoint(join(folder, "x")), { state: "notDirectory" });
    const live = inspectMountPoint(mount.mountPoint);
    assert.equal(live.state, "liveMount");
    assert.equal(mount.unmount(), "unmounted");
    assert.deepEqual(inspectMountPoint(mount.mountPoint), { state: "free" });
  } finally {
    await mount.dispose();
  }
});

test("programs that hold files of a dead mount are found, also after it was detached, and by what they hold", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  const script = `
import mmap, os, sys
fd = os.open("held.db", os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 4096)
mapped = os.open("mapped.db", os.O_RDWR | os.O_CREAT); os.ftruncate(mapped, 4096)
m = mmap.mmap(mapped, 4096); os.close(mapped)
print("ready", flush=True); sys.stdin.readline()`;
  const holder = spawn("python3", ["-c", script], { cwd: mount.mountPoint, stdio: ["pipe", "pipe", "inherit"] });
  try {
    await once(holder.stdout, "data");
    await mount.abandon();
    const dead = inspectMountPoint(mount.mountPoint);
    assert.equal(dead.state, "deadMount");
    assert.ok("device" in dead && /^0:\d+$/.test(dead.device));
    const check = (): void => {
      const [found, ...others] = findHolders(mount.mountPoint, dead.device);
      assert.deepEqual(others, []);
      assert.ok(found);
      assert.equal(found.pid, holder.pid);
      assert.match(found.command, /python3 -c/);
      assert.ok(found.what.includes("working directory"));
      assert.ok(found.what.some((what) => what.includes("held.db")), String(found.what));
      assert.ok(found.what.some((what) => what.includes("mapped.db (mapped)")), String(found.what));
    };
    check();
    assert.equal(cleanDeadMount(mount.mountPoint), "detached");
    assert.deepEqual(inspectMountPoint(mount.mountPoint), { state: "free" });
    check();
  } finally {
    holder.stdin.end("\n");
    if (holder.exitCode === null) await once(holder, "exit");
    await mount.dispose();
  }
  await until("nobody is found any more", () => findHolders(mount.mountPoint).length === 0);
});

test("the probe says yes here, or what is missing, and leaves nothing behind", (t) => {
  const folder = fs.mkdtempSync("/tmp/sluice-probe-");
  t.after(() => { fs.rmSync(folder, { recursive: true }); });
  const choice = probeDriver(folder);
  assert.equal(choice.driver === "passthrough", skipWithoutMount === false);
  assert.ok(choice.reason.length > 10);
  assert.deepEqual(fs.readdirSync(folder), []);
  assert.equal(fs.readFileSync("/proc/self/mountinfo", "utf8").includes(folder), false);
});

test("a folder whose file system cannot be passed through is named as the reason", { skip: skipWithoutMount }, async (t) => {
  const folder = fs.mkdtempSync("/tmp/sluice-overlay-");
  const [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map((name) => join(folder, name)) as [string, string, string, string];
  for (const each of [lower, upper, work, merged]) fs.mkdirSync(each);
  const { run } = await import("../support/fuse-mount.ts");
  const mounted = await run("mount", ["-t", "overlay", "overlay", "-o", `lowerdir=${lower},upperdir=${upper},workdir=${work}`, merged]);
  try {
    if (mounted.status !== 0) {
      t.skip(`NOT TESTED HERE: this kernel mounts no overlayfs: ${mounted.stderr}`);
      return;
    }
    const choice = probeDriver(merged);
    assert.equal(choice.driver, "fuse-native");
    assert.match(choice.reason, /stacked/);
  } finally {
    if (mounted.status === 0) await run("umount", [merged]);
    fs.rmSync(folder, { recursive: true });
  }
});

test("a program that holds files of another mount is not named, although numbers of devices are used again", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start();
  try {
    const file = fs.openSync(join(mount.mountPoint, "other.db"), "w+");
    const holder = spawn("sleep", ["600"], { cwd: mount.mountPoint, stdio: ["ignore", file, "ignore"] });
    fs.closeSync(file);
    try {
      await once(holder, "spawn");
      const state = inspectMountPoint(mount.mountPoint);
      assert.ok("device" in state);
      const of = (mountPoint: string): number[] => findHolders(mountPoint, state.device).map(({ pid }) => pid);
      assert.ok(of(mount.mountPoint).includes(holder.pid!));
      // The same number, recorded by a node whose mount is long gone.
      assert.deepEqual(of(join(mount.folder, "elsewhere")), []);
    } finally {
      holder.kill("SIGKILL");
      await once(holder, "close");
    }
  } finally {
    await mount.dispose();
  }
});

test("of two dead mounts that were detached, each has its own holders", { skip: skipWithoutMount }, async () => {
  const mounts: TestMount[] = [];
  const holders: ChildProcess[] = [];
  try {
    for (let i = 0; i < 2; i++) {
      const mount = await TestMount.start();
      mounts.push(mount);
      const file = fs.openSync(join(mount.mountPoint, "held.db"), "w+");
      const holder = spawn("sleep", ["600"], { cwd: mount.mountPoint, stdio: ["ignore", file, "ignore"] });
      fs.closeSync(file);
      holders.push(holder);
      await once(holder, "spawn");
    }
    const devices: string[] = [];
    for (const mount of mounts) {
      await mount.abandon();
      const dead = inspectMountPoint(mount.mountPoint);
      assert.equal(dead.state, "deadMount");
      devices.push("device" in dead ? dead.device : "");
      assert.equal(cleanDeadMount(mount.mountPoint), "detached");
    }
    for (const [i, mount] of mounts.entries()) {
      const [found, ...others] = findHolders(mount.mountPoint, devices[i]);
      assert.deepEqual(others, []);
      assert.ok(found);
      assert.equal(found.pid, holders[i]!.pid);
      assert.ok(found.what.includes("working directory") && found.what.includes("/held.db"), String(found.what));
    }
  } finally {
    for (const holder of holders) {
      holder.kill("SIGKILL");
      await once(holder, "close");
    }
    for (const mount of mounts) await mount.dispose();
  }
});
