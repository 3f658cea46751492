/**
 * Mounting and unmounting, and judging a mount point before: is it free, does a dead mount lie there, who still holds files of it.
 *
 * Always holds: nothing here reads through a mount, so nothing waits for a server that is dead. Used by the guardian's main thread; the
 * descriptor that mountFuse() returns is the connection itself: as long as any process has it, requests wait instead of failing.
 *
 * A dead mount matters because the kernel keeps locks per mount: a program that still has a database of the dead mount open and one that
 * opens it in a new mount do not see each other's locks, and both would write.
 */
import * as fs from "node:fs";
import { deviceOf, MNT_DETACH, mount, MS_NODEV, MS_NOSUID, umount2 } from "../native/libc.ts";

export const FILESYSTEM_TYPE = "fuse.sluice";

/** Opens /dev/fuse and mounts it. Returns the descriptor. Throws system errors: ENOENT or EACCES of /dev/fuse, EPERM, ENOTDIR, EBUSY. */
export function mountFuse(mountPoint: string): number {
  const fd = fs.openSync("/dev/fuse", "r+");
  try {
    // All users may come in; the kernel checks their rights by mode and owner.
    mount("sluice", mountPoint, FILESYSTEM_TYPE, MS_NOSUID | MS_NODEV, `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions`);
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  return fd;
}

/**
 * Unmounts. "detached" when programs still use it: it is gone from the tree, but lives on for them until they let go.
 * Throws EINVAL when nothing is mounted there.
 */
export function unmount(mountPoint: string): "unmounted" | "detached" {
  try {
    umount2(mountPoint, 0);
    return "unmounted";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EBUSY") throw error;
    umount2(mountPoint, MNT_DETACH);
    return "detached";
  }
}

interface MountLine {
  readonly mountPoint: string;
  readonly type: string;
  /** major:minor, as mountinfo and maps write it in decimal. */
  readonly device: string;
}

/** The lines of /proc/self/mountinfo: id parent major:minor root mountpoint options … - type source options. */
export function parseMountInfo(text: string): MountLine[] {
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const fields = before.split(" ");
    const decode = (field = ""): string => Buffer.from(field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))), field.includes("\\") ? "latin1" : "utf8").toString("utf8");
    return { mountPoint: decode(fields[4]), type: after.split(" ")[0] ?? "", device: fields[2] ?? "" };
  });
}

/** The newest mount at a path, by the kernel's list. */
function mountAt(path: string): MountLine | undefined {
  return parseMountInfo(fs.readFileSync("/proc/self/mountinfo", "utf8")).findLast((line) => line.mountPoint === path);
}

export type MountPointState =
  | { readonly state: "free" }
  | { readonly state: "absent" }
  | { readonly state: "notDirectory" }
  | { readonly state: "notEmpty"; readonly names: readonly string[] }
  /** A mount whose server is gone. `device` is for findHolders(). */
  | { readonly state: "deadMount"; readonly type: string; readonly device: string }
  | { readonly state: "liveMount"; readonly type: string; readonly device: string };

/** What lies at a path where a mount is wanted. The path is absolute, without a slash at its end. */
export function inspectMountPoint(path: string): MountPointState {
  const mounted = mountAt(path);
  try {
    // Attributes only: answered by the kernel when they are fresh, by ENOTCONN when the server is dead.
    const stat = fs.statSync(path);
    if (mounted !== undefined && !(mounted.type.startsWith("fuse") && isDead(path))) return { state: "liveMount", type: mounted.type, device: mounted.device };
    if (mounted !== undefined) return { state: "deadMount", type: mounted.type, device: mounted.device };
    if (!stat.isDirectory()) return { state: "notDirectory" };
    const names = fs.readdirSync(path);
    return names.length === 0 ? { state: "free" } : { state: "notEmpty", names };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") return { state: "absent" };
    if (isDeadCode(code)) return { state: "deadMount", type: mounted?.type ?? "fuse", device: mounted?.device ?? "" };
    if (code === "ENOTDIR") return { state: "notDirectory" };
    throw error;
  }
}

/** statfs is never answered from a cache, so a dead server shows. */
function isDead(path: string): boolean {
  try {
    fs.statfsSync(path);
    return false;
  } catch (error) {
    return isDeadCode((error as NodeJS.ErrnoException).code);
  }
}

/** Takes a dead mount away. Call findHolders() first: what programs still hold lives on. */
export function cleanDeadMount(path: string): "unmounted" | "detached" {
  return unmount(path);
}

export interface Holder {
  readonly pid: number;
  readonly command: string;
  /** What it holds: paths, or "working directory". At most a few. */
  readonly what: readonly string[];
}

const MOST_NAMED = 5;

/**
 * Programs that still have files of a mount: open, mapped, as working or root directory. `device` ("0:53", from inspectMountPoint or recorded
 * when it was mounted) also finds those of a mount that was detached. Programs that this process may not look into are not found.
 */
export function findHolders(mountPoint: string, device?: string): Holder[] {
  const holders: Holder[] = [];
  for (const name of fs.readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const what = heldBy(pid, mountPoint, device === "" ? undefined : device);
    if (what.size === 0) continue;
    holders.push({ pid, command: commandOf(pid), what: [...what].slice(0, MOST_NAMED) });
  }
  return holders;
}

function heldBy(pid: number, mountPoint: string, device: string | undefined): Set<string> {
  const what = new Set<string>();
  // Numbers of devices are used again; but what lies below another mount that is still there is that one's.
  let others: string[] | undefined;
  const isAnothers = (path: string): boolean => {
    others ??= parseMountInfo(quietly(() => fs.readFileSync(`/proc/${pid}/mountinfo`, "utf8")) ?? "").filter((line) => line.type.startsWith("fuse") && line.mountPoint !== mountPoint).map((line) => line.mountPoint);
    return others.some((other) => isBelow(path, other) && !isBelow(other, mountPoint));
  };
  const look = (link: string, label?: string): void => {
    const target = quietly(() => fs.readlinkSync(link));
    // Sockets, pipes and the like have no path.
    if (target?.startsWith("/") === true && isHeld(link, target, mountPoint, device) && !isAnothers(target)) what.add(label ?? target);
  };
  look(`/proc/${pid}/cwd`, "working directory");
  look(`/proc/${pid}/root`, "root directory");
  for (const fd of quietly(() => fs.readdirSync(`/proc/${pid}/fd`)) ?? []) look(`/proc/${pid}/fd/${fd}`);
  for (const line of (quietly(() => fs.readFileSync(`/proc/${pid}/maps`, "utf8")) ?? "").split("\n")) {
    // address permissions offset major:minor inode path, the device in hexadecimal
    const [, , , mapped = "", , ...path] = line.split(/ +/);
    const file = path.join(" ");
    if (!file.startsWith("/")) continue;
    const decimal = mapped.split(":").map((part) => Number.parseInt(part, 16)).join(":");
    if ((device === undefined ? isBelow(file, mountPoint) : decimal === device) && !isAnothers(file)) what.add(`${file} (mapped)`);
  }
  return what;
}

function isHeld(link: string, target: string, mountPoint: string, device: string | undefined): boolean {
  if (isBelow(target, mountPoint)) return true;
  if (device === undefined || target.startsWith("/dev/") || target.startsWith("/proc/")) return false;
  return deviceOf(link) === device;
}

/** ENOTCONN is the answer of a mount without a server; a request that was under way when its server died gets ECONNABORTED. */
function isDeadCode(code: string | undefined): boolean {
  return code === "ENOTCONN" || code === "ECONNABORTED";
}

function isBelow(path: string, mountPoint: string): boolean {
  return path === mountPoint || path.startsWith(`${mountPoint}/`);
}

function commandOf(pid: number): string {
  const line = quietly(() => fs.readFileSync(`/proc/${pid}/cmdline`, "utf8"))?.replaceAll("\0", " ").trim();
  return line !== undefined && line !== "" ? line : (quietly(() => fs.readFileSync(`/proc/${pid}/comm`, "utf8"))?.trim() ?? "?");
}

/** Processes end while they are looked at; what is gone is not held. */
function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
