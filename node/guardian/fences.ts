/**
 * The fences of a follower's databases: SQLite's own locks, held through descriptors on the mount, so that no local program can write.
 *
 * Always holds: a fence is SHARED on the database, DMS shared, WRITE and CKPT exclusive on its `-shm`, as OFD locks: a local writer gets
 * SQLITE_BUSY after its own busy timeout, readers are not touched. They lie with the guardian so that they outlive the engine. Every access
 * to the mount is asynchronous: the engine answers it, and the engine may be waiting for us.
 */
import { open, stat, type FileHandle } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ofdTryLock } from "../native/libc.ts";
import { SHARED_LOCK, WAL_CKPT_LOCK, WAL_DMS_LOCK, WAL_WRITE_LOCK, type LockRange } from "../sqlite/lock-bytes.ts";

/** How long to wait for a local writer or checkpoint before the next try: both usually last less. */
const RETRY_MS = 2;

interface Fence {
  /** What was asked last: an `off` ends the wait of an `on`. */
  wanted: boolean;
  held: { readonly database: FileHandle; readonly shm: FileHandle } | undefined;
  /** The tail of the work on this database: one thing at a time, in the order asked. */
  work: Promise<void>;
}

export class Fences {
  readonly #pathOf: (path: string) => string;
  readonly #openFlags: string | number;
  readonly #fences = new Map<string, Fence>();

  /** `pathOf` leads from a path below the mount to where the file is opened. Write access is needed for a write lock, not for writing. */
  constructor(pathOf: (path: string) => string, openFlags: string | number = "r+") {
    this.#pathOf = pathOf;
    this.#openFlags = openFlags;
  }

  /** Databases whose fence is held. */
  get held(): string[] {
    return [...this.#fences].filter(([, fence]) => fence.held !== undefined).map(([database]) => database);
  }

  /**
   * Takes (`on`) or gives back the fence of the database at this path below the mount. Resolves when it is so; that can take as long as a
   * local program holds its locks. Rejects when a file cannot be opened, or when an `off` came meanwhile.
   */
  set(database: string, on: boolean): Promise<void> {
    let fence = this.#fences.get(database);
    if (fence === undefined) this.#fences.set(database, (fence = { wanted: on, held: undefined, work: Promise.resolve() }));
    const current = fence;
    current.wanted = on;
    const done = current.work.then(() => (on ? this.#take(database, current) : this.#give(current)));
    current.work = done.catch(() => {});
    return done;
  }

  /** Gives all fences back. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#fences.keys()].map((database) => this.set(database, false)));
  }

  async #take(database: string, fence: Fence): Promise<void> {
    const [path, shmPath] = [this.#pathOf(database), this.#pathOf(`${database}-shm`)];
    if (fence.held !== undefined) {
      if (await isStill(fence.held.database, path) && await isStill(fence.held.shm, shmPath)) return;
      await this.#give(fence);
    }
    const files: FileHandle[] = [];
    try {
      for (const name of [path, shmPath]) files.push(await open(name, this.#openFlags));
      const [db, shm] = files as [FileHandle, FileHandle];
      const missing: [FileHandle, "read" | "write", LockRange][] = [[db, "read", SHARED_LOCK], [shm, "read", WAL_DMS_LOCK], [shm, "write", WAL_WRITE_LOCK], [shm, "write", WAL_CKPT_LOCK]];
      for (;;) {
        // In order, and what is held is kept: whoever holds a later lock never waits for an earlier one, SQLite's locks do not wait.
        while (missing[0] !== undefined && tryLock(missing[0])) missing.shift();
        if (missing.length === 0) break;
        if (!fence.wanted) throw new Error("the fence was given up while it was waited for");
        await sleep(RETRY_MS);
      }
      fence.held = { database: db, shm };
    } catch (error) {
      for (const file of files) await file.close();
      throw error;
    }
  }

  async #give(fence: Fence): Promise<void> {
    const held = fence.held;
    if (held === undefined) return;
    fence.held = undefined;
    // Closing the last descriptor of an open file description releases its locks.
    await held.shm.close();
    await held.database.close();
  }
}

function tryLock([file, kind, range]: readonly [FileHandle, "read" | "write", LockRange]): boolean {
  return ofdTryLock(file.fd, kind, range.start, range.length);
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
