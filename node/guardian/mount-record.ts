/**
 * `run/mount.json`: which mount this data folder has served, by which processes.
 *
 * Always holds: it is written before an application can open a file and removed only when the mount is gone and nobody holds a file of it. So
 * the next start can tell what an earlier node left behind: a dead mount, programs in it, its own application. A record of another boot, or
 * one that cannot be read, says nothing.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RUN_FILES } from "../core/config.ts";
import { bootId } from "../native/libc.ts";
import type { ProcessId } from "./process-id.ts";

export interface MountRecord {
  /** Of the guardian. */
  readonly pid: number;
  readonly mountPoint: string;
  /** "major:minor" of the mount; absent when the kernel did not say. */
  readonly device?: string;
  readonly bootId: string;
  /** ISO 8601. */
  readonly startedAt: string;
  /** The application that the guardian started. `group`: it leads a process group of its own. */
  readonly application?: ProcessId & { readonly group: boolean };
}

/** The record of this boot, if there is one. */
export function readMountRecord(dataDir: string): MountRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(pathOf(dataDir), "utf8")) as MountRecord;
    const isRecord = typeof record.pid === "number" && typeof record.mountPoint === "string" && (record.device === undefined || typeof record.device === "string");
    return isRecord && record.bootId === bootId() ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces the record as a whole. It need not survive a power failure: the mount does not either. */
export function writeMountRecord(dataDir: string, record: MountRecord): void {
  const path = pathOf(dataDir);
  writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function removeMountRecord(dataDir: string): void {
  rmSync(pathOf(dataDir), { force: true });
}

function pathOf(dataDir: string): string {
  return join(dataDir, "run", RUN_FILES.mountRecord);
}
