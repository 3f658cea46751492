/**
 * A hash chain inside a database: what makes every committed state recognisable.
 *
 * Each transaction appends a link whose hash covers the one before it and a digest of all rows of `data` as they are after it. So a reader that
 * recomputes the digest knows whether it sees exactly one committed state, and which. Run as a program it is a writer or a reader process:
 *   node chain.ts write PATH SEED COUNT    node chain.ts read PATH
 * A writer prints a line per commit ("c N HASH"), a reader one per distinct state that it has verified ("s N HASH"), both flushed at once.
 */
import { createHash } from "node:crypto";
import { writeSync } from "node:fs";
import Database from "better-sqlite3";
import { Random } from "./random.ts";

const say = (line: string): void => void writeSync(1, `${line}\n`);

export function createChain(path: string): void {
  const db = new Database(path, { timeout: 30_000 });
  db.exec("CREATE TABLE IF NOT EXISTS data(id INTEGER PRIMARY KEY, rev INTEGER, body BLOB); CREATE TABLE IF NOT EXISTS chain(n INTEGER PRIMARY KEY, hash TEXT, digest TEXT); CREATE INDEX IF NOT EXISTS data_rev ON data(rev)");
  db.close();
}

/** Order-free digest of all rows: the sum of the rows' hashes, so that a writer can keep it up to date by the rows that it touches. */
export function digestOf(db: Database.Database): bigint {
  let sum = 0n;
  for (const row of db.prepare("SELECT id, rev, body FROM data").iterate() as Iterable<{ id: number; rev: number; body: Buffer }>) sum += rowHash(row);
  return BigInt.asUintN(64, sum);
}

function rowHash(row: { id: number; rev: number; body: Buffer }): bigint {
  return createHash("sha1").update(`${row.id}/${row.rev}/`).update(row.body).digest().readBigUInt64BE(0);
}

function link(db: Database.Database): { n: number; hash: string; digest: string } {
  return (db.prepare("SELECT n, hash, digest FROM chain ORDER BY n DESC LIMIT 1").get() as { n: number; hash: string; digest: string } | undefined) ?? { n: 0, hash: "", digest: "0" };
}

/** What a database file holds, when it is one committed state; else what is wrong with it. */
export function stateOf(path: string): { n: number; hash: string } | string {
  const db = new Database(path, { readonly: true });
  try {
    if (db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'chain'").get() === undefined) return { n: 0, hash: "" };
    const state = link(db);
    const digest = digestOf(db).toString();
    return digest === state.digest ? { n: state.n, hash: state.hash } : `state ${state.n} is torn: digest ${digest} instead of ${state.digest}`;
  } catch (error) {
    return String(error);
  } finally {
    db.close();
  }
}

const MODES = ["wal", "wal", "wal", "wal", "delete", "truncate", "persist"] as const;

/** One random transaction, and now and then a change of how the database works. */
function writer(path: string, seed: number, count: number): void {
  const random = new Random(seed);
  let db = open();
  function open(): Database.Database {
    const opened = new Database(path, { timeout: 20_000 });
    opened.pragma(`cache_size = ${random.pick([-2000, 20, 50])}`);
    opened.pragma(`synchronous = ${random.pick(["normal", "full", "off"])}`);
    if (random.chance(0.3)) opened.pragma("mmap_size = 1000000");
    return opened;
  }
  const busy = (error: unknown): boolean => ["SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_RECOVERY"].includes((error as { code?: string }).code ?? "");
  for (let done = 0; done < count; ) {
    try {
      const what = random.next();
      if (what < 0.02) {
        db.close();
        db = open();
      } else if (what < 0.05) {
        // Needs to be alone; with others in the way SQLite says so, which is fine.
        db.pragma("busy_timeout = 50");
        db.pragma(`journal_mode = ${random.pick(MODES)}`);
        db.pragma("busy_timeout = 20000");
      } else if (what < 0.10) {
        db.pragma("busy_timeout = 200");
        db.pragma(`wal_checkpoint(${random.pick(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])})`);
        db.pragma("busy_timeout = 20000");
      } else if (what < 0.11) {
        if (random.chance(0.3)) db.pragma(`page_size = ${random.pick([512, 1024, 4096, 8192])}`);
        if (random.chance(0.3)) db.pragma(`auto_vacuum = ${random.pick(["none", "full", "incremental"])}`);
        db.exec("VACUUM");
      } else if (what < 0.13) {
        db.pragma("incremental_vacuum(5)");
      } else if (what < 0.14) {
        db.pragma("busy_timeout = 50");
        db.pragma("locking_mode = exclusive");
        db.exec("BEGIN IMMEDIATE; COMMIT");
        db.pragma("locking_mode = normal");
        db.prepare("SELECT count(*) FROM chain").get();
        db.pragma("busy_timeout = 20000");
      } else {
        transaction(db, random);
        done++;
      }
    } catch (error) {
      if (db.inTransaction) db.exec("ROLLBACK");
      if (!busy(error)) throw error;
      // Two connections that both want the database for themselves would wait for each other for ever.
      db.close();
      db = open();
    }
  }
  db.close();
}

function transaction(db: Database.Database, random: Random): void {
  db.exec("BEGIN IMMEDIATE");
  const last = link(db);
  let digest = BigInt(last.digest);
  const rows = random.chance(0.03) ? 400 : 1 + random.below(6);
  const max = (db.prepare("SELECT max(id) AS m FROM data").get() as { m: number | null }).m ?? 0;
  const get = db.prepare("SELECT id, rev, body FROM data WHERE id = ?");
  const put = db.prepare("INSERT OR REPLACE INTO data(id, rev, body) VALUES (?, ?, ?)");
  const remove = db.prepare("DELETE FROM data WHERE id = ?");
  for (let i = 0; i < rows; i++) {
    const id = max > 20 && random.chance(0.6) ? 1 + random.below(max) : 1 + random.below(max + 2);
    const old = get.get(id) as { id: number; rev: number; body: Buffer } | undefined;
    if (old !== undefined) digest -= rowHash(old);
    if (old !== undefined && random.chance(max > 400 ? 0.7 : 0.25)) {
      remove.run(id);
    } else {
      const row = { id, rev: last.n + 1, body: Buffer.alloc(random.pick([10, 100, 900, 5000, 20000]), random.below(256)) };
      put.run(row.id, row.rev, row.body);
      digest += rowHash(row);
    }
  }
  const text = BigInt.asUintN(64, digest).toString();
  const hash = createHash("sha1").update(`${last.hash}|${last.n + 1}|${text}`).digest("hex");
  db.prepare("INSERT INTO chain(n, hash, digest) VALUES (?, ?, ?)").run(last.n + 1, hash, text);
  // The chain is pruned, so that its table shrinks and grows too.
  if (random.chance(0.05)) db.prepare("DELETE FROM chain WHERE n < ?").run(last.n - 50);
  if (random.chance(0.08)) {
    db.exec("ROLLBACK");
    return;
  }
  db.exec("COMMIT");
  say(`c ${last.n + 1} ${hash}`);
}

/** Verifies snapshot after snapshot until it is killed: each must be one committed state, none older than the one before. Says "r" after the first. */
function reader(path: string): void {
  let seen = 0;
  let hasBegun = false;
  for (let round = 0; ; round++) {
    const db = new Database(path, { readonly: round % 2 === 0, timeout: 10_000 });
    for (let i = 0; i < 20; i++) {
      db.exec("BEGIN");
      let state: { n: number; hash: string; digest: string };
      try {
        state = link(db);
      } catch (error) {
        db.exec("ROLLBACK");
        if ((error as Error).message.includes("no such table")) continue;
        throw error;
      }
      const digest = digestOf(db).toString();
      if (state.n < seen) fail(`went back from ${seen} to ${state.n}`);
      if (digest !== state.digest) fail(`state ${state.n} is torn: digest ${digest} instead of ${state.digest}`);
      if (round % 10 === 0 && i === 0) {
        const check = db.pragma("integrity_check", { simple: true });
        if (check !== "ok") fail(`state ${state.n}: ${String(check)}`);
      }
      db.exec("COMMIT");
      if (!hasBegun) say("r");
      hasBegun = true;
      if (state.n !== seen) say(`s ${state.n} ${state.hash}`);
      seen = state.n;
    }
    db.close();
  }
}

function fail(reason: string): never {
  say(`f ${reason}`);
  process.exit(3);
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [what, path, seed, count] = process.argv.slice(2);
  if (what === "write") {
    writer(path!, Number(seed), Number(count));
  } else {
    try {
      reader(path!);
    } catch (error) {
      fail(String(error));
    }
  }
}
