/**
 * The recorded life of one node, "x", through everything that an election does to a disk, beside a node "p" that is not recorded:
 *
 * 1. x follows p; a proposal of durability sync is stored and confirmed, one is stored and refused, one is stored and undecided when p dies.
 * 2. x is elected: the undecided one is published, x writes in epoch 2.
 * 3. x hands the lease to p and follows; p hands it back; x writes in epoch 4.
 * 4. x is cut off and goes on writing while p is elected; then it is demoted, and what only it had diverges.
 * 5. x follows, and stops in order.
 *
 * Always holds: the order of what happens is the same each time; counts of changes are not, because streams and timers write in between.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { until } from "../support/cluster.ts";
import { DiskRecord } from "./disk-record.ts";
import { checksumOf, contentOf, openStore } from "./node-store.ts";
import { leaseFile, RoleNode } from "./role-node.ts";

export const ASYNC = "app.db";
/** The one whose commits are proposed first. */
export const SYNC = "sync.db";
export const NAMES = [ASYNC, SYNC] as const;
/** Long, because nobody is to lose a lease that is not taken from it. */
const TTL_MS = 30_000;

export interface RoleRecord {
  readonly record: DiskRecord;
  /** Rows that x's SQLite had committed and synced once so many changes had been made. */
  readonly committed: readonly { readonly changes: number; readonly name: string; readonly row: string }[];
  /** What x had announced. */
  readonly announced: readonly { readonly changes: number; readonly name: string; readonly epoch: number; readonly txid: number }[];
  /** Checksums by database, epoch and TXID, as either node announced them. */
  readonly states: ReadonlyMap<string, bigint>;
  /** When a proposal's row was stored by x, and from when on x knows that it is refused (or has been overtaken). */
  readonly proposals: readonly { readonly row: string; readonly stored: number; readonly refused: number }[];
  /** Changes at which a stage had begun, by its name. */
  readonly stages: ReadonlyMap<string, number>;
  /** p, as it is at the end: the primary, with everything. */
  readonly p: RoleNode;
  readonly lease: string;
  /** The rows of p at the end. */
  readonly rows: Readonly<Record<string, ReadonlySet<string>>>;
}

export const stateKey = (name: string, epoch: number, txid: number): string => `${name} ${epoch} ${txid}`;

export function rowsIn(content: Buffer | undefined): Set<string> {
  if (content === undefined) return new Set();
  // A database in memory has no WAL, whatever its header says.
  const copy = Buffer.from(content).fill(1, 18, 20);
  const db = new Database(copy);
  try {
    const there = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 't'").get() !== undefined;
    return new Set(there ? (db.prepare("SELECT body FROM t").pluck().all() as string[]) : []);
  } finally {
    db.close();
  }
}

const insert = (row: string): string => `INSERT INTO t(body, filler) VALUES ('${row}', zeroblob(900))`;

/** The transaction file of what this statement would commit on a node, made on a copy of its folder. */
async function draft(root: string, scratch: string, name: string, sql: string): Promise<{ ltx: Buffer; position: { epoch: number; txid: number; checksum: bigint } }> {
  fs.rmSync(scratch, { recursive: true, force: true });
  fs.cpSync(root, scratch, { recursive: true });
  const { store } = openStore(scratch, { name: "p" });
  await store.becomePrimary(store.highestEpoch(), { live: false });
  const db = new Database(join(scratch, "files", name));
  try {
    db.exec(sql);
    await store.flushAll();
    const { position, log } = store.databases.get(name)!.database;
    return { ltx: Buffer.from(log.read(log.entryAt(position.txid)!)), position };
  } finally {
    db.close();
    await store.close({ clean: false });
  }
}

export async function recordRoles(folder: string): Promise<RoleRecord> {
  const [root, other, scratch, lease] = [join(folder, "x"), join(folder, "p"), join(folder, "draft"), leaseFile(folder)];
  fs.mkdirSync(root);
  const states = new Map<string, bigint>();
  const committed: { changes: number; name: string; row: string }[] = [];
  const announced: { changes: number; name: string; epoch: number; txid: number }[] = [];
  const proposals: { row: string; stored: number; refused: number }[] = [];
  const stages = new Map<string, number>();
  const open = new Map<string, Database.Database>();

  const begin = async (name: "p" | "x"): Promise<RoleNode> => {
    const node = await RoleNode.start({ root: name === "x" ? root : other, name, lease, ttlMs: TTL_MS });
    node.store.onChange(({ name: database, position: { epoch, txid, checksum } }) => {
      if (name === "x") announced.push({ changes: record.changes.length, name: database, epoch, txid });
      if (txid > 0) states.set(stateKey(database, epoch, txid), checksum);
    });
    return node;
  };
  const stage = (name: string): void => void stages.set(name, record.changes.length);
  const note = (name: string): void => record.noteFiles(["", "-wal", "-journal"].map((suffix) => `files/${name}${suffix}`), true);
  const connection = (node: RoleNode, name: string): Database.Database => {
    const key = `${node.name} ${name}`;
    if (!open.has(key)) open.set(key, new Database(join(node.name === "x" ? root : other, "files", name), { timeout: 10_000 }));
    return open.get(key)!;
  };
  const close = (node: RoleNode): void => {
    for (const [key, db] of open) {
      if (!key.startsWith(`${node.name} `)) continue;
      db.close();
      open.delete(key);
      // The last to close it takes WAL and wal-index away; what the mount tells the store of that.
      for (const suffix of ["-wal", "-shm"]) node.store.afterUnlink(`${key.slice(2)}${suffix}`);
    }
    if (node.name === "x") NAMES.forEach(note);
  };
  const write = async (node: RoleNode, name: string, row: string): Promise<void> => {
    connection(node, name).exec(insert(row));
    if (node.name === "x") {
      note(name);
      committed.push({ changes: record.changes.length, name, row });
    }
    await node.store.flushAll();
  };
  const create = async (node: RoleNode, name: string): Promise<void> => {
    connection(node, name).exec("PRAGMA page_size = 1024; PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT, filler BLOB)");
    node.store.afterCreate(name);
    node.store.afterLastClose(name);
    await node.store.primaryOf(name).diff("a database that appeared");
  };
  const state = (node: RoleNode, wanted: string): Promise<unknown> => until(`${node.name} to be ${wanted}`, () => node.roles.state === wanted);
  const inStep = (one: RoleNode, two: RoleNode): Promise<unknown> => until(`${one.name} and ${two.name} to hold the same`, () => NAMES.every((name) => {
    const [a, b] = [one, two].map(({ store }) => store.databases.get(name)?.database.position);
    return a !== undefined && b !== undefined && a.txid > 0 && a.txid === b.txid && a.epoch === b.epoch && a.checksum === b.checksum;
  }));
  /** Proposes what this row would be; resolves with its serial when x has stored it. */
  const propose = async (row: string): Promise<{ serial: number; checksum: bigint; ltx: Buffer }> => {
    const { ltx, position } = await draft(other, scratch, SYNC, insert(row));
    const serial = await p.server.quorum.propose({ name: SYNC, position, ltx }, { replicas: 1, timeoutMs: 60_000 });
    proposals.push({ row, stored: record.changes.length, refused: Infinity });
    return { serial, checksum: position.checksum, ltx };
  };

  const record = new DiskRecord(root);
  let p = await begin("p");
  let x = undefined as unknown as RoleNode;
  try {
    await p.roles.take();
    await state(p, "primary");
    for (const name of NAMES) await create(p, name);
    for (const name of NAMES) for (let n = 1; n <= 2; n++) await write(p, name, `p ${n} in epoch 1`);

    stage("follow");
    x = await begin("x");
    await inStep(x, p);
    for (const name of NAMES) await write(p, name, "p 3 in epoch 1");
    await inStep(x, p);
    stage("confirmed");
    const sure = await propose("confirmed");
    // A connection that is as fresh as the one that made the draft: an older one counts changes in page 1 otherwise.
    close(p);
    await write(p, SYNC, "confirmed");
    if (p.store.databases.get(SYNC)!.database.position.checksum !== sure.checksum) throw new Error("what was proposed is not what was committed");
    await inStep(x, p);
    stage("refused");
    const refused = await propose("refused");
    p.server.quorum.withdraw(SYNC, refused.serial);
    await until("x to know of the refusal", () => x.store.storedPosition(SYNC).refused >= refused.serial);
    proposals.at(-1)!.refused = record.changes.length;
    await write(p, SYNC, "p 4 in epoch 1");
    await inStep(x, p);
    stage("undecided");
    await propose("undecided");
    close(p);
    await p.end({ clean: false, free: true });

    stage("elected");
    await x.roles.take();
    await state(x, "primary");
    for (const name of NAMES) for (let n = 1; n <= 2; n++) await write(x, name, `x ${n} in epoch 2`);
    p = await begin("p");
    await inStep(p, x);
    stage("handoff");
    close(x);
    await x.roles.handOff("p");
    await state(p, "primary");
    await until("x to follow p", () => x.roles.state === "follower" && x.caughtUp(NAMES));
    for (const name of NAMES) await write(p, name, "p in epoch 3");
    await inStep(x, p);
    stage("handed back");
    close(p);
    await p.roles.handOff("x");
    await state(x, "primary");
    for (const name of NAMES) await write(x, name, "x in epoch 4");
    await until("p to follow x", () => p.caughtUp(NAMES));
    await inStep(p, x);

    stage("alone");
    // p hears nothing of what x does from here on.
    await p.end({ clean: false, free: false });
    for (const name of NAMES) for (let n = 1; n <= 2; n++) await write(x, name, `x ${n} alone in epoch 4`);
    stage("demoted");
    close(x);
    p = await begin("p");
    const held = (await p.leases.read(10_000))!;
    await p.leases.release(held, 10_000);
    await p.roles.take();
    await state(p, "primary");
    for (const name of NAMES) for (let n = 1; n <= 2; n++) await write(p, name, `p ${n} in epoch 5`);
    await until("x to follow p again", () => x.roles.state === "follower" && x.caughtUp(NAMES));
    await inStep(x, p);
    stage("again");
    for (const name of NAMES) await write(p, name, "p 3 in epoch 5");
    await inStep(x, p);
    close(p);
    stage("stop");
    await x.end({ clean: true, free: true });
  } catch (error) {
    for (const node of [p, x]) await node?.end({ clean: false, free: false }).catch(() => undefined);
    throw error;
  } finally {
    record.stop();
    for (const db of open.values()) db.close();
  }
  const rows = Object.fromEntries(NAMES.map((name) => [name, rowsIn(contentOf(other, scratch, name))]));
  for (const name of NAMES) {
    const { position } = p.store.databases.get(name)!.database;
    if (checksumOf(contentOf(other, scratch, name)!) !== position.checksum) throw new Error(`p does not hold what its position of ${name} says`);
  }
  return { record, committed, announced, states, proposals, stages, p, lease, rows };
}
