/**
 * All databases of a node, and what the mount's events mean for them.
 *
 * Always holds: a file of the mount is a replicated database (known by name, with a log), or one of its companions, or local. A database is
 * found by its header or its companions, never by its name alone; `databases: {pattern: {replicate: false}}` keeps one local. On the primary every
 * event that ends a transaction, or would let SQLite overwrite what is not captured, waits for the capture. On a follower nothing that an
 * application does changes a replicated database.
 */
import fs from "node:fs";
import { constants as os } from "node:os";
import { dirname, join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { splitCompanion, type MountHooks, type WalCommit } from "../core/mount-hooks.ts";
import { files } from "../io/files.ts";
import { isComplete, readDatabaseHeader, type DatabaseHeader } from "../sqlite/database-header.ts";
import { AppError } from "../../proto/errors.ts";
import { formatPosition, ZERO_POSITION } from "../../proto/position.ts";
import { Aside } from "./aside.ts";
import { CaptureClock } from "./capture-clock.ts";
import { compactLog } from "./compaction.ts";
import { Database, type StoreContext } from "./database.ts";
import { Follower, type FollowerHost } from "./follower.ts";
import { databaseOfFolder, databasePaths, type MountAccess } from "./names.ts";
import { Primary } from "./primary.ts";
import { Replica } from "./replica.ts";
import type { StoredDatabase } from "./stored-database.ts";
import { beginFollower, beginPrimary, type SwitchParts } from "./switching.ts";
import { Diverged } from "./diverged.ts";
import { keepDiverged, type DivergedPages, type DivergenceFacts } from "./diverged-writer.ts";
import type { StoredPosition } from "../core/stored-position.ts";
import type { Quorum, SyncTerms } from "./sync-commit.ts";
import { copyDatabase } from "./transfer.ts";

export interface StoreOptions {
  readonly dataDir: string;
  readonly nodeId: bigint;
  readonly nodeName: string;
  readonly boot: Buffer;
  /** Whether a database of this name is replicated: the configuration's patterns. */
  readonly replicates: (name: string) => boolean;
  /** The lease of a primary can end: its fences are kept ready. Not so where the configuration names the primary. */
  readonly leaseCanEnd: boolean;
  /** Terms of durability sync for a database of this name; undefined for async. */
  readonly sync?: (name: string) => { readonly replicas: number; readonly timeoutMs: number } | undefined;
  readonly retention: { readonly durationMs: number; readonly bytes: number };
  /** For a driver that does not pass files through. */
  readonly mount?: MountAccess;
  readonly host: FollowerHost & {
    /** The set of virtual names has changed. */
    setVirtualNames(names: ReadonlySet<string>): void;
    /** What `.primary` says; undefined on the primary and while none is known. */
    primaryName(): string | undefined;
    /** What `.lag` says, ms; undefined before the first contact. */
    lagMs(): number | undefined;
  };
}

/** For how long at a time a program waits that makes a `-wal` while the node becomes a follower. */
const CREATE_WAIT_MS = 10;

export class Store implements MountHooks {
  readonly aside: Aside;
  readonly diverged: Diverged;
  readonly #options: StoreOptions;
  readonly #context: StoreContext;
  readonly #databases = new Map<string, StoredDatabase>();
  readonly #listeners = new Set<(database: Database) => void>();
  readonly #clock: CaptureClock;
  readonly #switching: SwitchParts;
  /** Files that may turn out to be databases: created empty, watched until their first bytes are there. */
  readonly #newborn = new Map<string, fs.FSWatcher>();
  /** Log entries that running snapshots still need, by database. */
  readonly #pins = new Map<string, Map<symbol, number>>();
  #role: "primary" | "follower" = "follower";
  /** Writers are kept out: what begins meanwhile is fenced as well. */
  #fenced = false;
  #epoch = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.aside = new Aside(join(options.dataDir, "aside"));
    this.diverged = new Diverged(options.dataDir);
    this.#context = {
      nodeId: options.nodeId, nodeName: options.nodeName, boot: options.boot,
      setAside: (path, reason) => {
        this.aside.put(path, reason);
        options.host.report(`Set aside ${path}: ${reason}`, undefined);
      },
      keepCopy: (path, reason) => this.aside.copy(path, reason),
    };
    this.#clock = new CaptureClock((message, error) => this.report(message, error));
    this.#switching = { host: options.host, clock: this.#clock, rest: options.leaseCanEnd ? "ready" : "off", sync: (name) => this.#syncTerms(name), report: (message, error) => this.report(message, error) };
    // The root of the mount, with the mode of the root of any new file system; what lies around it stays private.
    files.mkdir("store:files", join(options.dataDir, "files"), 0o755);
    files.mkdir("store:log", join(options.dataDir, "log"));
  }

  get role(): "primary" | "follower" {
    return this.#role;
  }

  get databases(): ReadonlyMap<string, StoredDatabase> {
    return this.#databases;
  }

  /** Calls back after each change of a database's position, new databases included. Returns the call that ends it. */
  onChange(listener: (database: Database) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads what the node has on disk. Takes time per database, not per byte. */
  open(): void {
    this.diverged.sweep();
    for (const name of fs.readdirSync(this.#options.dataDir)) if (/^import-\d+-\d+\.part$/.test(name)) files.unlink("import:unfinished", join(this.#options.dataDir, name));
    for (const { folder, name } of this.#logFolders()) {
      if (name !== undefined) this.#load(name);
      else this.#context.setAside(join(this.#options.dataDir, "log", folder), "it is not the log of a database");
    }
    for (const name of this.#filesBelow("")) {
      const { companion } = splitCompanion(name);
      if (companion === undefined && !this.#databases.has(name) && this.#looksLikeDatabase(name) && this.#options.replicates(name)) this.#load(name);
    }
  }

  *#logFolders(): Generator<{ folder: string; name: string | undefined }> {
    for (const entry of fs.readdirSync(join(this.#options.dataDir, "log"), { withFileTypes: true })) yield { folder: entry.name, name: entry.isDirectory() ? databaseOfFolder(entry.name) : undefined };
  }

  *#filesBelow(folder: string): Generator<string> {
    const root = join(this.#options.dataDir, "files");
    for (const entry of fs.readdirSync(join(root, folder), { withFileTypes: true })) {
      const name = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) yield* this.#filesBelow(name);
      else if (entry.isFile()) yield relative(root, join(root, name));
    }
  }

  /** Regular files of the mount that are no replicated database and no part of one: kept on this node only. */
  localFiles(): { count: number; names: string[] } {
    const names: string[] = [];
    let count = 0;
    for (const name of this.#filesBelow("")) {
      if (this.#databases.has(splitCompanion(name).base)) continue;
      count++;
      if (names.length < 100) names.push(name);
    }
    return { count, names };
  }

  #load(name: string): StoredDatabase {
    const known = this.#databases.get(name);
    if (known !== undefined) return known;
    const { mount } = this.#options;
    const database = new Database({ ...databasePaths(this.#options.dataDir, name), ...(mount === undefined ? {} : { mount }) }, this.#context);
    database.open();
    const entry: StoredDatabase = { database, primary: undefined, follower: undefined };
    this.#databases.set(name, entry);
    let { deleted } = database;
    database.onChange((changed) => {
      if (changed.deleted !== deleted) {
        ({ deleted } = changed);
        this.#namesChanged();
      }
      for (const listener of this.#listeners) listener(changed);
    });
    this.#namesChanged();
    return entry;
  }

  #looksLikeDatabase(name: string): boolean {
    return this.#headOf(name) !== undefined;
  }

  #headOf(name: string): { readonly header: DatabaseHeader; readonly bytes: number } | undefined {
    try {
      const fd = fs.openSync(databasePaths(this.#options.dataDir, name).database, "r");
      try {
        const head = Buffer.alloc(100);
        const header = fs.readSync(fd, head, 0, 100, 0) === 100 ? readDatabaseHeader(head) : undefined;
        return header === undefined ? undefined : { header, bytes: fs.fstatSync(fd).size };
      } finally {
        fs.closeSync(fd);
      }
    } catch {
      return undefined; // Vanished, or not a regular file.
    }
  }

  /** Says again which virtual names there are: `.primary` comes and goes with the primary. */
  announceNames(): void {
    this.#namesChanged();
  }

  #namesChanged(): void {
    const names = new Set<string>([".lag", ".primary"]);
    // On the primary also one that is just being made anew: reading its position waits for its first transaction.
    for (const [name, { database, primary }] of this.#databases) if (!database.deleted || primary !== undefined) names.add(`${name}-pos`);
    this.#options.host.setVirtualNames(names);
  }

  // Roles.

  /**
   * This node writes from now on, in this epoch. `live`: applications may have databases open (an engine was restarted under them). What
   * followed until now is taken up where it stands. Resolves when applications may write.
   */
  async becomePrimary(epoch: number, options: { live: boolean }): Promise<void> {
    this.#role = "primary";
    this.#fenced = false;
    this.#epoch = epoch;
    await Promise.all([...this.#databases.values()].map((entry) => beginPrimary(entry, epoch, options.live, this.#switching)));
    this.#namesChanged();
  }

  #newPrimary(database: Database): Primary {
    return new Primary(database, (message, error) => this.report(message, error), this.#syncTerms(database.name));
  }

  #syncTerms(name: string): SyncTerms | undefined {
    const terms = this.#options.sync?.(name);
    return terms === undefined ? undefined : { ...terms, quorum: () => this.quorum };
  }

  /** Asked by commits of databases with durability sync; set by whoever serves the followers. */
  quorum: Quorum | undefined;

  /** How far this node has stored a database, for an election. */
  storedPosition(name: string): StoredPosition {
    const database = this.#databases.get(name)?.database;
    if (database === undefined) return { published: ZERO_POSITION, tail: undefined, refused: 0 };
    const tail = database.distrust === undefined ? database.tail.after(database.position) : undefined;
    return {
      published: database.position, refused: database.tail.refused,
      tail: tail === undefined ? undefined : { position: { epoch: tail.epoch, txid: tail.txid, checksum: tail.checksum }, serial: tail.serial },
    };
  }

  /**
   * A follower that was elected, before becomePrimary: publishes what it has stored behind its position. `refused` is the highest serial that
   * any node asked in the election knows to be refused. Returns whether something was published.
   */
  async settle(name: string, refused: number): Promise<boolean> {
    const follower = this.#databases.get(name)?.follower;
    return follower === undefined ? false : follower.settle(refused);
  }

  /** This node follows from now on: every database gets its fence before this resolves. What it wrote is captured first. */
  async becomeFollower(options: { live: boolean }): Promise<void> {
    this.#role = "follower";
    // Whoever waits for followers holds the lock that the fence wants.
    this.quorum?.refuseAll("this node is the primary no more");
    for (const path of [...this.#newborn.keys()]) this.#stopWatchingNewborn(path);
    await Promise.all([...this.#databases.values()].map((entry) => beginFollower(entry, options.live, this.#switching)));
    this.#namesChanged();
  }

  /** Keeps local writers out of every database (or lets them in again) while this node remains what it is. Resolves when it is so. */
  async fenceAll(on: boolean): Promise<void> {
    this.#fenced = on;
    await Promise.all([...this.#databases.values()].map(async ({ database, primary }) => {
      if (primary !== undefined) await this.#options.host.fence(database.name, on ? "write" : "ready");
    }));
  }

  /** Why this node should not write: a database of it is not whole. Undefined when all are. */
  unfit(): string | undefined {
    for (const { database } of this.#databases.values()) {
      if (database.distrust !== undefined) return `"${database.name}": ${database.distrust}`;
      if (database.pendingInstall !== undefined) return `"${database.name}": a snapshot is being installed`;
    }
    return undefined;
  }

  /**
   * Keeps what only this node has of a database, before the primary's history takes its place. Rejects when it cannot, and nothing is changed.
   * Resolves with what a rewind to the ancestor needs, where that is possible.
   */
  async keepDiverged(follower: Follower, facts: Omit<DivergenceFacts, "node" | "nowMs">): Promise<DivergedPages | undefined> {
    const { name } = follower.database;
    const unpin = this.pin(name, facts.ancestor.txid + 1);
    try {
      const node = { name: this.#options.nodeName, id: this.#options.nodeId.toString(16).padStart(16, "0") };
      const { entry, made, pages } = await keepDiverged(this.diverged, follower, { ...facts, node, nowMs: Date.now() });
      if (made) this.report(`"${name}" had ${entry.transactions} transactions (${entry.firstTxid} to ${entry.lastTxid} of epoch ${entry.epoch}) that ${facts.primary.name} does not have: they are kept as ${entry.id}, see \`sluice diverged\``, undefined);
      return pages;
    } finally {
      unpin();
    }
  }

  /** A database that the primary's history does not have at all, kept in `diverged/` by now, leaves this node. */
  async forget(name: string): Promise<void> {
    const entry = this.#databases.get(name);
    if (entry === undefined) return;
    await entry.follower?.leave();
    entry.follower?.close();
    entry.database.close(false);
    const folder = entry.database.paths.log;
    for (const file of fs.readdirSync(folder)) files.unlink("store:forget", join(folder, file));
    files.rmdir("store:forget", folder);
    this.#databases.delete(name);
    this.#namesChanged();
  }

  /** The newest epoch that any database here has seen. */
  highestEpoch(): number {
    let highest = 0;
    for (const { database } of this.#databases.values()) highest = Math.max(highest, database.position.epoch, database.epochs.at(-1)?.epoch ?? 0);
    return highest;
  }

  /** The follower's side of a database that the primary has told of, made when it is not known yet. */
  async followerOf(name: string): Promise<Follower> {
    const entry = this.#load(name);
    return entry.follower ?? (await beginFollower(entry, false, this.#switching));
  }

  /** Where what belongs to a database of this name is kept, known or not. */
  logFolder(name: string): string {
    return databasePaths(this.#options.dataDir, name).log;
  }

  /** The primary's side of a database; throws DATABASE_NOT_FOUND. */
  primaryOf(name: string): Primary {
    const primary = this.#databases.get(name)?.primary;
    if (primary === undefined) throw new AppError("DATABASE_NOT_FOUND", [name]);
    return primary;
  }

  /** Everything that is committed now is in the log when this resolves. */
  async flushAll(names: readonly string[] = []): Promise<void> {
    if (this.#role !== "primary") return;
    const wanted = names.length > 0 ? names.map((name) => this.#databases.get(name)) : [...this.#databases.values()];
    await Promise.all(wanted.map((entry) => entry?.primary?.flush()));
  }

  /** Makes the database file at `source` the database `name`, as one transaction. Only on the primary. */
  async import(name: string, source: string): Promise<Database> {
    if (this.#role !== "primary") throw new AppError("NOT_PRIMARY", [name, this.#options.host.primaryName() ?? "a primary that is not known now"]);
    if (!this.#options.replicates(name)) throw new AppError("NOT_A_DATABASE", [name, "the configuration keeps databases of this name on one node; copy the file into the mount instead"]);
    if (name === "" || name.startsWith("/") || name.split("/").some((part) => part === "" || part === "." || part === "..") || splitCompanion(name).companion !== undefined) {
      throw new AppError("NOT_A_DATABASE", [name, "it is no name of a database below the mount"]);
    }
    for (const suffix of ["-wal", "-journal"]) {
      if ((files.sizeOf(`${source}${suffix}`) ?? 0) > 0) throw new AppError("NOT_A_DATABASE", [source, `there is a ${source}${suffix} beside it: close the programs that use it, or make a copy with ".backup"`]);
    }
    const staging = join(this.#options.dataDir, `import-${process.pid}-${Date.now()}.part`);
    try {
      const copied = await copyDatabase(source, staging);
      const entry = this.#load(name);
      const { database } = entry;
      const place = (): void => {
        entry.primary?.close();
        files.mkdir("import:place", dirname(database.paths.database), 0o777);
        for (const path of [database.paths.wal, database.paths.shm, database.paths.journal]) files.unlink("import:place", path);
        files.rename("import:place", staging, database.paths.database);
        for (const suffix of ["", "-wal", "-shm", "-journal"]) this.#options.host.invalidateEntry(`${name}${suffix}`);
      };
      if (entry.primary === undefined) {
        database.enterEpoch(this.#epoch);
        place();
        await database.recordImport(copied);
        await beginPrimary(entry, this.#epoch, true, this.#switching);
      } else {
        const { primary } = entry;
        await primary.turn.run(async () => {
          await primary.flushHeld();
          place();
          primary.wal.forget("wal");
          primary.wal.forget("shm");
          await database.recordImport(copied);
          primary.noteFile();
        });
        this.#clock.renew(name);
      }
      this.#namesChanged();
      return database;
    } finally {
      files.unlink("import:undo", staging);
    }
  }

  // MountHooks: what applications do.

  /** The database that a path belongs to, by itself or as companion. */
  #owner(path: string): { entry: StoredDatabase | undefined; base: string; companion: string | undefined } {
    const own = this.#databases.get(path);
    if (own !== undefined) return { entry: own, base: path, companion: undefined };
    const { base, companion } = splitCompanion(path);
    return { entry: companion === undefined ? undefined : this.#databases.get(base), base, companion };
  }

  #refuseOnFollower(path: string): void {
    if (this.#role === "primary") return;
    const { entry, base } = this.#owner(path);
    if (entry?.follower?.replica === undefined) return;
    throw new AppError("NOT_PRIMARY", [base, this.#options.host.primaryName() ?? "a primary that is not known now"]);
  }

  beforeTruncate(path: string, size: number): void | Promise<void> {
    this.#refuseOnFollower(path);
    const { entry, companion } = this.#owner(path);
    const primary = entry?.primary;
    if (primary === undefined || companion === "-shm") return;
    if (companion === "-journal") return size === 0 ? primary.journalEnds() : undefined;
    // SQLite never empties a database that has pages: this is a program that rewrites it, and its last close is the next point to look.
    if (companion === undefined && size === 0 && entry!.database.sums.pageCount > 0) primary.beginRewrite();
    return primary.flush();
  }

  afterTruncate(_path: string, _size: number): void {}

  beforeUnlink(path: string): void | Promise<void> {
    this.#refuseOnFollower(path);
    const { entry, companion } = this.#owner(path);
    const primary = entry?.primary;
    if (primary === undefined || companion === "-shm") return;
    return companion === "-journal" ? primary.journalEnds() : primary.flush();
  }

  afterUnlink(path: string): void {
    this.#stopWatchingNewborn(path);
    const { entry, companion } = this.#owner(path);
    if (entry?.primary === undefined) return;
    if (companion === "-wal") entry.primary.walRemoved(performance.now());
    else if (companion === "-shm") {
      entry.primary.wal.forget("shm");
      this.#keepFenceReady(entry);
    } else if (companion === undefined) this.#ended(entry);
  }

  /** The files that a fence needs have changed; should the engine die or the lease run out, the guardian has the right ones open. */
  #keepFenceReady({ database, primary }: StoredDatabase): void {
    if (!this.#options.leaseCanEnd || primary === undefined) return;
    this.#options.host.fence(database.name, this.#fenced ? "write" : "ready").catch((error: unknown) => this.report(`The fence of "${database.name}" cannot be kept ready`, error));
  }

  #ended(entry: StoredDatabase): void {
    this.#clock.remove(entry.database.name);
    entry.primary?.close();
    entry.primary = undefined;
    entry.database.recordDeletion();
    if (this.#options.leaseCanEnd) this.#options.host.fence(entry.database.name, "off").catch(() => undefined);
    this.#namesChanged();
  }

  async beforeRename(from: string, to: string): Promise<void> {
    this.#refuseOnFollower(from);
    this.#refuseOnFollower(to);
    for (const path of [from, to]) await this.#owner(path).entry?.primary?.flush();
  }

  afterRename(from: string, to: string): void {
    if (this.#role !== "primary") return;
    const source = this.#owner(from);
    if (source.companion === undefined && source.entry !== undefined) this.#ended(source.entry);
    else if (source.companion === "-wal") source.entry?.primary?.wal.forget("wal");
    // A folder may hold databases.
    for (const [name, entry] of this.#databases) if (name.startsWith(`${from}/`) && !entry.database.deleted) this.#ended(entry);
    const target = databasePaths(this.#options.dataDir, to).database;
    if (fs.statSync(target, { throwIfNoEntry: false })?.isDirectory() === true) {
      for (const name of this.#filesBelow(to)) this.#wasWritten(name);
    } else {
      this.#wasWritten(to);
    }
  }

  /**
   * A program makes a `-wal` while the node becomes a follower. A moment at a time, because its system call holds the lock of the folder, in which the guardian
   * may have to look something up before the change is done: after EINTR SQLite opens again.
   */
  async #awaitChange(path: string, { done, waited }: NonNullable<StoredDatabase["changing"]>): Promise<void> {
    waited.resolve();
    const isDone = await Promise.race([done.then(() => true), sleep(CREATE_WAIT_MS, false)]);
    if (!isDone) throw Object.assign(new Error(`EINTR: "${path}" cannot be made yet`), { code: "EINTR", errno: -os.errno.EINTR });
    return this.beforeCreate(path);
  }

  beforeCreate(path: string): void | Promise<void> {
    const { base, companion } = splitCompanion(path);
    if (this.#role === "primary" || companion === undefined || !this.#options.replicates(base)) return;
    const changing = companion === "-wal" ? this.#databases.get(base)?.changing : undefined;
    if (changing !== undefined) return this.#awaitChange(path, changing);
    // A transaction begins on a database that only the primary may write; one that does not exist anywhere cannot begin here either.
    if (companion === "-journal" || this.#databases.get(base)?.follower?.replica === undefined) {
      if (companion === "-journal" || companion === "-wal") throw new AppError("NOT_PRIMARY", [base, this.#options.host.primaryName() ?? "a primary that is not known now"]);
    }
  }

  afterCreate(path: string): void {
    if (this.#role !== "primary") return;
    const { base, companion } = splitCompanion(path);
    if (companion === undefined) return this.#watchNewborn(path);
    if (fs.existsSync(databasePaths(this.#options.dataDir, base).database)) {
      const primary = this.#discover(base, true);
      if (companion === "-wal") primary?.walCreated(performance.now());
      if (companion === "-wal") this.#clock.renew(base);
      if (companion === "-shm" && this.#databases.has(base)) this.#keepFenceReady(this.#databases.get(base)!);
    }
  }

  /** Begins to capture a database. `fromScratch`: its first transaction is just about to come, so there is nothing to read yet. */
  #discover(name: string, fromScratch: boolean): Primary | undefined {
    if (!this.#options.replicates(name)) return undefined;
    this.#stopWatchingNewborn(name);
    const entry = this.#load(name);
    if (entry.primary !== undefined) return entry.primary;
    const { database } = entry;
    database.enterEpoch(this.#epoch);
    const primary = this.#newPrimary(database);
    entry.primary = primary;
    this.#clock.add(primary);
    this.#keepFenceReady(entry);
    if (!fromScratch || database.sizes().databaseBytes > 0) primary.captureFirst().catch((error: unknown) => this.report(`Capture of "${name}" failed`, error));
    this.#namesChanged();
    return primary;
  }

  #watchNewborn(path: string): void {
    if (this.#newborn.size >= 256 || !this.#options.replicates(path)) return;
    try {
      const target = databasePaths(this.#options.dataDir, path).database;
      const watcher = fs.watch(target, { persistent: false }, () => {
        if (!fs.existsSync(target)) return this.#stopWatchingNewborn(path);
        if (this.#rawWriters.has(path)) return;
        // Half a copy is nobody's transaction. With its next write, or its last close, it is looked at again.
        const head = this.#headOf(path);
        if (head !== undefined && isComplete(head.header, head.bytes)) this.#discover(path, false);
      });
      watcher.on("error", () => this.#stopWatchingNewborn(path));
      this.#newborn.set(path, watcher);
    } catch {
      return; // Gone again already.
    }
  }

  #stopWatchingNewborn(path: string): void {
    this.#newborn.get(path)?.close();
    this.#newborn.delete(path);
  }

  /** Files that are being written by a program that is not SQLite: looked at when it is done. */
  readonly #rawWriters = new Set<string>();

  beforeRawWrite(path: string): void {
    this.#rawWriters.add(path);
    const { entry, companion } = this.#owner(path);
    if (companion === undefined && entry?.primary !== undefined) entry.primary.beginRewrite();
  }

  afterRawWrite(path: string): void {
    this.#rawWriters.delete(path);
    if (this.#role === "primary") this.#wasWritten(path);
  }

  /** A whole file has come into being under this name, past SQLite. */
  #wasWritten(path: string): void {
    const { entry, companion } = this.#owner(path);
    if (companion !== undefined) return;
    if (entry?.primary !== undefined) {
      entry.primary.captureRewritten().catch((error: unknown) => this.report(`Capture of "${path}" failed`, error));
      this.#clock.renew(path);
    } else if (this.#looksLikeDatabase(path)) {
      this.#discover(path, false);
    }
  }

  afterLastClose(path: string): void {
    if (this.#role !== "primary") return;
    const { entry, companion } = this.#owner(path);
    if (companion !== undefined) return;
    if (entry?.primary !== undefined) {
      // Whoever was rewriting the file, by whatever kind of descriptor, is done.
      entry.primary.endRewrite();
      entry.primary.checkFile({ closed: true }).catch((error: unknown) => this.report(`Look at "${path}" failed`, error));
    } else if (this.#looksLikeDatabase(path)) {
      this.#discover(path, false);
    }
  }

  walSyncs(path: string, count: number): void {
    this.#clock.lookWhileSyncing(splitCompanion(path).base, count);
  }

  async walCommit(path: string, commit: WalCommit, write: () => void): Promise<void> {
    this.#refuseOnFollower(path);
    const primary = this.#owner(path).entry?.primary;
    // A local database whose name a rule for sync covers as well.
    if (primary?.sync === undefined) return write();
    await primary.walCommit(commit, write);
  }

  journalZeroed(path: string, header: Buffer | undefined): void | Promise<void> {
    const { entry, companion } = this.#owner(path);
    if (companion !== "-journal" || entry?.primary === undefined) return;
    return header === undefined ? entry.primary.diff("a persistent journal was zeroed whose pages are not known", { journalEnds: true }) : entry.primary.journalEnds(header);
  }

  readVirtual(path: string): Buffer | undefined | Promise<Buffer | undefined> {
    if (path === ".primary") {
      const name = this.#options.host.primaryName();
      return name === undefined ? undefined : Buffer.from(`${name}\n`);
    }
    if (path === ".lag") return Buffer.from(`${this.#role === "primary" ? 0 : (this.#options.host.lagMs() ?? -1)}\n`);
    const entry = path.endsWith("-pos") ? this.#databases.get(path.slice(0, -4)) : undefined;
    if (entry === undefined || (entry.database.deleted && entry.primary === undefined)) return undefined;
    const text = (): Buffer => Buffer.from(`${formatPosition(entry.database.position)}\n`);
    return entry.primary === undefined ? text() : entry.primary.flush().then(text);
  }

  report(message: string, error: unknown): void {
    this.#options.host.report(message, error);
  }

  // Keeping order.

  /** Keeps the log of a database from `txid` on until the returned call. */
  pin(name: string, txid: number): () => void {
    const pins = this.#pins.get(name) ?? new Map<symbol, number>();
    this.#pins.set(name, pins);
    const key = Symbol(name);
    pins.set(key, txid);
    return () => pins.delete(key);
  }

  /** Sidecars, retention, one step of compaction: every few seconds. True when there is more to merge at once. */
  maintain(nowMs: number): boolean {
    let again = false;
    for (const [name, { database }] of this.#databases) {
      try {
        if (database.sidecarTxid !== database.position.txid) database.saveSidecar();
        const pinned = Math.min(...(this.#pins.get(name)?.values() ?? []), Infinity);
        database.log.retain({ nowMs, durationMs: this.#options.retention.durationMs, bytes: this.#options.retention.bytes, keepFrom: Math.min(database.sidecarTxid + 1, pinned) });
        if (compactLog(database.log, Math.min(database.sidecarTxid, pinned - 1))) again = true;
      } catch (error) {
        this.report(`Maintenance of "${name}" failed and is tried again`, error);
      }
    }
    return again;
  }

  /** Last capture and a clean mark, when no application writes any more. */
  async close(options: { clean: boolean }): Promise<void> {
    if (options.clean) await this.flushAll().catch((error: unknown) => this.report("The last capture failed", error));
    this.#clock.close();
    for (const watcher of this.#newborn.values()) watcher.close();
    for (const entry of this.#databases.values()) {
      entry.primary?.close();
      entry.follower?.close();
      entry.database.close(options.clean);
    }
    await Promise.all(Replica.closing);
    if (options.clean) for (const { database } of this.#databases.values()) database.rest();
  }
}
