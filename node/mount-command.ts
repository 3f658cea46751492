/**
 * `sluice mount`: configuration, check of the host, guardian. The only place where the guardian meets the FUSE side.
 *
 * Always holds: the configuration is read by a process of its own (`sluice check-config --json`). The guardian lives as long as the node; the
 * YAML parser and the schema library would stay in its memory all that time: 10 MiB, a third of it.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AppError } from "../proto/errors.ts";
import type { Config } from "./core/config.ts";
import { findHolders, inspectMountPoint, mountFuse, parseMountInfo } from "./fuse/mount.ts";
import { probeDriver } from "./fuse/driver.ts";
import { TRUSTED_DIRECTORY, trustedName } from "./fuse/policy.ts";
import { chooseDriver, startMountServer, unmountNative } from "./fuse-native/host.ts";
import { OWN_OPEN_FLAGS } from "./core/own-open.ts";
import { runGuardian } from "./guardian/guardian.ts";
import type { Mounting } from "./guardian/mounting.ts";
import { checkHost, prepareHost } from "./host-check.ts";
import { createLogger } from "./log.ts";

const MOUNTING: Mounting = {
  mount: mountFuse,
  unmount: unmountNative,
  inspect: (mountPoint) => inspectMountPoint(mountPoint).state,
  trustedPath: (mountPoint, path) => join(mountPoint, TRUSTED_DIRECTORY, trustedName(path)),
  trustedFlags: OWN_OPEN_FLAGS,
  device: (mountPoint) => parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")).findLast((line) => line.mountPoint === mountPoint)?.device,
  holders: (mountPoint, device) => findHolders(mountPoint, device),
  clean: unmountNative,
};

/** libfuse knows files by their names, so the trusted directory cannot exist; nothing waits while it holds the lock of a folder on a follower. */
const NATIVE_MOUNTING: Mounting = { ...MOUNTING, trustedPath: (mountPoint, path) => join(mountPoint, path) };

/** Built files start built files, sources start sources. */
const EXTENSION = import.meta.url.slice(import.meta.url.lastIndexOf("."));

const entry = (path: string): string => fileURLToPath(new URL(`${path}${EXTENSION}`, import.meta.url));

/**
 * Runs the node; the exit code. Throws CONFIG_INVALID, MOUNT_BUSY or DRIVER_UNAVAILABLE before anything is mounted, except for faults in the
 * file itself: those have been printed, and the answer is the exit code.
 */
export async function runMount(file: string | undefined): Promise<number> {
  const reader = spawnSync(process.execPath, [entry("./main"), "check-config", "--json", ...(file === undefined ? [] : [file])], { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
  if (reader.error !== undefined) throw reader.error;
  if (reader.status !== 0) return reader.status ?? 1;
  const config = JSON.parse(reader.stdout) as Config;
  const report = await checkHost(config, MOUNTING);
  const log = await createLogger(config.log, { node: config.node.name, part: "guardian" });
  const lock = await prepareHost(config, MOUNTING, report);
  try {
    const driver = chooseDriver(config.fuse.driver, probeDriver(config.data));
    const native = driver.driver === "fuse-native";
    const sync = config.databases.find(({ durability }) => durability === "sync");
    if (native && sync !== undefined) throw new AppError("DRIVER_UNAVAILABLE", ["fuse-native", `\`durability: sync\` of "${sync.pattern}" needs the driver passthrough`]);
    return await runGuardian(config, {
      mounting: native ? NATIVE_MOUNTING : MOUNTING, log, lock, driver, engineEntry: entry("./engine"), proxyEntry: entry("../proxy/main"),
      ...(native ? { startServer: () => startMountServer(config, lock.fd) } : {}),
    });
  } catch (error) {
    lock.release();
    throw error;
  }
}
