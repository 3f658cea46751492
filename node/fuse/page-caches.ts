/**
 * What the kernel keeps of the `-wal` files of databases with durability sync, and how the node drops it when it is not true any more.
 *
 * Writes to such a file must be requests, and SQLite reads and writes by one descriptor, so it cannot pass through. So that reads are none, it is
 * opened with the kernel's page cache, and each program has an id of its own (aliases.ts): with one for all, readers of the newest page would wait for a
 * commit that is held, because the kernel holds the page that is being written.
 *
 * Always holds: whatever was written is dropped from the caches of all who did not write it before anybody can learn of it, that is, before the reply
 * to the write, or before a follower publishes it. Who opens the file later begins with an empty cache. Which ids are open is told by the FUSE thread; if
 * it has told of one that was not heard of yet, or an earlier engine gave some out, all possible ones are dropped. The kernel waits for pages
 * that are being read, so the thread must be able to answer: `drop` only while the gate is open, and for the program whose write is being answered, never.
 */
import { aliasesOf } from "./aliases.ts";
import { SHARED_CACHED_OPENS } from "./messages.ts";
import { changed, changedNow, type ChangedData } from "./notify.ts";

export class PageCaches {
  readonly #fd: number;
  readonly #shared: Int32Array;
  /** Ids by file. A file that is not here may have any. */
  readonly #nodes = new Map<number, Set<number>>();
  #heard = 0;

  constructor(fuseFd: number, shared: Int32Array) {
    this.#fd = fuseFd;
    this.#shared = shared;
  }

  /** The FUSE thread has told of an open; with `isNew` it has just made the file. */
  opened(file: number, node: number, isNew: boolean): void {
    this.#heard = (this.#heard + 1) | 0;
    if (isNew) this.#nodes.set(file, new Set([node]));
    else this.#nodes.get(file)?.add(node);
  }

  /** There is no such file any more. */
  gone(file: number): void {
    this.#nodes.delete(file);
  }

  /** `writer` has changed these bytes, and its own cache knows. At once. */
  drop(file: number, data: ChangedData, writer: number): void {
    const left = new Set<number>();
    for (const node of this.#candidates(file)) if (node === writer || changedNow(this.#fd, node, data)) left.add(node);
    this.#nodes.set(file, left);
  }

  /** The same without standing still meanwhile; undefined where there is nothing to wait for. */
  dropLater(file: number, data: ChangedData, writer?: number): Promise<void> | undefined {
    const candidates = this.#candidates(file).filter((node) => node !== writer);
    if (candidates.length === 0) return undefined;
    const known = this.#nodes.get(file) ?? new Set<number>();
    if (writer !== undefined) known.add(writer);
    this.#nodes.set(file, known);
    const dropped = candidates.map(async (node) => {
      // One that is told of meanwhile was opened after the change.
      if (await changed(this.#fd, node, data)) known.add(node);
      else known.delete(node);
    });
    return Promise.all(dropped).then(() => undefined);
  }

  #candidates(file: number): readonly number[] {
    const known = this.#nodes.get(file);
    return known === undefined || Atomics.load(this.#shared, SHARED_CACHED_OPENS) !== this.#heard ? aliasesOf(file) : [...known];
  }
}
