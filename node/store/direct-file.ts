/**
 * A large file that is written past the page cache, in whole pages, by calls that run side by side.
 *
 * Always holds: where direct I/O is not to be had (small pages, a file system without it), the same calls go through the page cache; `settled`
 * resolves when no call is under way. Past the cache because a copy there costs more than the disk does, and would push out what the
 * applications are reading; the first reads of such a file come from the disk.
 */
import fs from "node:fs";
import { files, type Label } from "../io/files.ts";
import { cachedPages, reserve } from "../native/libc.ts";
import { AppError } from "../../proto/errors.ts";

/** Every block size of a disk divides it. */
const ALIGNMENT = 4_096;

/**
 * Opens a large file to read all of it once: past the page cache where most of it is not there, because it would have to be made room for.
 * `memory` is aligned and may be written into. Whoever reads asks for whole pages at their places.
 */
export function openToReadOnce(label: Label, path: string, pageSize: number, memory: Uint8Array): number {
  const fd = files.open(label, path, "r");
  const size = files.size(fd);
  const cached = cachedPages(fd);
  if (pageSize % ALIGNMENT !== 0 || cached === undefined || cached * 2 * ALIGNMENT > size) return fd;
  let direct: number | undefined;
  try {
    direct = files.open(label, path, fs.constants.O_RDONLY | fs.constants.O_DIRECT);
    fs.readSync(direct, memory, 0, ALIGNMENT, 0);
  } catch (error) {
    if (direct !== undefined) fs.closeSync(direct);
    if ((error as NodeJS.ErrnoException).code === "EINVAL") return fd;
    fs.closeSync(fd);
    throw error;
  }
  fs.closeSync(fd);
  return direct;
}

export class DirectFile {
  readonly #label: Label;
  readonly #path: string;
  #fd: number;
  #direct: boolean;
  readonly #running = new Set<Promise<void>>();

  /** Opens the file, which exists, and gives it the size that it will have: writes side by side then neither extend it nor wait for each other. */
  constructor(label: Label, path: string, pageSize: number, size: number) {
    this.#label = label;
    this.#path = path;
    this.#direct = pageSize % ALIGNMENT === 0;
    this.#fd = this.#open();
    const had = files.size(this.#fd);
    try {
      if (had < size) files.truncate(label, this.#fd, size);
      reserve(this.#fd, size);
    } catch (error) {
      // A part may be reserved already, on a disk that is full.
      files.truncate(label, this.#fd, had);
      fs.closeSync(this.#fd);
      const code = (error as NodeJS.ErrnoException).code;
      throw code === "ENOSPC" || code === "EDQUOT" ? new AppError("STORAGE_FULL", [`${label} (${path})`], { cause: error }) : error;
    }
  }

  #open(): number {
    if (this.#direct) {
      try {
        return files.open(this.#label, this.#path, fs.constants.O_WRONLY | fs.constants.O_DIRECT);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
        this.#direct = false;
      }
    }
    return files.open(this.#label, this.#path, fs.constants.O_WRONLY);
  }

  /** Writes whole pages. The memory is in use until this has resolved or rejected. */
  write(memory: Uint8Array, offset: number, length: number, position: number): Promise<void> {
    const done = this.#write(memory, offset, length, position);
    const running: Promise<void> = done.then(() => undefined, () => undefined).finally(() => void this.#running.delete(running));
    this.#running.add(running);
    return done;
  }

  async #write(memory: Uint8Array, offset: number, length: number, position: number): Promise<void> {
    const direct = this.#direct;
    try {
      await files.writeLater(this.#label, this.#fd, memory, offset, length, position);
    } catch (error) {
      // Some file systems say only now that they cannot.
      if (!direct || (error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
      if (this.#direct) this.#fallBack();
      await files.writeLater(this.#label, this.#fd, memory, offset, length, position);
    }
  }

  #fallBack(): void {
    const old = this.#fd;
    this.#direct = false;
    this.#fd = this.#open();
    void this.settled().then(() => fs.closeSync(old));
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Waits for what is under way and closes. */
  async close(): Promise<void> {
    await this.settled();
    fs.closeSync(this.#fd);
  }
}
