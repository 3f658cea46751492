/**
 * Several node ids for one `-wal`, so that programs that have it open at once do not wait for each other in the kernel.
 *
 * The kernel holds the lock of an inode for as long as a FSYNC is under way, and a write that passes through takes the same lock: while one program
 * brings the WAL to the disk for its checkpoint, nobody could commit, where SQLite on a disk goes on. So each program is given, where it can be, an
 * inode of its own in the kernel, all over the same backing file. It can be because nothing of a `-wal` is in the kernel's inode: reads, writes and
 * maps pass through, its size is asked for each time, and SQLite takes no lock on it. (With durability sync the kernel keeps pages of it: page-caches.ts.)
 * Other files keep one id, because their locks are kept by it.
 *
 * Always holds: an id says by itself which file it means, so an engine that starts anew serves those that an earlier one gave out. Which one a program
 * gets is a matter of speed only: sharing one is never wrong. Attributes show the number of the file itself, whatever the id.
 */

import { TRUSTED_DIRECTORY_ID } from "./policy.ts";

/** Above all inode numbers of backing files. */
export const ALIAS_STEP = 2 ** 44;
/** So many besides the number itself: the largest id stays below TRUSTED_DIRECTORY_ID. */
export const ALIASES_MAX = 127;

/** The number of the backing file that an id means. Ids of no backing file stay what they are. */
export function fileId(id: number): number {
  return id >= TRUSTED_DIRECTORY_ID ? id : id % ALIAS_STEP;
}

/** All ids that a file can have. */
export function aliasesOf(file: number): number[] {
  return Array.from({ length: ALIASES_MAX + 1 }, (_, k) => file + k * ALIAS_STEP);
}

/** The ids of one file, and how often each is open, as far as this engine has seen. */
export class Aliases {
  readonly #opens = new Map<number, number>();
  readonly #first: number;
  #shared = 0;

  /** `first`: 1 where the number itself is not given out. */
  constructor(first: 0 | 1 = 0) {
    this.#first = first;
  }

  /** The id for the next program that looks the file up: one that nobody has open while there is one, then each in turn. */
  next(id: number): number {
    if (this.#opens.size > ALIASES_MAX - this.#first) {
      this.#shared = (this.#shared + 1) % (ALIASES_MAX + 1 - this.#first);
      return id + (this.#first + this.#shared) * ALIAS_STEP;
    }
    let free = id + this.#first * ALIAS_STEP;
    while (this.#opens.has(free)) free += ALIAS_STEP;
    return free;
  }

  opened(id: number): void {
    this.#opens.set(id, (this.#opens.get(id) ?? 0) + 1);
  }

  /** One that an earlier engine saw opened is not known here, and nothing is counted. */
  released(id: number): void {
    const opens = this.#opens.get(id) ?? 0;
    if (opens > 1) this.#opens.set(id, opens - 1);
    else this.#opens.delete(id);
  }
}
