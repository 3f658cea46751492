/**
 * The seam to the disk: every call of the store that changes or reads its files goes through here and carries a label.
 *
 * Always holds: a label names the place ("log:write", "replica:wal"), so that a test can fail, delay or record exactly that call; whatever changes
 * a file or a folder is told to the recorder after it has been done, so that a test can build what a crash leaves behind; an error of the
 * disk leaves as it came, except ENOSPC and EDQUOT, which become STORAGE_FULL and name the file. Synchronous, because capture and
 * apply must not be interleaved with anything; the few asynchronous calls are fsyncs that nobody may wait for, and the bulk of whole databases.
 */
import fs from "node:fs";
import { AppError } from "../../proto/errors.ts";

export type Label = `${string}:${string}`;

/** Called before each labelled call; a test installs one to record calls or to throw in their place. */
export type FaultHook = (label: Label, path: string | number) => void;

let hook: FaultHook | undefined;

/** What changed the disk, in the order in which it was done. */
export type DiskChange =
  /** Made if it did not exist; `emptied` if it did. */
  | { readonly op: "open"; readonly label: Label; readonly path: string; readonly emptied: boolean }
  | { readonly op: "write"; readonly label: Label; readonly fd: number; readonly data: Uint8Array; readonly position: number }
  | { readonly op: "truncate"; readonly label: Label; readonly fd: number; readonly size: number }
  | { readonly op: "unlink"; readonly label: Label; readonly path: string }
  | { readonly op: "rename"; readonly label: Label; readonly from: string; readonly to: string }
  | { readonly op: "mkdir"; readonly label: Label; readonly path: string }
  /** Content and size of the file are on the disk. */
  | { readonly op: "sync"; readonly label: Label; readonly fd: number }
  /** The names in the folder are on the disk. */
  | { readonly op: "syncFolder"; readonly label: Label; readonly path: string };

let recorder: ((change: DiskChange) => void) | undefined;

/** For tests: installs (or with undefined removes) what is told of each change. The data of a write is valid only during the call. */
export function setRecorder(next: typeof recorder): void {
  recorder = next;
}

/** For tests: installs (or with undefined removes) the fault hook. */
export function setFaultHook(next: FaultHook | undefined): void {
  hook = next;
}

function guarded<T>(label: Label, path: string | number, call: () => T): T {
  try {
    hook?.(label, path);
    return call();
  } catch (error) {
    throw asIs(label, path, error);
  }
}

async function guardedLater<T>(label: Label, path: string | number, call: () => Promise<T>): Promise<T> {
  try {
    hook?.(label, path);
    return await call();
  } catch (error) {
    throw asIs(label, path, error);
  }
}

/** The error as it leaves: as it came, but that of a full disk. */
function asIs(label: Label, path: string | number, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOSPC" || code === "EDQUOT" ? new AppError("STORAGE_FULL", [`${label} (${nameOf(path)})`], { cause: error }) : error;
}

function nameOf(path: string | number): string {
  if (typeof path === "string") return path;
  try {
    return fs.readlinkSync(`/proc/self/fd/${path}`);
  } catch {
    return String(path);
  }
}

const CREATING: ReadonlySet<string> = new Set(["w", "w+", "a", "a+", "ax", "wx", "wx+"]);

export const files = {
  open(label: Label, path: string, flags: string | number, mode = 0o600): number {
    const fd = guarded(label, path, () => fs.openSync(path, flags, mode));
    const creates = typeof flags === "string" ? CREATING.has(flags) : (flags & fs.constants.O_CREAT) !== 0;
    if (creates) recorder?.({ op: "open", label, path, emptied: typeof flags === "string" ? flags.startsWith("w") : (flags & fs.constants.O_TRUNC) !== 0 });
    return fd;
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
    recorder?.({ op: "write", label, fd, data: buffer.subarray(offset, offset + length), position });
  },
  /** {@link read} in another thread. The buffer is in use until this has resolved. */
  async readLater(label: Label, fd: number, buffer: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    hook?.(label, fd);
    let done = 0;
    while (done < length) {
      const n = await new Promise<number>((resolve, reject) => fs.read(fd, buffer, offset + done, length - done, position + done, (error, read) => (error === null ? resolve(read) : reject(error))));
      if (n === 0) break;
      done += n;
    }
    return done;
  },
  /** {@link write} in another thread. The buffer is in use until this has resolved or rejected. */
  async writeLater(label: Label, fd: number, buffer: Uint8Array, offset: number, length: number, position: number): Promise<void> {
    await guardedLater(label, fd, async () => {
      for (let done = 0; done < length; ) {
        done += await new Promise<number>((resolve, reject) => fs.write(fd, buffer, offset + done, length - done, position + done, (error, written) => (error === null ? resolve(written) : reject(error))));
      }
    });
    recorder?.({ op: "write", label, fd, data: buffer.subarray(offset, offset + length), position });
  },
  /** A whole small file, new or replaced in place: for notes whose loss does no harm. */
  writeFile(label: Label, path: string, content: Uint8Array | string, mode = 0o600): void {
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    const fd = files.open(label, path, "w", mode);
    try {
      files.write(label, fd, bytes, 0, bytes.length, 0);
    } finally {
      fs.closeSync(fd);
    }
  },
  /** A copy of a whole file in another thread, sharing its blocks where the file system can; nothing is left behind on failure. The recorder is told only that it was made. */
  async copy(label: Label, from: string, to: string): Promise<void> {
    await guardedLater(label, to, async () => {
      try {
        await fs.promises.copyFile(from, to, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") fs.rmSync(to, { force: true });
        throw error;
      }
    });
    recorder?.({ op: "open", label, path: to, emptied: true });
  },
  truncate(label: Label, fd: number, size: number): void {
    guarded(label, fd, () => fs.ftruncateSync(fd, size));
    recorder?.({ op: "truncate", label, fd, size });
  },
  unlink(label: Label, path: string): void {
    guarded(label, path, () => fs.rmSync(path, { force: true }));
    recorder?.({ op: "unlink", label, path });
  },
  /** An empty folder; the recorder is not told, because an empty folder means nothing. */
  rmdir(label: Label, path: string): void {
    guarded(label, path, () => fs.rmdirSync(path));
  },
  rename(label: Label, from: string, to: string): void {
    guarded(label, from, () => fs.renameSync(from, to));
    recorder?.({ op: "rename", label, from, to });
  },
  async fdatasync(label: Label, fd: number): Promise<void> {
    hook?.(label, fd);
    await new Promise<void>((resolve, reject) => fs.fdatasync(fd, (error) => {
      if (error !== null) return reject(error);
      recorder?.({ op: "sync", label, fd });
      resolve();
    }));
  },
  fdatasyncNow(label: Label, fd: number): void {
    guarded(label, fd, () => fs.fdatasyncSync(fd));
    recorder?.({ op: "sync", label, fd });
  },
  /** Durable replacement: write beside, fsync, rename, fsync the folder. In this order, so that a crash leaves the old or the new file. */
  replace(label: Label, path: string, content: Uint8Array | string): void {
    const beside = `${path}.new`;
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    const fd = files.open(label, beside, "w", 0o600);
    try {
      files.write(label, fd, bytes, 0, bytes.length, 0);
      files.fdatasyncNow(label, fd);
    } finally {
      fs.closeSync(fd);
    }
    files.rename(label, beside, path);
    files.syncFolder(label, path.slice(0, path.lastIndexOf("/")));
  },
  syncFolder(label: Label, folder: string): void {
    guarded(label, folder, () => {
      const fd = fs.openSync(folder, "r");
      try {
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    });
    recorder?.({ op: "syncFolder", label, path: folder });
  },
  /** Creates a folder and those above it that are missing; an existing one keeps its mode. */
  mkdir(label: Label, path: string, mode = 0o700): void {
    guarded(label, path, () => fs.mkdirSync(path, { recursive: true, mode }));
    recorder?.({ op: "mkdir", label, path });
  },
  size(fd: number): number {
    return fs.fstatSync(fd).size;
  },
  /** Size of a file by name; undefined when it does not exist. */
  sizeOf(path: string): number | undefined {
    return fs.statSync(path, { throwIfNoEntry: false })?.size;
  },
};
