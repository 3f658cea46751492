/**
 * One database changes sides: from following to being written here, and back.
 *
 * Always holds: nobody can write while neither side captures. A follower's side ends under its fence; the primary's side knows where the WAL
 * stands before the fence opens. A primary's side ends under the fence as well, after everything that was committed is in the log; only then
 * does the follower's side begin, over the same WAL where applications use one. Nothing of it needs applications to close their files.
 */
import fs from "node:fs";
import { files } from "../io/files.ts";
import type { CaptureClock } from "./capture-clock.ts";
import { Follower, type FollowerHost } from "./follower.ts";
import { captureLast } from "./last-capture.ts";
import { Primary } from "./primary.ts";
import type { StoredDatabase } from "./stored-database.ts";
import type { SyncTerms } from "./sync-commit.ts";

export interface SwitchParts {
  readonly host: FollowerHost;
  readonly clock: CaptureClock;
  /** The level of the fence while a database is written here. */
  readonly rest: "off" | "ready";
  /** Terms of durability sync for a database. */
  sync(name: string): SyncTerms | undefined;
  report(message: string, error: unknown): void;
}

/**
 * Begins to capture a database in `epoch`. `live`: applications may have it open, because an engine was restarted under them or because this
 * node followed until now. Afterwards the fence is at rest.
 */
export async function beginPrimary(entry: StoredDatabase, epoch: number, live: boolean, parts: SwitchParts): Promise<void> {
  const { database } = entry;
  if (entry.primary !== undefined) {
    database.enterEpoch(epoch);
    return parts.host.fence(database.name, parts.rest);
  }
  const followed = entry.follower;
  const point = await followed?.release();
  entry.follower = undefined;
  const exists = fs.existsSync(database.paths.database);
  if (followed !== undefined && !exists && !database.deleted && database.position.txid > 0) {
    // Not deleted by anybody: lost. To say otherwise would delete it everywhere.
    parts.report(`The file of "${database.name}" is missing on this node, which now writes; put it back or run \`sluice import\``, undefined);
    return;
  }
  database.enterEpoch(epoch);
  if (!exists) {
    // The log says there is a database but its file is gone: deleted while nobody looked.
    if (!database.deleted) database.recordDeletion();
    await parts.host.fence(database.name, "off");
    return;
  }
  // A wal-index is a cache that any SQLite rebuilds; one that was left behind may be older than the WAL.
  if (!live && followed === undefined) files.unlink("store:shm", database.paths.shm);
  startCapture(entry, live || followed !== undefined, parts, point);
  await parts.host.fence(database.name, parts.rest);
}

function startCapture(entry: StoredDatabase, live: boolean, parts: SwitchParts, point: Parameters<Primary["resume"]>[1]): void {
  const { database } = entry;
  const primary = new Primary(database, (message, error) => parts.report(message, error), parts.sync(database.name));
  entry.primary = primary;
  primary.resume(live, point);
  parts.clock.add(primary);
  const first = database.position.txid === 0 || database.deleted ? "a database that has no log yet" : undefined;
  const reason = database.distrust ?? first;
  primary.flush().then(() => (reason === undefined ? parts.clock.lookAtFile(database.name) : primary.diff(reason))).catch((error: unknown) => parts.report(`Capture of "${database.name}" failed`, error));
}

/**
 * Begins to follow with a database. `live`: an engine was restarted under running readers. Where this node wrote it until now, the writers are
 * kept out, what they committed is captured, and the WAL goes over.
 */
export async function beginFollower(entry: StoredDatabase, live: boolean, parts: SwitchParts): Promise<Follower> {
  if (entry.follower !== undefined) return entry.follower;
  const { promise, resolve } = Promise.withResolvers<void>();
  const waited = Promise.withResolvers<void>();
  entry.changing = { done: promise, waited };
  try {
    return await changeToFollower(entry, live, parts, waited.promise);
  } finally {
    entry.changing = undefined;
    resolve();
  }
}

async function changeToFollower(entry: StoredDatabase, live: boolean, parts: SwitchParts, waited: Promise<void>): Promise<Follower> {
  const { database, primary } = entry;
  // An earlier engine of this node was the primary: what it had not captured is captured first.
  const leftOver = primary === undefined && database.wasWrittenHere;
  if (leftOver && live) await parts.host.fence(database.name, "write");
  if (leftOver) await captureLast(database, live, (message, error) => parts.report(message, error));
  if (primary !== undefined) {
    await parts.host.fence(database.name, "write");
    await primary.flush();
    parts.clock.remove(database.name);
    primary.close();
    entry.primary = undefined;
  }
  database.stopWriting();
  const follower = new Follower(database, parts.host);
  entry.follower = follower;
  // A database that was never replicated from anywhere has no position: it is left alone until the primary sends one of its name.
  if (database.position.txid === 0 && database.pendingInstall === undefined) return follower;
  if (primary === undefined && !(leftOver && live)) await follower.attach({ live });
  else await follower.attachDemoted(waited);
  return follower;
}
