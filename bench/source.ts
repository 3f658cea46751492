/**
 * Databases of a given size to measure with, made natively and closed: WAL in the header, nothing in the WAL.
 *
 * Always holds: the content is random bytes, so that no compression flatters whoever sends it.
 */
import Database from "better-sqlite3";

/** Bytes of a row's body. */
const BODY = 1_000;
/** Four rows of this size lie in a page of 4 KiB. */
const ROWS_PER_MIB = 1_024;

/** Makes the database with the table `t(id, body)`; answers its number of rows, whose ids go from 1 on. */
export function makeDatabase(path: string, mebibytes: number): number {
  const db = new Database(path);
  db.pragma("journal_mode = off");
  db.pragma("synchronous = off");
  db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
  const fill = db.prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO t(body) SELECT randomblob(?) FROM n");
  const rows = mebibytes * ROWS_PER_MIB;
  fill.run(rows, BODY);
  db.pragma("journal_mode = wal");
  db.close();
  return rows;
}
