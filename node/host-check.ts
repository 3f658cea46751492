/**
 * What must hold on this machine before a node starts: checked as a whole before anything is changed.
 *
 * Always holds: a check changes nothing on the disk and mounts nothing; the first fault is thrown in the form of a configuration error, with
 * the line of the key that leads to it. Only `prepareHost` changes things, and only after `checkHost` has passed.
 */
import { accessSync, chmodSync, constants, mkdirSync, readdirSync, statSync, type Stats } from "node:fs";
import { createServer } from "node:net";
import { delimiter, dirname, join } from "node:path";
import { AppError } from "../proto/errors.ts";
import { problemAt, problemError } from "./config/problem.ts";
import { splitAddress, type Config } from "./core/config.ts";
import { endProcess } from "./guardian/application.ts";
import { takeDataLock, type DataLock } from "./guardian/data-lock.ts";
import { readMountRecord, removeMountRecord, type MountRecord } from "./guardian/mount-record.ts";
import type { Holder, Mounting } from "./guardian/mounting.ts";
import { groupOf, isAlive } from "./guardian/process-id.ts";
import { CLUSTER_ID_REMEDY, readIdentityFile } from "./identity-files.ts";
import { listenerOf } from "./port-owner.ts";

/** What the check found and the preparation needs. */
export interface HostReport {
  /** Held already when the data folder has been used before. */
  readonly lock: DataLock | undefined;
  /** What an earlier node of this folder left behind. */
  readonly record: MountRecord | undefined;
}

/** How long the application of a node that was killed has for ending, in ms. */
const LEFTOVER_GRACE_MS = 5_000;

/** Checks in the order of what would hurt most. Throws CONFIG_INVALID or MOUNT_BUSY; the lock is then released again. */
export async function checkHost(config: Config, mounting: Mounting): Promise<HostReport> {
  checkData(config);
  const lock = await takeDataLock(config.data, { create: false });
  if (lock !== undefined && "heldBy" in lock) throw dataInUse(config, lock.heldBy);
  try {
    const record = readMountRecord(config.data);
    checkMountPoint(config, mounting, record);
    await checkPorts(config);
    checkCommand(config);
    return { lock, record };
  } catch (error) {
    lock?.release();
    throw error;
  }
}

/** Makes the folders, takes the lock, and clears away what an earlier node left behind. Throws as {@link checkHost} does. */
export async function prepareHost(config: Config, mounting: Mounting, report: HostReport): Promise<DataLock> {
  mkdirSync(config.data, { recursive: true, mode: 0o700 });
  chmodSync(config.data, 0o700);
  report.lock?.release();
  const lock = await takeDataLock(config.data, { create: true });
  if (lock === undefined || "heldBy" in lock) throw dataInUse(config, lock?.heldBy ?? 0);
  try {
    await endLeftApplication(report.record);
    const mountPoint = config.fuse.mount;
    const left = report.record;
    if (mounting.inspect(mountPoint) === "deadMount" || left !== undefined) refuseHolders(config, mounting.holders(mountPoint, left?.device));
    // More than one dead mount can lie over each other when clearing was interrupted.
    for (let tries = 0; tries < 8 && mounting.inspect(mountPoint) === "deadMount"; tries++) mounting.clean(mountPoint);
    if (mounting.inspect(mountPoint) === "absent") mkdirSync(mountPoint, { recursive: true });
    checkMountPoint(config, mounting, undefined);
    removeMountRecord(config.data);
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
}

function refuse(config: Config, key: string, reason: string, remedy: string): never {
  throw problemError(problemAt(config, key, { reason, remedy }));
}

function dataInUse(config: Config, pid: number): AppError {
  const reason = `another node${pid > 0 ? ` (process ${pid})` : ""} uses ${config.data}`;
  return problemError(problemAt(config, "data", { reason, remedy: "stop that node, or give each node a folder of its own" }));
}

/** Names that Sluice makes in its data folder; any of them marks the folder as its own. */
const OWN_NAMES = new Set(["node-id", "cluster-id", "files", "log", "aside", "run"]);
const IGNORED_NAMES = new Set(["lost+found"]);

function checkData(config: Config): void {
  const { data } = config;
  const info = lookAt(data);
  if (info === undefined) {
    let parent = dirname(data);
    while (lookAt(parent) === undefined && parent !== dirname(parent)) parent = dirname(parent);
    if (!lookAt(parent)!.isDirectory()) refuse(config, "data", `${parent} is not a folder`, "choose another path");
    if (!permits(parent, constants.W_OK | constants.X_OK)) refuse(config, "data", `making ${data} in ${parent} is not permitted`, "run as a user who may write there, or make the folder for it");
    return;
  }
  if (!info.isDirectory()) refuse(config, "data", `${data} is not a folder`, "choose another path, or remove it");
  if (info.uid !== process.getuid!()) refuse(config, "data", `${data} belongs to user ${info.uid}, not to ${process.getuid!()}`, "run as its owner, or change the owner");
  if (!permits(data, constants.R_OK | constants.W_OK | constants.X_OK)) refuse(config, "data", `writing in ${data} is not permitted`, "change its mode to 0700");
  const names = readdirSync(data).filter((name) => !IGNORED_NAMES.has(name));
  if (names.length > 0 && !names.some((name) => OWN_NAMES.has(name))) {
    refuse(config, "data", `${data} holds other files (${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""})`, "give an empty folder, or one that a node has used");
  }
  const clusterId = readIdentityFile(data, "cluster-id");
  if (clusterId !== undefined && "fault" in clusterId) refuse(config, "data", `${join(data, "cluster-id")} is damaged: ${clusterId.fault}`, CLUSTER_ID_REMEDY);
}

function checkMountPoint(config: Config, mounting: Mounting, record: MountRecord | undefined): void {
  const mountPoint = config.fuse.mount;
  const state = mounting.inspect(mountPoint);
  switch (state) {
    case "notDirectory": return refuse(config, "fuse.mount", `${mountPoint} is not a folder`, "choose another path, or remove it");
    case "notEmpty": return refuse(config, "fuse.mount", `${mountPoint} is not empty`, "give an empty folder: its files would be hidden by the mount (`sluice import` copies databases in)");
    case "liveMount": return refuse(config, "fuse.mount", `another file system is mounted at ${mountPoint}`, "unmount it, or choose another path");
    case "absent": {
      let parent = dirname(mountPoint);
      while (lookAt(parent) === undefined && parent !== dirname(parent)) parent = dirname(parent);
      if (!permits(parent, constants.W_OK | constants.X_OK)) refuse(config, "fuse.mount", `making ${mountPoint} in ${parent} is not permitted`, "make the folder, or run as a user who may write there");
      return;
    }
    case "free":
    case "deadMount":
      // Two lock spaces on one database corrupt it: whoever still has a file of the old mount open must end first.
      if (state === "deadMount" || record !== undefined) refuseHolders(config, mounting.holders(mountPoint, record?.device).filter((holder) => !isOwnApplication(holder, record)));
  }
}

function refuseHolders(config: Config, holders: readonly Holder[]): void {
  if (holders.length === 0) return;
  const names = holders.slice(0, 5).map((holder) => `${holder.command} (process ${holder.pid}, ${holder.what[0] ?? "?"})`).join(", ");
  const more = holders.length > 5 ? ` and ${holders.length - 5} more` : "";
  throw new AppError("MOUNT_BUSY", [config.fuse.mount, `programs still hold files of a mount whose node has died: ${names}${more}`]);
}

/** The application that an earlier guardian started is ours to end. */
function isOwnApplication(holder: Holder, record: MountRecord | undefined): boolean {
  const application = record?.application;
  if (application === undefined) return false;
  // The number of a group is not given out again while a member lives, even when its leader is gone.
  return (application.group && groupOf(holder.pid) === application.pid) || (holder.pid === application.pid && isAlive(application));
}

async function endLeftApplication(record: MountRecord | undefined): Promise<void> {
  const application = record?.application;
  if (application === undefined) return;
  // Where the leader is gone and its number is free, the group is gone too, or still ours; where another process has the number, the group is not ours.
  const replaced = groupOf(application.pid) !== undefined && !isAlive(application);
  if (!replaced) await endProcess(application, LEFTOVER_GRACE_MS, undefined, () => !isAlive(application));
}

async function checkPorts(config: Config): Promise<void> {
  const addresses = [["listen", config.listen], ["admin", config.admin], ...(config.proxy === undefined ? [] : [["proxy.listen", config.proxy.listen]])] as [string, string][];
  for (const [key, address] of addresses) {
    const failure = await tryListen(address);
    if (failure === undefined) continue;
    const { host, port } = splitAddress(address);
    switch (failure.code) {
      case "EADDRINUSE": {
        const owner = listenerOf(port);
        return refuse(config, key, `port ${port} is in use${owner === undefined ? "" : ` by ${owner.command} (process ${owner.pid})`}`, "stop that program, or choose another port");
      }
      case "EADDRNOTAVAIL": return refuse(config, key, `${host} is not an address of this machine`, "give one of its addresses, or 0.0.0.0 for all");
      case "EACCES": return refuse(config, key, `port ${port} is reserved for the system`, "choose a port from 1024, or run as root");
      case "ENOTFOUND": case "EAI_AGAIN": return refuse(config, key, `the host name ${host} is not known here`, "give an address, or 0.0.0.0 for all");
      default: return refuse(config, key, `listening on ${address} fails with ${failure.code ?? failure.message}`, "choose another address");
    }
  }
}

/** Listens for a moment; the error if that fails. */
function tryListen(address: string): Promise<NodeJS.ErrnoException | undefined> {
  const { host, port } = splitAddress(address);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve) => {
    server.once("error", resolve);
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

function checkCommand(config: Config): void {
  const command = config.exec?.[0];
  if (command === undefined) return;
  const candidates = command.includes("/") ? [command] : (process.env["PATH"] ?? "/usr/bin:/bin").split(delimiter).map((folder) => join(folder === "" ? "." : folder, command));
  const files = candidates.filter((path) => lookAt(path)?.isFile() === true);
  if (files.length === 0) refuse(config, "exec", `there is no program "${command}"${command.includes("/") ? "" : " in PATH"}`, "install it, or give its full path");
  if (!files.some((path) => permits(path, constants.X_OK))) refuse(config, "exec", `"${files[0]!}" is not executable`, "change its mode, or start it through its interpreter");
}

function lookAt(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function permits(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
