/**
 * A program that tries to insert all the time, and tells when it could: `failover-writer.ts DATABASE NAME`.
 *
 * Always holds: no busy timeout, so that a refusal is one try and no wait; it knows nothing of Sluice.
 */
import Database from "better-sqlite3";

const [path, name] = process.argv.slice(2) as [string, string];
const db = new Database(path, { timeout: 0 });
const insert = db.prepare("INSERT INTO t(node) VALUES (?)");
const now = (): number => Number(process.hrtime.bigint()) / 1e6;
let over = false;
process.on("message", () => (over = true));
process.on("disconnect", () => process.exit(0));

function attempt(): void {
  if (over) {
    db.close();
    process.disconnect();
    return;
  }
  const begin = now();
  try {
    const { lastInsertRowid } = insert.run(name);
    const at = now();
    process.send!({ at, tookMs: at - begin, id: Number(lastInsertRowid) });
  } catch (error) {
    const { code } = error as { code?: string };
    // Its node goes away under it, as a node that is stopped does; what counts has been told.
    if (code?.startsWith("SQLITE_IOERR") === true || code === "SQLITE_CANTOPEN") over = true;
    else if (code?.startsWith("SQLITE_BUSY") !== true) throw error;
  }
  setTimeout(attempt, 1);
}
attempt();
