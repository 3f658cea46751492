/**
 * The seam to the disk: every call of the store that changes or reads its files goes through here and carries a label.
 *
 * Always holds: a label names the place ("log:write", "replica:wal"), so that a test can fail, delay or record exactly that call; an error
 * of the disk leaves as it came, except ENOSPC and EDQUOT, which become STORAGE_FULL and name the file. Synchronous, because capture and
 * apply must not be interleaved with anything; the few asynchronous calls are fsyncs that nobody may wait for.
 */
import fs from "node:fs";
import { AppError } from "../../proto/errors.ts";

export type Label = `${string}:${string}`;

/** Called before each labelled call; a test installs one to record calls or to throw in their place. */
export type FaultHook = (label: Label, path: string | number) => void;

let hook: FaultHook | undefined;

/** For tests: installs (or with undefined removes) the fault hook. */
export function setFaultHook(next: FaultHook | undefined): void {
  hook = next;
}

function guarded<T>(label: Label, path: string | number, call: () => T): T {
  hook?.(label, path);
  try {
    return call();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOSPC" || code === "EDQUOT") throw new AppError("STORAGE_FULL", [`${label} (${String(path)})`], { cause: error });
    throw error;
  }
}

export const files = {
  open(label: Label, path: string, flags: string | number, mode = 0o600): number {
    return guarded(label, path, () => fs.openSync(path, flags, mode));
  },
  close(fd: number): void {
    fs.closeSync(fd);
  },
  /** Reads up to `length` bytes at `position`; fewer only at the end of the file. */
  read(label: Label, fd: number, buffer: Uint8Array, offset: number, length: number, position: number): number {
    hook?.(label, fd);
    let done = 0;
    while (done < length) {
      const n = fs.readSync(fd, buffer, offset + done, length - done, position + done);
      if (n === 0) break;
      done += n;
    }
    return done;
  },
  /** Writes all of it, or throws. */
  write(label: Label, fd: number, buffer: Uint8Array, offset: number, length: number, position: number): void {
    guarded(label, fd, () => {
      for (let done = 0; done < length; ) done += fs.writeSync(fd, buffer, offset + done, length - done, position + done);
    });
  },
  truncate(label: Label, fd: number, size: number): void {
    guarded(label, fd, () => fs.ftruncateSync(fd, size));
  },
  unlink(label: Label, path: string): void {
    guarded(label, path, () => fs.rmSync(path, { force: true }));
  },
  rename(label: Label, from: string, to: string): void {
    guarded(label, from, () => fs.renameSync(from, to));
  },
  fdatasync(label: Label, fd: number): Promise<void> {
    hook?.(label, fd);
    return new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error))));
  },
  fdatasyncNow(label: Label, fd: number): void {
    guarded(label, fd, () => fs.fdatasyncSync(fd));
  },
  /** Durable replacement: write beside, fsync, rename, fsync the folder. In this order, so that a crash leaves the old or the new file. */
  replace(label: Label, path: string, content: Uint8Array | string): void {
    guarded(label, path, () => {
      const beside = `${path}.new`;
      const fd = fs.openSync(beside, "w", 0o600);
      try {
        fs.writeSync(fd, typeof content === "string" ? Buffer.from(content) : content);
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
      fs.renameSync(beside, path);
      files.syncFolder(label, path.slice(0, path.lastIndexOf("/")));
    });
  },
  syncFolder(label: Label, folder: string): void {
    hook?.(label, folder);
    const fd = fs.openSync(folder, "r");
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  },
  /** Creates a folder and those above it that are missing; an existing one keeps its mode. */
  mkdir(label: Label, path: string, mode = 0o700): void {
    guarded(label, path, () => fs.mkdirSync(path, { recursive: true, mode }));
  },
  size(fd: number): number {
    return fs.fstatSync(fd).size;
  },
  /** Size of a file by name; undefined when it does not exist. */
  sizeOf(path: string): number | undefined {
    return fs.statSync(path, { throwIfNoEntry: false })?.size;
  },
};
