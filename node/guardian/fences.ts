/**
 * The fences of a node's databases: SQLite's own locks, held through descriptors on the mount, so that no local program can write.
 *
 * Always holds: what is held is what the level says, as OFD locks, and nothing else. A local writer gets SQLITE_BUSY after its own busy
 * timeout and is let through if the level goes back before that; readers are not touched, but by `exclusive`. Fences lie with the guardian
 * so that they outlive the engine, and so that they can be raised while no engine answers: on a primary the descriptors are `ready`. Every
 * access to the mount is asynchronous: the engine answers it, and the engine may be waiting for us.
 *
 * | level     | on the database                         | on its `-shm`, if there is one     | who needs it                                         |
 * |-----------|-----------------------------------------|------------------------------------|------------------------------------------------------|
 * | off       |                                         |                                    | nobody; the descriptors are closed                   |
 * | ready     |                                         |                                    | a primary: the fence can be raised at once           |
 * | write     | RESERVED, SHARED shared                 | WRITE                              | a primary whose lease is in doubt, or in a handoff   |
 * | exclusive | RESERVED, PENDING, SHARED exclusive     | WRITE, DMS exclusive               | a primary that becomes a follower, database not in WAL mode: nobody reads without the WAL that is about to be made |
 * | follow    | RESERVED, SHARED shared                 | WRITE, DMS shared, CKPT            | a follower                                           |
 */
import { open, stat, type FileHandle } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ofdTryLock } from "../native/libc.ts";
import { PENDING_LOCK, RESERVED_LOCK, SHARED_LOCK, WAL_CKPT_LOCK, WAL_DMS_LOCK, WAL_WRITE_LOCK, type LockRange } from "../sqlite/lock-bytes.ts";
import type { FenceLevel } from "./messages.ts";

/** Between two bursts of tries: a writer that commits without pause leaves the lock free for microseconds only. */
const RETRY_MS = 2;
const BURST = 400;

type File = "database" | "shm";
interface Lock { readonly file: File; readonly range: LockRange; readonly kind: "read" | "write" }
const lock = (file: File, range: LockRange, kind: "read" | "write"): Lock => ({ file, range, kind });

/** In the order in which they are taken: RESERVED before SHARED, because a writer that has RESERVED waits for every SHARED to go. */
export const LEVEL_LOCKS: Readonly<Record<FenceLevel, readonly Lock[]>> = {
  off: [],
  ready: [],
  write: [lock("database", RESERVED_LOCK, "write"), lock("shm", WAL_WRITE_LOCK, "write"), lock("database", SHARED_LOCK, "read")],
  exclusive: [
    lock("database", RESERVED_LOCK, "write"), lock("shm", WAL_WRITE_LOCK, "write"), lock("database", PENDING_LOCK, "write"),
    lock("database", SHARED_LOCK, "write"), lock("shm", WAL_DMS_LOCK, "write"),
  ],
  follow: [
    lock("database", RESERVED_LOCK, "write"), lock("database", SHARED_LOCK, "read"), lock("shm", WAL_DMS_LOCK, "read"), lock("shm", WAL_WRITE_LOCK, "write"),
    lock("shm", WAL_CKPT_LOCK, "write"),
  ],
};

interface Fence {
  /** What was asked last: a lower level ends the wait for a higher one. */
  wanted: FenceLevel;
  files: { database?: FileHandle; shm?: FileHandle };
  /** Locks that are held now. */
  held: Lock[];
  level: FenceLevel;
  /** The tail of the work on this database: one thing at a time, in the order asked. */
  work: Promise<void>;
}

/** A request for a lower one ends the wait for a higher one. */
const RANK: Readonly<Record<FenceLevel, number>> = { off: 0, ready: 1, write: 2, follow: 3, exclusive: 4 };

export class Fences {
  readonly #pathOf: (path: string) => string;
  readonly #openFlags: string | number;
  readonly #fences = new Map<string, Fence>();

  /** `pathOf` leads from a path below the mount to where the file is opened. Write access is needed for a write lock, not for writing. */
  constructor(pathOf: (path: string) => string, openFlags: string | number = "r+") {
    this.#pathOf = pathOf;
    this.#openFlags = openFlags;
  }

  /** Databases that no local program can write now. */
  get held(): string[] {
    return [...this.#fences].filter(([, fence]) => RANK[fence.level] >= RANK.write).map(([database]) => database);
  }

  /**
   * Brings the fence of the database at this path below the mount to a level. Resolves when it is so; that can take as long as a local program
   * holds its locks. Rejects when a file cannot be opened, or when a lower level was asked for meanwhile.
   */
  set(database: string, level: FenceLevel): Promise<void> {
    let fence = this.#fences.get(database);
    if (fence === undefined) this.#fences.set(database, (fence = { wanted: level, files: {}, held: [], level: "off", work: Promise.resolve() }));
    const current = fence;
    current.wanted = level;
    const done = current.work.then(() => this.#bring(database, current, level));
    current.work = done.catch(() => {});
    return done;
  }

  /** Raises every fence that is `ready` to `write`, whatever engine there is or is not: the lease runs out. Resolves when all are held. */
  async raise(): Promise<void> {
    const ready = [...this.#fences].filter(([, fence]) => fence.wanted === "ready").map(([database]) => database);
    await Promise.allSettled(ready.map((database) => this.set(database, "write")));
  }

  /** Gives all fences back. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#fences.keys()].map((database) => this.set(database, "off")));
  }

  async #bring(database: string, fence: Fence, level: FenceLevel): Promise<void> {
    if (level === "off") return this.#closeFiles(fence);
    const need = level === "follow" ? ["database", "shm"] as const : ["database"] as const;
    // While a fence is raised nothing is opened: no engine may be there to answer. What `ready` opened is what there is.
    const mayOpen = level !== "write" || fence.files.database === undefined;
    if (mayOpen) await this.#openFiles(database, fence, need);
    const locks = LEVEL_LOCKS[level].filter(({ file }) => fence.files[file] !== undefined);
    try {
      await this.#take(fence, level, locks);
    } catch (error) {
      // What was held before stays; nothing half-way.
      this.#release(fence, LEVEL_LOCKS[fence.level]);
      if (fence.level === "off") await this.#closeFiles(fence);
      throw error;
    }
    this.#release(fence, locks);
    fence.level = level;
  }

  /** Takes what is missing, in order, and keeps what it has: whoever holds a later lock never waits for an earlier one, SQLite's locks do not wait. */
  async #take(fence: Fence, level: FenceLevel, locks: readonly Lock[]): Promise<void> {
    const missing = locks.filter((wanted) => !fence.held.some((held) => sameLock(held, wanted)));
    for (let next = missing[0]; next !== undefined; next = missing[0]) {
      let got = false;
      for (let attempt = 0; attempt < BURST && !got; attempt++) got = ofdTryLock(fence.files[next.file]!.fd, next.kind, next.range.start, next.range.length);
      if (got) {
        const { file, range } = next;
        fence.held = fence.held.filter((held) => held.file !== file || held.range !== range);
        fence.held.push(next);
        missing.shift();
        continue;
      }
      if (RANK[fence.wanted] < RANK[level]) throw new Error("the fence was given up while it was waited for");
      await sleep(RETRY_MS);
    }
  }

  /** Lets go of everything that is not in `keep`; a lock that `keep` has in another strength is converted, which never waits downwards. */
  #release(fence: Fence, keep: readonly Lock[]): void {
    for (const held of [...fence.held]) {
      const kept = keep.find(({ file, range }) => file === held.file && range === held.range);
      if (kept !== undefined && kept.kind === held.kind) continue;
      ofdTryLock(fence.files[held.file]!.fd, kept?.kind ?? "unlock", held.range.start, held.range.length);
      fence.held = fence.held.filter((other) => other !== held);
      if (kept !== undefined) fence.held.push(kept);
    }
  }

  /** Opens what is not open, and opens anew what has been replaced. A file that is not needed may be missing. */
  async #openFiles(database: string, fence: Fence, need: readonly File[]): Promise<void> {
    for (const [file, path] of [["database", this.#pathOf(database)], ["shm", this.#pathOf(`${database}-shm`)]] as const) {
      const known = fence.files[file];
      if (known !== undefined && await isStill(known, path)) continue;
      fence.held = fence.held.filter((held) => held.file !== file);
      delete fence.files[file];
      // Closing the last descriptor of an open file description releases its locks.
      await known?.close();
      try {
        fence.files[file] = await open(path, this.#openFlags);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT" && !need.includes(file)) continue;
        if (fence.held.length === 0) await this.#closeFiles(fence);
        throw error;
      }
    }
  }

  async #closeFiles(fence: Fence): Promise<void> {
    const { database, shm } = fence.files;
    fence.files = {};
    fence.held = [];
    fence.level = "off";
    await shm?.close();
    await database?.close();
  }
}

function sameLock(a: Lock, b: Lock): boolean {
  return a.file === b.file && a.range === b.range && a.kind === b.kind;
}

/** Whether the path still names the file that is open: a database can be replaced while it is fenced, by the engine. */
async function isStill(file: FileHandle, path: string): Promise<boolean> {
  try {
    const [now, then] = await Promise.all([stat(path, { bigint: true }), file.stat({ bigint: true })]);
    return now.ino === then.ino && now.dev === then.dev;
  } catch {
    return false;
  }
}
