/**
 * `sluice verify` on a database of a node that runs: the same questions, asked between the node's own work.
 *
 * Always holds: nothing is changed and nobody is kept waiting for longer than a slice. What changes while it is looked at is no fault: a page counts
 * as wrong only after it was compared again while nothing moved, an entry of the log only if it is still in the log.
 */
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { pageChecksumAt } from "../core/checksums.ts";
import type { Follower } from "./follower.ts";
import type { Primary } from "./primary.ts";
import { SnapshotSource } from "./snapshot-source.ts";
import type { StoredDatabase } from "./stored-database.ts";
import type { LogEntry } from "./tx-log.ts";
import { checkSmallFiles, damageSentence, type DatabaseReport } from "./verify.ts";
import { checkLog, type Finding, type Found, type StoredLtx } from "./verify-log.ts";

const SLICE_PAGES = 128;

export async function verifyRunning({ database, primary, follower }: StoredDatabase): Promise<DatabaseReport> {
  const { log, paths } = database;
  const findings: Finding[] = [];
  const found: Found = (file, fault, mends) => void findings.push({ file, fault, mends });
  const { header, sums } = checkSmallFiles(paths.log, found);
  // This process writes table and header in one go, so here they must agree as they are.
  if (header !== undefined && database.distrust === undefined && sums.checksum !== header.checksum) found(join(paths.log, "checksums"), `its page checksums do not add up to those of transaction ${header.txid}`, "start");
  const entries = new Map<StoredLtx, LogEntry>(log.entries.map((entry) => [{ min: entry.min, max: entry.max, size: entry.size, path: entry.place?.segment.path ?? log.pathOf(entry), at: entry.place?.at ?? 0 }, entry]));
  await checkLog([...entries.keys()], found, { wantPages: () => false, gone: (stored) => !log.entries.includes(entries.get(stored)!), breakAt: database.baseTxid });
  if (database.distrust !== undefined) found(paths.database, `it is being read to be sure of it: ${database.distrust}`, "note");
  else if (!database.deleted && database.position.txid > 0) {
    const wrong = primary !== undefined ? await primaryDamage(primary) : follower?.replica === undefined ? undefined : await followerDamage(follower);
    if (wrong === undefined) found(paths.database, "it is missing", "peer");
    else if (wrong.length > 0) found(paths.database, damageSentence(wrong), "peer");
  }
  return { name: database.name, epoch: database.position.epoch, txid: database.position.txid, writing: primary !== undefined, findings };
}

async function primaryDamage(primary: Primary): Promise<readonly number[]> {
  const wrong: number[] = [];
  const source = await SnapshotSource.begin(primary);
  for await (const _ of source.pages({ fromPage: 1, numbers: [], lost: (pgnos) => void wrong.push(...pgnos) }, () => undefined));
  return wrong;
}

async function followerDamage(follower: Follower): Promise<readonly number[]> {
  const { database } = follower;
  const isWrong = (pgno: number): boolean => {
    const { replica } = follower;
    if (replica === undefined || pgno > database.sums.pageCount) return false;
    replica.readPage(pgno, 0);
    return pageChecksumAt(pgno, 0, replica.pageSize) !== database.sums.get(pgno);
  };
  const suspects: number[] = [];
  let done = 0;
  for (const pgno of database.allPages(database.sums.pageCount, database.pageSize)) {
    if (isWrong(pgno)) suspects.push(pgno);
    if (++done % SLICE_PAGES === 0) await nextTick();
  }
  // In its turn nothing is being applied: page checksums and pages are of one state.
  return suspects.length === 0 ? [] : follower.turn.run(() => suspects.filter(isWrong));
}
