/**
 * What this driver allows by itself, what it refuses, and what it asks the engine about: pure decisions.
 *
 * Always holds: on a follower the engine is never asked. It reads and writes the databases through the mount by calls that block it, so a
 * request that waited for the engine while it held the lock of a directory or a path would wait for itself. Everything that a follower must
 * refuse is known here: the names of databases and the patterns that say what is replicated. On a primary the engine makes no call on the
 * mount that blocks, except reading `-shm` through an open descriptor; so nothing that holds libfuse's lock on a `-shm` or on a folder
 * above it is asked about.
 */
import { constants as os } from "node:os";
import { splitCompanion } from "../core/mount-hooks.ts";
import { isUnder } from "../fuse/policy.ts";

/** "ask" waits for the engine; a number is the negative errno of a refusal. */
export type Verdict = "allow" | "ask" | number;

/** Each known database has a virtual file of its name with this at the end. */
export const POSITION_SUFFIX = "-pos";

const EAGAIN = -os.errno.EAGAIN;
const ENOENT = -os.errno.ENOENT;
const EPERM = -os.errno.EPERM;
const EROFS = -os.errno.EROFS;

export class Guard {
  role: "primary" | "follower" = "follower";
  /** Until the engine opens the gate, programs get EAGAIN: whoever waited here could stand in the way of the fences. */
  gateOpen = false;
  names: ReadonlySet<string> = new Set();
  readonly hidden = new Set<string>();
  readonly #replicates: (name: string) => boolean;

  constructor(replicates: (name: string) => boolean) {
    this.#replicates = replicates;
  }

  isVirtual(path: string): boolean {
    return this.names.has(path);
  }

  /** Whether this name may be a position file that the engine knows and this process does not. */
  mayBeNews(path: string): boolean {
    return this.role === "primary" && this.gateOpen && path.endsWith(POSITION_SUFFIX) && !this.names.has(path);
  }

  /** Whether a path is a known database or one of its companions. */
  isDatabase(path: string): boolean {
    const { base } = splitCompanion(path);
    return [path, base].some((name) => this.names.has(name + POSITION_SUFFIX) || this.hidden.has(name));
  }

  open(path: string): Verdict {
    if (!this.gateOpen) return EAGAIN;
    return this.hidden.has(path) ? ENOENT : "allow";
  }

  /** CREATE, MKNOD, MKDIR, SYMLINK, RMDIR. */
  create(path: string): Verdict {
    if (!this.gateOpen) return EAGAIN;
    if (this.isVirtual(path)) return EPERM;
    const { base, companion } = splitCompanion(path);
    if (this.role === "primary" || companion === undefined || !this.#replicates(base)) return "allow";
    // A transaction begins on a database that only the primary may write; one that exists nowhere cannot begin here either.
    return companion === "-journal" || (companion === "-wal" && !this.isDatabase(base)) ? EROFS : "allow";
  }

  /** UNLINK and a change of size. */
  change(path: string): Verdict {
    if (!this.gateOpen) return EAGAIN;
    if (this.isVirtual(path)) return EPERM;
    if (this.role === "follower") return this.isDatabase(path) ? EROFS : "allow";
    return splitCompanion(path).companion === "-shm" ? "allow" : "ask";
  }

  rename(from: string, to: string, isFolder: boolean): Verdict {
    if (!this.gateOpen) return EAGAIN;
    if (this.isVirtual(from) || this.isVirtual(to)) return EPERM;
    if (this.role === "follower") {
      const holdsDatabase = isFolder && [...this.names].some((name) => name.endsWith(POSITION_SUFFIX) && isUnder(name, from));
      return holdsDatabase || this.isDatabase(from) || this.isDatabase(to) ? EROFS : "allow";
    }
    // While a folder moves, libfuse stops all requests below it, also those of the capture. The store learns of it afterwards.
    if (isFolder) return "allow";
    return [from, to].some((path) => splitCompanion(path).companion === "-shm") ? "allow" : "ask";
  }
}
