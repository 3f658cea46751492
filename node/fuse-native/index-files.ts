/**
 * Descriptors of `-shm` files on the mount, from which the primary's capture reads the wal-index.
 *
 * Always holds: they are opened by calls that do not block, ahead of need. SQLite writes a wal-index through a shared map, so its content is in
 * the kernel's pages of the mount's file and, until the kernel writes it back, nowhere else; a read on such a descriptor sees these pages.
 * It must be the index that tells what is committed: frames that a writer has put into the WAL and not published may yet be overwritten.
 */
import * as fs from "node:fs";
import { OWN_OPEN_FLAGS } from "../core/own-open.ts";

/** A descriptor that is open, or on its way. */
interface IndexFile {
  fd: number | undefined;
}

export class IndexFiles {
  readonly #onMount: (path: string) => string;
  readonly #backing: (path: string) => string;
  /** What was not handed over yet. */
  readonly #files = new Map<string, IndexFile>();
  #closed = false;

  constructor(onMount: (path: string) => string, backing: (path: string) => string) {
    this.#onMount = onMount;
    this.#backing = backing;
  }

  /** Begins to open a file. */
  prepare(path: string): void {
    if (this.#closed || this.#files.has(path)) return;
    const file: IndexFile = { fd: undefined };
    this.#files.set(path, file);
    fs.open(this.#onMount(path), OWN_OPEN_FLAGS, (error, fd) => {
      // Dropped meanwhile: what was opened may be another file already.
      const wanted = this.#files.get(path) === file;
      if (error === null && wanted) file.fd = fd;
      else if (error === null) fs.close(fd, () => undefined);
      else if (wanted) this.#files.delete(path);
    });
  }

  /** The descriptor, from now on the caller's; undefined when it is not open yet: then it is being opened, where there is such a file. */
  take(path: string): number | undefined {
    const fd = this.#files.get(path)?.fd;
    if (fd !== undefined) this.#files.delete(path);
    else if (!this.#files.has(path) && fs.existsSync(this.#backing(path))) this.prepare(path);
    return fd;
  }

  /** The name has gone, or means another file. */
  drop(path: string): void {
    const fd = this.#files.get(path)?.fd;
    this.#files.delete(path);
    if (fd !== undefined) fs.close(fd, () => undefined);
  }

  close(): void {
    this.#closed = true;
    for (const path of [...this.#files.keys()]) this.drop(path);
  }
}
