/**
 * A store in this process, on a data folder without a mount: what recovery tests start on a state of the disk.
 *
 * What it cannot show: locks and caches of the kernel, because there is no mount and no guardian; the fence and the names of the mount are taken
 * as given. The tests that start real nodes show those.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { pageChecksum, CHECKSUM_FLAG } from "../../node/core/checksums.ts";
import { Store, type StoreOptions } from "../../node/store/store.ts";
import { databasePaths } from "../../node/store/names.ts";

export const DATABASE = "app.db";
export const BOOT = Buffer.alloc(16, 1);
export const OTHER_BOOT = Buffer.alloc(16, 2);

export interface OpenedStore {
  readonly store: Store;
  /** What it reported; errors are those with a cause. */
  readonly reports: { readonly message: string; readonly error: unknown }[];
}

export function openStore(dataDir: string, options: { readonly boot?: Buffer; readonly name?: string; readonly sync?: StoreOptions["sync"] } = {}): OpenedStore {
  const reports: OpenedStore["reports"] = [];
  const store = new Store({
    dataDir, nodeId: options.name === "b" ? 2n : 1n, nodeName: options.name ?? "a", boot: options.boot ?? BOOT, replicates: () => true, leaseCanEnd: false,
    retention: { durationMs: 3_600_000, bytes: 1 << 30 }, ...(options.sync === undefined ? {} : { sync: options.sync }),
    host: {
      fence: () => Promise.resolve(), hide: () => Promise.resolve(), reveal: () => undefined, invalidateAttributes: () => undefined, invalidateEntry: () => undefined, dropCached: () => undefined,
      openOnMount: (path) => Promise.resolve(fs.openSync(join(dataDir, "files", path), "r+")),
      report: (message, error) => void reports.push({ message, error }),
      setVirtualNames: () => undefined, primaryName: () => "a", lagMs: () => 0,
    },
  });
  store.open();
  return { store, reports };
}

/** The content as SQLite reads it, on a copy, so that nothing is recovered in place. Undefined when there is no database. */
export function contentOf(dataDir: string, scratch: string, name = DATABASE): Buffer | undefined {
  const { database, wal, journal } = databasePaths(dataDir, name);
  if (!fs.existsSync(database)) return undefined;
  fs.rmSync(scratch, { recursive: true, force: true });
  fs.mkdirSync(scratch, { recursive: true });
  const copy = join(scratch, "copy.db");
  for (const [path, suffix] of [[database, ""], [wal, "-wal"], [journal, "-journal"]] as const) if (fs.existsSync(path)) fs.copyFileSync(path, `${copy}${suffix}`);
  const db = new Database(copy, { timeout: 1_000 });
  try {
    db.exec("BEGIN; SELECT count(*) FROM sqlite_schema");
    return db.serialize();
  } finally {
    db.close();
  }
}

/** The database checksum of a whole content. */
export function checksumOf(content: Buffer): bigint {
  const pageSize = content.readUInt16BE(16) === 1 ? 65_536 : content.readUInt16BE(16);
  let sum = CHECKSUM_FLAG;
  for (let at = 0; at < content.length; at += pageSize) sum ^= pageChecksum(at / pageSize + 1, content.subarray(at, at + pageSize));
  return sum | CHECKSUM_FLAG;
}
