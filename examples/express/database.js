/**
 * The notes and the SQLite database they are in.
 *
 * Nothing here knows where the file lies or who else reads it. The table is looked for before it is created, because `CREATE TABLE IF NOT EXISTS`
 * takes the write lock even when there is nothing to do, and an application may start while another program holds that lock.
 */
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";

/** How long a statement waits for a lock. */
const BUSY_TIMEOUT_MS = 2_000;
/** How long the start goes on trying while the database is busy or not there yet. */
const START_TIMEOUT_MS = 60_000;
/** How many notes a page shows. */
const PAGE_SIZE = 50;

const SCHEMA = `
  CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    author TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
  ) STRICT;
  CREATE INDEX notes_created_at ON notes (created_at DESC);
`;

/** Made when they are first needed, by the writer that needs them, since only the primary can. */
const LATER_SCHEMA = `
  CREATE TABLE IF NOT EXISTS visits (page TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS pictures (note_id INTEGER PRIMARY KEY, type TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
`;

/**
 * Opens the database, with its table. Tries again while it is locked, since somebody else may be creating the table, and while it cannot be opened: a node
 * that follows does not make files, it gets them from the primary.
 */
export async function openNotes(path) {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    let db;
    try {
      db = new Database(path, { timeout: BUSY_TIMEOUT_MS });
      prepareSchema(db);
      return new Notes(db);
    } catch (error) {
      db?.close();
      if (!(isBusy(error) || error.code === "SQLITE_CANTOPEN") || Date.now() > deadline) throw error;
      console.error(`The database cannot be used yet (${error.code}); trying again.`);
      await sleep(200);
    }
  }
}

function prepareSchema(db) {
  const hasTable = () => db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'notes'").get() !== undefined;
  if (hasTable()) return;
  db.pragma("journal_mode = WAL");
  // Two programs that start together: the second one finds the table once it has the lock.
  db.transaction(() => hasTable() || db.exec(SCHEMA)).immediate();
}

/** Whether an error means "try again later": locked, or read-only for the moment. */
export function isBusy(error) {
  return typeof error?.code === "string" && /^SQLITE_(BUSY|LOCKED|READONLY|PROTOCOL)/.test(error.code);
}

class Notes {
  #db;
  #statements;

  constructor(db) {
    this.#db = db;
    const columns = "id, author, body, created_at AS createdAt";
    this.#statements = {
      recent: db.prepare(`SELECT ${columns} FROM notes ORDER BY id DESC LIMIT ${PAGE_SIZE}`),
      search: db.prepare(`SELECT ${columns} FROM notes WHERE body LIKE @pattern ESCAPE '\\' OR author LIKE @pattern ESCAPE '\\' ORDER BY id DESC LIMIT ${PAGE_SIZE}`),
      one: db.prepare(`SELECT ${columns} FROM notes WHERE id = ?`),
      count: db.prepare("SELECT count(*) AS count FROM notes"),
      add: db.prepare("INSERT INTO notes (author, body) VALUES (@author, @body)"),
      remove: db.prepare("DELETE FROM notes WHERE id = ?"),
    };
  }

  /** The newest notes first; those that contain `text`, when one is given. */
  list(text = "") {
    if (text === "") return this.#statements.recent.all();
    return this.#statements.search.all({ pattern: `%${text.replace(/[\\%_]/g, "\\$&")}%` });
  }

  get(id) {
    return this.#statements.one.get(id);
  }

  count() {
    return this.#statements.count.get().count;
  }

  /** Adds a note and returns its id. */
  add(author, body) {
    return Number(this.#statements.add.run({ author, body }).lastInsertRowid);
  }

  /** Counts a visit of a page and returns how many there were. */
  visit(page) {
    return this.#writing(() => this.#db.prepare("INSERT INTO visits VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count").get(page).count);
  }

  setPicture(id, type, bytes) {
    this.#writing(() => this.#db.prepare("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)").run(id, type, bytes));
  }

  picture(id) {
    return this.#hasPictures() ? this.#db.prepare("SELECT type, bytes FROM pictures WHERE note_id = ?").get(id) : undefined;
  }

  /** Ids of the notes that have one. */
  pictured() {
    return new Set(this.#hasPictures() ? this.#db.prepare("SELECT note_id FROM pictures").pluck().all() : []);
  }

  #hasPictures() {
    return this.#db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'pictures'").get() !== undefined;
  }

  #writing(work) {
    return this.#db.transaction(() => {
      this.#db.exec(LATER_SCHEMA);
      return work();
    }).immediate();
  }

  /** Whether there was such a note. */
  remove(id) {
    return this.#statements.remove.run(id).changes > 0;
  }

  close() {
    this.#db.close();
  }
}
