/**
 * The lease in a SQLite file that all nodes of one machine share.
 *
 * Always holds: every change is one transaction, so the nodes agree whatever is killed when. Time is CLOCK_BOOTTIME, which goes on while the
 * machine sleeps and which all its processes share; what another boot of the machine wrote has expired, because no process outlives it. No call
 * blocks: SQLite's busy timeout is 0, and what is busy is tried again until the deadline. A file that is not ours, or damaged, is refused and left alone.
 */
import fs from "node:fs";
import { dirname } from "node:path";
import Database from "better-sqlite3";
import { AppError, isAppError } from "../../proto/errors.ts";
import { bootId, bootTimeMs } from "../native/libc.ts";
import { Deadline } from "./deadline.ts";
import { formatElectorate, formatLease, formatMember, newToken, parseClusterId, parseElectorate, parseEpoch, parseLease, parseMember, toHeld, type LeaseEntry, type Read } from "./entry.ts";
import { Forgotten } from "./forgotten.ts";
import type { Electorate, Held, LeaseStore, Member } from "./lease.ts";
import { Watcher } from "./watcher.ts";

/** "SluL": `file` shows it, and a database of another program is known by it. */
const APPLICATION_ID = 0x536c754c;
const SCHEMA_VERSION = 1;
const SCHEMA = `
  CREATE TABLE lease (id INTEGER PRIMARY KEY CHECK (id = 1), entry TEXT NOT NULL, boot TEXT NOT NULL, ttl_ms REAL NOT NULL, expires_at REAL NOT NULL) STRICT;
  CREATE TABLE member (node_id TEXT PRIMARY KEY, entry TEXT NOT NULL, boot TEXT NOT NULL, expires_at REAL NOT NULL) STRICT;
  CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${SCHEMA_VERSION};
`;
/** What a handoff or a clean stop waits for at most, beside the work itself. */
const POLL_MS = 25;
const RETRY_MS = 3;
/** How long a late acquisition is tried to be given back. */
const UNDO_MS = 60_000;
const READ_MS = 2_000;
/** The configuration allows an hour. */
const TTL_MAX_MS = 24 * 3_600_000;
/** Rounding between two readings of the clock. */
const CLOCK_SLACK_MS = 1_000;
/** statfs types of file systems that several machines may share: their clocks and boot ids differ. */
const SHARED_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, "NFS"], [0x517b, "SMB"], [0xff534d42, "CIFS"], [0xfe534d42, "SMB2"], [0x01021997, "9p"], [0x65735546, "FUSE"], [0x00c36400, "Ceph"], [0x0bd00bd0, "Lustre"], [0x01161970, "GFS2"], [0x7461636f, "OCFS2"],
]);

interface LeaseRow { readonly entry: string; readonly boot: string; readonly ttl_ms: number; readonly expires_at: number }

/** `live`: it has not expired. */
interface Found { readonly entry: LeaseEntry; readonly remainingMs: number; readonly live: boolean }

export class LocalStore implements LeaseStore {
  readonly type = "local";
  readonly #path: string;
  readonly #boot = bootId();
  readonly #forgotten = new Forgotten();
  readonly #watchers = new Set<Watcher>();
  #open: { readonly db: Database.Database; readonly statements: Map<string, Database.Statement>; readonly file: string } | undefined;
  #closed = false;

  constructor(path: string) {
    this.#path = path;
  }

  async read(deadlineMs: number): Promise<Held | undefined> {
    return this.#attempt(this.#deadline(deadlineMs), () => {
      const found = this.#found();
      return found?.live === true ? toHeld(found.entry, found.remainingMs) : undefined;
    });
  }

  async acquire(self: Member, options: { readonly ttlMs: number; readonly minEpoch: number; readonly deadlineMs: number }): Promise<Held | undefined> {
    const deadline = this.#deadline(options.deadlineMs);
    const held = await this.#change(deadline, "FULL", () => {
      const found = this.#found();
      const isForUs = found?.entry.reservation?.nodeId === self.nodeId;
      if (found?.live === true && !isForUs) return undefined;
      const stored = Math.max(this.#setting("epoch", parseEpoch) ?? 0, found?.entry.epoch ?? 0);
      if (!this.#forgotten.mayAcquire(stored, options.minEpoch, options.ttlMs, performance.now())) return undefined;
      const epoch = Math.max(stored + 1, options.minEpoch);
      const entry: LeaseEntry = { epoch, token: newToken(self.nodeId, epoch), holder: self };
      this.#run("INSERT OR REPLACE INTO setting VALUES ('epoch', ?)", String(epoch));
      this.#run("INSERT OR REPLACE INTO lease VALUES (1, ?, ?, ?, ?)", formatLease(entry), this.#boot, options.ttlMs, bootTimeMs() + options.ttlMs);
      return toHeld(entry, options.ttlMs);
    });
    if (held === undefined || !deadline.isOver) return held;
    // The disk was slower than the deadline. The caller has given up on it, so it must not stand.
    void this.release(held, UNDO_MS).catch(() => undefined);
    throw deadline.error();
  }

  async renew(held: Held, options: { readonly ttlMs: number; readonly deadlineMs: number }): Promise<boolean> {
    const deadline = this.#deadline(options.deadlineMs);
    const renewed = await this.#change(deadline, "NORMAL", () => {
      const found = this.#found();
      if (found === undefined || !found.live || found.entry.token !== held.token || found.entry.reservation !== undefined) return false;
      this.#run("UPDATE lease SET ttl_ms = ?, expires_at = ?", options.ttlMs, bootTimeMs() + options.ttlMs);
      return true;
    });
    deadline.check();
    return renewed;
  }

  async release(held: Held, deadlineMs: number): Promise<void> {
    await this.#change(this.#deadline(deadlineMs), "NORMAL", () => {
      const found = this.#found();
      if (found?.entry.token === held.token && found.entry.reservation === undefined) this.#run("DELETE FROM lease");
    });
  }

  async transfer(held: Held, to: string, options: { readonly reserveMs: number; readonly deadlineMs: number }): Promise<boolean> {
    const deadline = this.#deadline(options.deadlineMs);
    const moved = await this.#change(deadline, "NORMAL", () => {
      const found = this.#found();
      if (found === undefined || !found.live || found.entry.token !== held.token || found.entry.reservation !== undefined) return false;
      const entry: LeaseEntry = { ...found.entry, reservation: { nodeId: to, ms: options.reserveMs } };
      this.#run("UPDATE lease SET entry = ?, ttl_ms = ?, expires_at = ?", formatLease(entry), options.reserveMs, bootTimeMs() + options.reserveMs);
      return true;
    });
    deadline.check();
    return moved;
  }

  watch(onChange: (held: Held | undefined) => void, onError: (error: unknown) => void): () => void {
    const watcher = new Watcher({ read: () => this.read(READ_MS), pollMs: POLL_MS, onChange, onError });
    this.#watchers.add(watcher);
    return () => {
      watcher.end();
      this.#watchers.delete(watcher);
    };
  }

  async register(self: Member, options: { readonly memberTtlMs: number; readonly deadlineMs: number }): Promise<void> {
    await this.#change(this.#deadline(options.deadlineMs), "NORMAL", () => {
      const now = bootTimeMs();
      this.#run("DELETE FROM member WHERE boot <> ? OR expires_at <= ?", this.#boot, now);
      this.#run("INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)", self.nodeId, formatMember(self), this.#boot, now + options.memberTtlMs);
    });
  }

  async members(deadlineMs: number): Promise<readonly Member[]> {
    return this.#attempt(this.#deadline(deadlineMs), () => {
      const rows = this.#statement("SELECT entry FROM member WHERE boot = ? AND expires_at > ? ORDER BY node_id").all(this.#boot, bootTimeMs()) as { entry: string }[];
      return rows.flatMap(({ entry }) => {
        const member = parseMember(entry);
        return "value" in member ? [member.value] : [];
      });
    });
  }

  async clusterId(proposed: string, deadlineMs: number): Promise<string> {
    const deadline = this.#deadline(deadlineMs);
    const known = await this.#attempt(deadline, () => this.#setting("cluster-id", parseClusterId));
    return known ?? this.#change(deadline, "FULL", () => {
      const stored = this.#setting("cluster-id", parseClusterId);
      if (stored === undefined) this.#run("INSERT INTO setting VALUES ('cluster-id', ?)", proposed);
      return stored ?? proposed;
    });
  }

  async electorate(deadlineMs: number): Promise<Electorate | undefined> {
    return this.#attempt(this.#deadline(deadlineMs), () => this.#setting("electorate", parseElectorate));
  }

  async setElectorate(before: Electorate | undefined, next: Electorate, deadlineMs: number): Promise<boolean> {
    return this.#change(this.#deadline(deadlineMs), "FULL", () => {
      const stored = this.#setting("electorate", parseElectorate);
      if ((stored === undefined ? undefined : formatElectorate(stored)) !== (before === undefined ? undefined : formatElectorate(before))) return false;
      this.#run("INSERT OR REPLACE INTO setting VALUES ('electorate', ?)", formatElectorate(next));
      return true;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.end();
    this.#watchers.clear();
    this.#drop();
  }

  #deadline(ms: number): Deadline {
    return new Deadline(ms, this.#path);
  }

  /** The row of the lease, if there is one that makes sense. */
  #found(): Found | undefined {
    const row = this.#statement("SELECT entry, boot, ttl_ms, expires_at FROM lease").get() as LeaseRow | undefined;
    if (row === undefined) return undefined;
    const entry = this.#sane(parseLease(row.entry), "lease");
    const remainingMs = row.boot === this.#boot ? row.expires_at - bootTimeMs() : 0;
    if (!(row.ttl_ms >= 0 && row.ttl_ms <= TTL_MAX_MS && remainingMs <= row.ttl_ms + CLOCK_SLACK_MS)) throw this.#corrupt(`its lease expires in ${Math.round(remainingMs)} ms and was taken for ${row.ttl_ms} ms`);
    return { entry, remainingMs: Math.max(0, remainingMs), live: remainingMs > 0 };
  }

  #setting<T>(name: string, parse: (source: string) => Read<T>): T | undefined {
    const row = this.#statement("SELECT value FROM setting WHERE name = ?").get(name) as { value: string } | undefined;
    return row === undefined ? undefined : this.#sane(parse(row.value), name);
  }

  #sane<T>(read: Read<T>, name: string): T {
    if ("value" in read) return read.value;
    throw this.#corrupt(`${name}: ${read.refusal}`);
  }

  #corrupt(reason: string, options?: ErrorOptions): AppError {
    return new AppError("LEASE_STORE_CORRUPT", [this.#path, reason, "if no other program needs it, stop all nodes and move it away, with its -wal and -shm; else change `lease.local.path` on all nodes"], options);
  }

  #statement(sql: string): Database.Statement {
    const { db, statements } = this.#open!;
    let statement = statements.get(sql);
    if (statement === undefined) statements.set(sql, (statement = db.prepare(sql)));
    return statement;
  }

  #run(sql: string, ...values: (string | number)[]): void {
    this.#statement(sql).run(...values);
  }

  /** One transaction that holds the write lock from its beginning, tried until it is done or the deadline is over. */
  #change<T>(deadline: Deadline, synchronous: "FULL" | "NORMAL", work: () => T): Promise<T> {
    return this.#attempt(deadline, () => {
      const { db } = this.#open!;
      // FULL reaches the disk with each commit: an epoch must never be given out twice. A renewal that a loss of power undoes has expired by then.
      db.pragma(`synchronous = ${synchronous}`);
      return db.transaction(work).immediate();
    });
  }

  async #attempt<T>(deadline: Deadline, work: () => T): Promise<T> {
    for (;;) {
      deadline.check();
      if (this.#closed) throw new AppError("LEASE_STORE_UNAVAILABLE", [this.#path, "it was closed"]);
      try {
        this.#ensureOpen();
        return work();
      } catch (error) {
        const refusal = this.#refusal(error);
        if (refusal !== undefined) throw refusal;
      }
      await deadline.pause(RETRY_MS + Math.random() * RETRY_MS, "another process held its lock");
    }
  }

  /** What an error means; undefined: it was busy, try again. */
  #refusal(error: unknown): unknown {
    if (isAppError(error)) return error;
    const { code, message } = error as { code?: string; message: string };
    if (code === undefined) return error;
    if (code.startsWith("SQLITE_BUSY") || code === "SQLITE_LOCKED") return undefined;
    this.#drop();
    if (code.startsWith("SQLITE_NOTADB") || code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_SCHEMA") return this.#corrupt(`it is damaged, or no SQLite database: ${message}`, { cause: error });
    return new AppError("LEASE_STORE_UNAVAILABLE", [this.#path, `${message} (${code})`], { cause: error });
  }

  /** Opens the file, and again where another one stands in its place. */
  #ensureOpen(): void {
    if (this.#open !== undefined && this.#open.file === identityOf(this.#path)) return;
    this.#drop();
    const shared = SHARED_FILE_SYSTEMS.get(fs.statfsSync(dirname(this.#path)).type);
    if (shared !== undefined) throw new AppError("LEASE_STORE_UNUSABLE", [this.#path, `it lies on ${shared}, which several machines may share`]);
    const db = new Database(this.#path, { timeout: 0 });
    try {
      this.#prepare(db);
    } catch (error) {
      db.close();
      throw error;
    }
    this.#open = { db, statements: new Map(), file: identityOf(this.#path) ?? "" };
  }

  #prepare(db: Database.Database): void {
    const pragma = (name: string): unknown => db.pragma(name, { simple: true });
    const isEmpty = (): boolean => db.prepare("SELECT 1 FROM sqlite_schema").get() === undefined && pragma("application_id") === 0;
    if (isEmpty()) {
      db.pragma("journal_mode = WAL");
      db.pragma("synchronous = FULL");
      db.transaction(() => {
        // Another node may have been faster.
        if (isEmpty()) db.exec(SCHEMA);
      }).immediate();
    }
    if (pragma("application_id") !== APPLICATION_ID) throw this.#corrupt("it is the database of another program");
    if (pragma("user_version") !== SCHEMA_VERSION) throw this.#corrupt(`its schema has version ${String(pragma("user_version"))}, this release reads version ${SCHEMA_VERSION}`);
  }

  #drop(): void {
    const open = this.#open;
    this.#open = undefined;
    open?.db.close();
  }
}

/** Names the file itself, whatever its path. */
function identityOf(path: string): string | undefined {
  const stat = fs.statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}
