/**
 * The seam between the mount and the store: what the FUSE side asks before and tells after it changes a name or a size.
 *
 * Always holds: paths are relative to the mount root, without a leading slash ("app.db", "sub/app.db-wal"). A `before…` hook may return a
 * promise: the application's system call waits for it, other requests go on. It refuses by throwing an AppError, whose errno the application
 * sees. Hooks run in the engine's main thread; the FUSE thread never waits for them but by a deferred reply. The FUSE side performs the
 * operation on the backing file itself, between `before…` and `after…`.
 */
/** The write to a `-wal` that would make the frames `from` to `to` a committed transaction. */
export interface WalCommit {
  readonly offset: number;
  readonly data: Uint8Array;
  readonly from: number;
  readonly to: number;
  readonly pageSize: number;
  /** Pages of the database afterwards. */
  readonly pageCount: number;
  readonly commits: number;
  readonly salt1: number;
  readonly salt2: number;
  /** Running checksum of the WAL after frame `to`. */
  readonly checksum: { readonly s0: number; readonly s1: number };
}

export interface MountHooks {
  /** SETATTR with a size (truncate, ftruncate, O_TRUNC). Not called for `-shm` on a primary. */
  beforeTruncate(path: string, size: number): void | Promise<void>;
  afterTruncate(path: string, size: number): void;
  beforeUnlink(path: string): void | Promise<void>;
  afterUnlink(path: string): void;
  beforeRename(from: string, to: string): void | Promise<void>;
  afterRename(from: string, to: string): void;
  /** Only asked while the mount is in the follower role (see MountControl.setRole), for every CREATE, MKDIR, SYMLINK, and RMDIR. */
  beforeCreate(path: string): void | Promise<void>;
  /** A regular file was created (after the reply was prepared, before or after it was sent). */
  afterCreate(path: string): void;
  /** The last descriptor that was opened O_WRONLY on this file has been released: how `cp` ends. */
  afterRawWrite(path: string): void;
  /** No application has this file open any more. Driver `passthrough` says it only of files that are no companion (-wal, -shm, -journal) of a database. */
  afterLastClose(path: string): void;
  /**
   * A `-journal` file was fsynced and its first 8 bytes are zero: the commit of journal_mode=PERSIST. `header` is the journal header (28
   * bytes or more) as it was at an earlier fsync of the same journal, or undefined when none was seen. The FSYNC reply waits.
   */
  journalZeroed(path: string, header: Buffer | undefined): void | Promise<void>;
  /** A commit of a database with durability sync, before it is written. `write` does it; a refusal makes SQLite roll back. */
  walCommit(path: string, commit: WalCommit, write: () => void): Promise<void>;
  /**
   * A `-wal` is about to be fsynced: its writer is going to wait for the disk, so this is a good moment to read what it has committed. Told
   * now and then, at most once in a few milliseconds, and nothing waits for it. `count`: its fsyncs since this was told last, this one too.
   */
  walSyncs(path: string, count: number): void;
  /** Content of a virtual file, or undefined when there is none of that name now. */
  readVirtual(path: string): Buffer | undefined | Promise<Buffer | undefined>;
  /** An I/O error or a programmer error on the FUSE side that the operator should see. */
  report(message: string, error: unknown): void;
}

/** What the store may tell the mount. Everything takes effect before any request that the kernel sends afterwards. */
export interface MountControl {
  /** "follower" makes CREATE and friends ask `beforeCreate`, and sends truncation of `-shm` through `beforeTruncate`. */
  setRole(role: "primary" | "follower"): void;
  /**
   * While closed, requests of other programs wait in the kernel or in a queue; only the guardian and the engine themselves are served.
   * Closed at the start.
   */
  openGate(): void;
  /** Names that other programs do not see yet (LOOKUP answers ENOENT); resolves when the FUSE thread knows. */
  hide(path: string): Promise<void>;
  /** Ends `hide` and drops the kernel's negative entry. */
  reveal(path: string): void;
  /** The engine has changed size or content attributes of a backing file: drop the kernel's cached attributes (FUSE_NOTIFY_INVAL_INODE, off -1). */
  invalidateAttributes(path: string): void;
  /**
   * The engine has written `length` bytes to a backing file, the last of which is `last`: whatever the kernel keeps of them is dropped. Undefined where it keeps
   * nothing; else nobody may be told of what was written before this resolves.
   */
  dropCached(path: string, data: { readonly offset: number; readonly length: number; readonly last: number }): Promise<void> | undefined;
  /** The engine has created, replaced or removed a name in the backing folder: drop the kernel's entry (FUSE_NOTIFY_INVAL_ENTRY). */
  invalidateEntry(path: string): void;
  /** Which virtual names exist: exact names (".primary", ".lag") and whether `<database>-pos` exists for a path. Pushed by the store. */
  setVirtualNames(names: ReadonlySet<string>): void;
  /** Programs that have this file open now (count of open descriptors known to the FUSE thread). */
  openCount(path: string): Promise<number>;
  /** Requests served so far, by opcode name; for metrics and tests ("no request per transaction"). */
  requestCounts(): Record<string, number>;
}

/** Names that SQLite puts beside a database. */
export const COMPANION_SUFFIXES = ["-wal", "-shm", "-journal"] as const;
export type Companion = (typeof COMPANION_SUFFIXES)[number];

/** Splits "app.db-wal" into {base: "app.db", companion: "-wal"}; undefined companion for any other name. */
export function splitCompanion(path: string): { base: string; companion: Companion | undefined } {
  for (const suffix of COMPANION_SUFFIXES) {
    if (path.length > suffix.length && path.endsWith(suffix)) return { base: path.slice(0, -suffix.length), companion: suffix };
  }
  return { base: path, companion: undefined };
}
