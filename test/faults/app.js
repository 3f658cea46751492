/**
 * The application of the fault tests: it appends numbered entries to a SQLite database and lists them. Nothing in it knows of Sluice, except
 * that `/append` reads the position file before and after, as evidence of who committed in which epoch.
 *
 * FOLDER is where its databases are (a request names one with `db`), PORT where it listens, NODE the name that an entry keeps of where it was
 * written.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import Database from "better-sqlite3";

const { FOLDER, PORT, NODE } = process.env;
/** By database: its writer and its reader. */
const connections = new Map();

const of = (name) => connections.get(name) ?? connections.set(name, {}).get(name);

function open(name, options) {
  const db = new Database(`${FOLDER}/${name}`, { timeout: 3_000, ...options });
  db.pragma("synchronous = FULL");
  return db;
}

function forWriting(name) {
  if (of(name).writer === undefined) {
    const db = open(name, {});
    try {
      const hasTable = () => db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'entry'").get() !== undefined;
      if (!hasTable()) {
        db.pragma("journal_mode = WAL");
        db.transaction(() => hasTable() || db.exec("CREATE TABLE entry(seq INTEGER PRIMARY KEY AUTOINCREMENT, client TEXT, n INTEGER, node TEXT, body BLOB, UNIQUE(client, n))")).immediate();
      }
    } catch (error) {
      db.close();
      throw error;
    }
    of(name).writer = db;
  }
  return of(name).writer;
}

function position(name) {
  try {
    return readFileSync(`${FOLDER}/${name}-pos`, "latin1").trim();
  } catch {
    return ""; // Not a database of the cluster yet.
  }
}

function append(name, { client, n }) {
  const db = forWriting(name);
  const before = position(name);
  try {
    db.prepare("INSERT INTO entry(client, n, node, body) VALUES (?, ?, ?, randomblob(300))").run(client, n, NODE);
  } catch (error) {
    if (error.code === "SQLITE_CONSTRAINT_UNIQUE") return [409, { error: "this entry is there already" }];
    throw error;
  }
  return [201, { node: NODE, before, after: position(name) }];
}

function list(name, clients) {
  try {
    const reader = (of(name).reader ??= open(name, { fileMustExist: true }));
    const numbers = reader.prepare("SELECT n FROM entry WHERE client = ? ORDER BY n").pluck();
    return [200, { node: NODE, entries: Object.fromEntries(reader.transaction(() => clients.map((client) => [client, numbers.all(client)]))()) }];
  } catch (error) {
    const missing = error.code === "SQLITE_CANTOPEN" || /no such table/.test(error.message);
    if (missing) return [200, { node: NODE, entries: Object.fromEntries(clients.map((client) => [client, []])) }];
    throw error;
  }
}

/** Connections that have met an error are given up: the next request opens anew, as pools do. */
function answer(name, work) {
  try {
    return work();
  } catch (error) {
    if (!/^SQLITE_BUSY/.test(error.code ?? "")) {
      for (const db of Object.values(of(name))) try { db.close(); } catch { /* It is of no use any more. */ }
      connections.delete(name);
    }
    return [503, { error: `${error.code ?? ""} ${error.message}` }];
  }
}

createServer((request, response) => {
  const url = new URL(request.url, "http://app");
  const name = url.searchParams.get("db");
  let text = "";
  request.on("data", (piece) => (text += piece));
  request.on("end", () => {
    const [status, body] = answer(name, request.method === "POST" ? () => append(name, JSON.parse(text)) : () => list(name, url.searchParams.getAll("client")));
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
}).listen(Number(PORT), "127.0.0.1");
