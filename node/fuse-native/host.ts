/**
 * The driver fuse-native as the guardian sees it: what it needs from this host, how its mount is made and taken away.
 *
 * Always holds: the package is loaded by processes of their own only, since libfuse brings threads along and a library that does not fit
 * this machine may end the process that loads it.
 */
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { AppError } from "../../proto/errors.ts";
import type { Config, FuseDriver } from "../core/config.ts";
import type { DriverChoice } from "../fuse/driver.ts";
import { unmount } from "../fuse/mount.ts";
import { SOCKET_NAME } from "./protocol.ts";
import type { FromServerProcess, ServerInit } from "./server.ts";

const ENTRY = fileURLToPath(new URL(`./server${import.meta.url.slice(import.meta.url.lastIndexOf("."))}`, import.meta.url));

/** What this host lacks for fuse-native, as a clause with the remedy; undefined when it lacks nothing. Starts a process. */
export function findObstacle(): string | undefined {
  if (process.platform !== "linux") return `this is ${process.platform}, not Linux`;
  if (!existsSync("/dev/fuse")) return "/dev/fuse is missing (load the kernel module fuse; give the device to a container)";
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
  } catch {
    return "/dev/fuse may not be opened by this user";
  }
  if (process.getuid?.() !== 0 && findFusermount() === undefined) return "fusermount is missing, which mounts for users other than root (Debian: apt-get install fuse)";
  const check = spawnSync(process.execPath, [ENTRY, "--check"], { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
  return check.status === 0 ? undefined : explain(check.stderr);
}

/** Why the package could not be loaded, from what Node printed. */
export function explain(stderr: string): string {
  if (stderr.includes("libfuse.so.2")) return "libfuse.so.2 is missing (Debian: apt-get install libfuse2, or libfuse2t64)";
  if (/Cannot find (module|package) 'fuse-native'/.test(stderr)) return "the npm package fuse-native is not installed";
  if (stderr.includes("No native build was found")) return `the npm package fuse-native has no build for ${process.arch}`;
  return `the npm package fuse-native cannot be loaded: ${/^\w*Error: .*$/m.exec(stderr)?.[0] ?? stderr.trim().slice(-200)}`;
}

/** The driver to use. `obstacle` is asked only when it matters. Throws DRIVER_UNAVAILABLE, which says what is missing. */
export function chooseDriver(wanted: FuseDriver, passthrough: DriverChoice, obstacle: () => string | undefined = findObstacle): DriverChoice {
  const canPass = passthrough.driver === "passthrough";
  if (canPass && wanted !== "fuse-native") return passthrough;
  if (wanted === "passthrough") throw new AppError("DRIVER_UNAVAILABLE", [wanted, passthrough.reason]);
  const missing = obstacle();
  const reason = wanted === "fuse-native" ? "the configuration asks for it" : `passthrough cannot be used: ${passthrough.reason}`;
  if (missing === undefined) return { driver: "fuse-native", reason };
  throw new AppError("DRIVER_UNAVAILABLE", [wanted, wanted === "auto" ? `passthrough: ${passthrough.reason}; fuse-native: ${missing}` : missing]);
}

/** The process that serves the mount. */
export interface MountServer {
  readonly pid: number;
  /** How it ended. */
  readonly ended: Promise<string>;
  /** Ends it; resolves when it is gone. What is still mounted is dead then. */
  end(): Promise<void>;
}

/** Starts the serving process, which mounts. `lockFd` is held open by it, so that the data folder stays locked while it lives. Throws DRIVER_UNAVAILABLE. */
export async function startMountServer(config: Config, lockFd: number | "ignore"): Promise<MountServer> {
  const child = spawn(process.execPath, ["--max-semi-space-size=4", ENTRY], { detached: true, stdio: ["ignore", "inherit", "inherit", "ipc", lockFd] });
  const ended = new Promise<string>((resolve) => {
    child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code ?? "?"}`));
    child.once("error", (error) => resolve(error.message));
  });
  const answer = new Promise<FromServerProcess>((resolve) => child.once("message", (message) => resolve(message as FromServerProcess)));
  const init: ServerInit = {
    type: "init", mountPoint: config.fuse.mount, filesDir: join(config.data, "files"), socket: join(config.data, "run", SOCKET_NAME), databases: config.databases, allowOther: mayAllowOther(),
  };
  child.send(init, () => undefined);
  const first = await Promise.race([answer, ended.then((how): FromServerProcess => ({ type: "failed", reason: `its process ended at once (${how})` }))]);
  const end = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  if (first.type === "mounted") return { pid: child.pid!, ended, end };
  await end();
  throw new AppError("DRIVER_UNAVAILABLE", ["fuse-native", `mounting at ${config.fuse.mount} failed: ${first.reason}`]);
}

/** libfuse refuses `allow_other` to users unless the administrator permits it. */
function mayAllowOther(): boolean {
  if (process.getuid?.() === 0) return true;
  try {
    return /^\s*user_allow_other\s*$/m.test(readFileSync("/etc/fuse.conf", "utf8"));
  } catch {
    return false; // No such file: not permitted.
  }
}

/** Unmounts as {@link unmount} does, also for a user who may not call umount(2). */
export function unmountNative(mountPoint: string): "unmounted" | "detached" {
  try {
    return unmount(mountPoint);
  } catch (error) {
    const tool = (error as NodeJS.ErrnoException).code === "EPERM" ? findFusermount() : undefined;
    if (tool === undefined) throw error;
    if (spawnSync(tool, ["-u", mountPoint], { stdio: "ignore" }).status === 0) return "unmounted";
    const { status, stderr } = spawnSync(tool, ["-u", "-z", mountPoint], { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
    if (status !== 0) throw new AppError("MOUNT_BUSY", [mountPoint, `it cannot be unmounted: ${stderr.trim()}`]);
    return "detached";
  }
}

function findFusermount(): string | undefined {
  const folders = (process.env["PATH"] ?? "/usr/bin:/bin").split(delimiter);
  return folders.map((folder) => join(folder, "fusermount")).find((path) => existsSync(path));
}

