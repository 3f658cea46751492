/**
 * One node at a time on a data folder.
 *
 * Always holds: the lock is an OFD lock on `run/lock`, so the kernel releases it with the last descriptor, however the processes end. Engine and
 * proxy inherit the descriptor: the folder stays locked until all three are gone. The pid in the file tells a living guardian from orphans.
 */
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { RUN_FILES } from "../core/config.ts";
import { ofdTryLock } from "../native/libc.ts";
import { identify } from "./process-id.ts";

export interface DataLock {
  readonly fd: number;
  release(): void;
}

/** How long engine and proxy may outlive their guardian, which they notice by the closed channel: the proxy finishes running requests. */
const ORPHAN_WAIT_MS = 15_000;
const RETRY_MS = 20;

/**
 * Takes the lock. When it is held by a node that lives, answers its pid at once (0 if unknown); when only orphans hold it, waits for them
 * to end. With `create: false` answers undefined when the file does not exist, and changes nothing on the disk.
 */
export async function takeDataLock(dataDir: string, options: { readonly create: boolean }): Promise<DataLock | { readonly heldBy: number } | undefined> {
  const path = join(dataDir, "run", RUN_FILES.lock);
  if (options.create) mkdirSync(join(dataDir, "run"), { recursive: true, mode: 0o700 });
  let fd: number;
  try {
    fd = openSync(path, options.create ? "a+" : "r+", 0o600);
  } catch (error) {
    if (!options.create && ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
  for (let waitedMs = 0; !ofdTryLock(fd, "write", 0, 0); waitedMs += RETRY_MS) {
    const pid = Number.parseInt(readFileSync(path, "latin1"), 10) || 0;
    if (waitedMs >= ORPHAN_WAIT_MS || (pid > 0 && identify(pid) !== undefined)) {
      closeSync(fd);
      return { heldBy: pid };
    }
    await sleep(RETRY_MS);
  }
  if (options.create) {
    ftruncateSync(fd, 0);
    writeSync(fd, `${process.pid}\n`);
    fsyncSync(fd);
  }
  let released = false;
  return {
    fd,
    release() {
      if (!released) closeSync(fd);
      released = true;
    },
  };
}
