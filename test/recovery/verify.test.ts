/**
 * `sluice verify` on data folders that were damaged by hand: each damage is found under the name of its file, a sound folder has none, and nothing is
 * changed by looking. Without mount and guardian; test/cluster/repair.test.ts asks real nodes.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import Database from "better-sqlite3";
import { CHECKSUM_FLAG } from "../../node/core/checksums.ts";
import { Identity } from "../../node/identity.ts";
import { LtxEncoder } from "../../node/ltx/encoder.ts";
import { databasePaths } from "../../node/store/names.ts";
import { isSound, remedy, verifyFolder, type VerifyReport } from "../../node/verify-command.ts";
import { DATABASE, openStore } from "./node-store.ts";

const PAGE = 1024;
const COMMITS = 12;
let folder: string;
/** As kill -9 leaves a primary; its database file holds everything up to the last commit, which is in the WAL. */
let killedPrimary: string;
/** After a clean stop: the WAL of a follower keeps its frames. */
let stoppedPrimary: string;
let stoppedFollower: string;
/** Its log misses the last transaction in the files: it is stored and not applied. */
let unapplied: string;

before(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), "verify-"));
  const live = join(folder, "live");
  const { store } = openStore(live);
  await store.becomePrimary(1, { live: false });
  const db = new Database(join(live, "files", DATABASE));
  db.exec(`PRAGMA page_size = ${PAGE}; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)`);
  store.afterCreate(DATABASE);
  store.afterLastClose(DATABASE);
  const primary = store.primaryOf(DATABASE);
  await primary.diff("a database that appeared");
  const commit = async (sql: string): Promise<void> => {
    db.exec(sql);
    await store.flushAll();
  };
  // One transaction of a file of its own, which is too large for a segment.
  await commit("INSERT INTO t(body) SELECT randomblob(3000) FROM generate_series(1, 200)".replace("generate_series(1, 200)", "(WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < 200) SELECT n FROM c)"));
  for (let n = 3; n < COMMITS; n++) await commit("INSERT INTO t(body) VALUES (randomblob(1500))");
  db.pragma("wal_checkpoint(FULL)");
  primary.database.saveSidecar();
  await commit("INSERT INTO t(body) VALUES (randomblob(1500))");
  const sent = primary.database.log.entries.map((entry) => Buffer.from(primary.database.log.read(entry)));
  killedPrimary = join(folder, "killed");
  fs.cpSync(live, killedPrimary, { recursive: true });
  db.close();
  await store.close({ clean: true });
  stoppedPrimary = live;

  stoppedFollower = join(folder, "follower");
  const following = openStore(stoppedFollower, { name: "b" });
  await following.store.becomeFollower({ live: false });
  const follower = await following.store.followerOf(DATABASE);
  unapplied = join(folder, "unapplied");
  for (const [index, ltx] of sent.entries()) {
    await follower.apply(ltx, 1);
    if (index === sent.length - 2) fs.cpSync(join(stoppedFollower, "files"), join(unapplied, "files"), { recursive: true });
  }
  fs.cpSync(join(stoppedFollower, "log"), join(unapplied, "log"), { recursive: true });
  await following.store.close({ clean: true });
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const logOf = (root: string): string => databasePaths(root, DATABASE).log;
const firstOf = (root: string, suffix: string): string => join(logOf(root), fs.readdirSync(logOf(root)).filter((name) => name.endsWith(suffix)).sort()[0]!);

/** Names, contents and times of everything below a folder. */
function picture(root: string): string[] {
  return fs.readdirSync(root, { recursive: true, encoding: "utf8" }).sort().map((name) => {
    const stat = fs.statSync(join(root, name), { bigint: true });
    return `${name} ${stat.mtimeNs} ${stat.isFile() ? createHash("sha1").update(fs.readFileSync(join(root, name))).digest("hex") : ""}`;
  });
}

function flip(path: string, at: number): void {
  const bytes = fs.readFileSync(path);
  bytes[at]! ^= 0x55;
  fs.writeFileSync(path, bytes);
}

/** What verify says of a copy of `from` after `damage`; the copy is the same afterwards. */
async function verified(from: string, damage: (root: string) => void = () => undefined): Promise<VerifyReport> {
  const root = fs.mkdtempSync(join(folder, "node-"));
  fs.cpSync(from, root, { recursive: true });
  damage(root);
  const before = picture(root);
  const report = await verifyFolder(root);
  assert.deepEqual(picture(root), before, "verify changes nothing");
  return report;
}

const faultsOf = (report: VerifyReport): string[] => [report.node, ...report.databases.map(({ findings }) => findings)].flat().filter(({ mends }) => mends !== "note").map(({ file, fault, mends }) => `${basename(file)} [${mends}] ${fault}`);
const notesOf = (report: VerifyReport): string[] => report.databases.flatMap(({ findings }) => findings).filter(({ mends }) => mends === "note").map(({ file, fault }) => `${basename(file)} ${fault}`);

test("nodes that were stopped or killed are sound", async () => {
  for (const root of [killedPrimary, stoppedPrimary, stoppedFollower]) {
    const report = await verified(root);
    assert.deepEqual(faultsOf(report), [], root);
    assert.ok(isSound(report));
    assert.deepEqual(report.databases.map(({ name, txid }) => [name, txid]), [[DATABASE, COMMITS]]);
    assert.deepEqual(notesOf(report), []);
  }
});

test("an empty folder, and none, are sound", async () => {
  assert.ok(isSound(await verifyFolder(fs.mkdtempSync(join(folder, "empty-")))));
  assert.ok(isSound(await verifyFolder(join(folder, "nothing-here"))));
  await assert.rejects(verifyFolder(killedPrimary, "other.db"), { code: "DATABASE_NOT_FOUND" });
});

const halfway = (path: string): number => Math.floor(fs.statSync(path).size / 2);

const DAMAGES: readonly (readonly [what: string, from: () => string, damage: (root: string) => void, faults: readonly RegExp[]])[] = [
  ["a transaction file with a wrong byte", () => stoppedFollower, (root) => flip(firstOf(root, ".ltx"), halfway(firstOf(root, ".ltx"))), [/^0{15}2-0{15}2\.ltx \[peer\] /]],
  ["a transaction file that is cut off", () => stoppedFollower, (root) => fs.truncateSync(firstOf(root, ".ltx"), halfway(firstOf(root, ".ltx"))), [/^0{15}2-0{15}2\.ltx \[peer\] /]],
  ["a transaction file under another's name", () => stoppedFollower, (root) => fs.renameSync(firstOf(root, ".ltx"), join(logOf(root), "0000000000000001-0000000000000002.ltx")), [/^0{15}1-0{15}2\.ltx \[peer\] it holds transactions 2 to 2, not those of its name/]],
  ["a record of a segment with a wrong byte", () => stoppedFollower, (root) => flip(firstOf(root, ".seg"), 4 + 100 + 20), [/^[0-9a-f]{16}\.seg \[peer\] the record at 4: /]],
  ["half a record at the end of a segment", () => killedPrimary, (root) => fs.appendFileSync(firstOf(root, ".seg"), Buffer.alloc(77, 1)), [/\.seg \[start\] its last 77 bytes/]],
  ["the middle of the log replaced by another history", () => stoppedFollower, (root) => {
    const chunks: Buffer[] = [];
    const encoder = new LtxEncoder((chunk) => chunks.push(Buffer.from(chunk)), {
      flags: 0, pageSize: PAGE, commit: 500, minTxid: 2, maxTxid: 2, timestamp: 1, preApplyChecksum: CHECKSUM_FLAG | 5n, walOffset: 0, walSize: 0, walSalt1: 0, walSalt2: 0, nodeId: 9n,
    });
    encoder.pageAt(7, 0);
    encoder.finish(CHECKSUM_FLAG | 6n);
    fs.writeFileSync(firstOf(root, ".ltx"), Buffer.concat(chunks));
  }, [/^0{15}2-0{15}2\.ltx \[peer\] transaction 2 begins with checksum 8000000000000005, the one before it ends with/, /\.seg \[peer\] the record at \d+: transaction 3 begins with checksum .* ends with 8000000000000006/]],
  ["a frame of a follower's WAL, which ends it there", () => stoppedFollower, (root) => flip(join(root, "files", `${DATABASE}-wal`), 32 + 24 + 100), [/^app\.db \[peer\] \d+ pages are not what their checksums say/]],
  ["a page of a primary's database", () => stoppedPrimary, (root) => flip(join(root, "files", DATABASE), 40 * PAGE + 100), [/^app\.db \[peer\] page 41 is not what its checksum says/]],
  ["a page of a killed primary's database", () => killedPrimary, (root) => flip(join(root, "files", DATABASE), 40 * PAGE + 100), [/^app\.db \[peer\] page 41 is not/]],
  ["a database that is cut off", () => stoppedPrimary, (root) => fs.truncateSync(join(root, "files", DATABASE), 40 * PAGE), [/^app\.db \[peer\] \d+ pages are not what their checksums say: /]],
  ["a database that is missing", () => stoppedPrimary, (root) => fs.rmSync(join(root, "files", DATABASE)), [/^app\.db \[peer\] it is missing/]],
  ["an entry of the page checksums", () => stoppedPrimary, (root) => flip(join(logOf(root), "checksums"), 64 + 8 * 40), [/^checksums \[start\] its page checksums and the log do not add up/]],
  ["the header of the page checksums", () => stoppedPrimary, (root) => flip(join(logOf(root), "checksums"), 20), [/^checksums \[start\] its header is damaged/]],
  ["page checksums that are missing", () => stoppedPrimary, (root) => fs.rmSync(join(logOf(root), "checksums")), [/^checksums \[start\] it is missing/]],
  ["page checksums and a page at once", () => stoppedPrimary, (root) => (flip(join(logOf(root), "checksums"), 20), flip(join(root, "files", DATABASE), 40 * PAGE + 100)), [/^checksums \[start\]/, /^app\.db \[peer\] its content has checksum/]],
  ["a state.json that is no JSON", () => stoppedPrimary, (root) => fs.writeFileSync(join(logOf(root), "state.json"), "{"), [/^state\.json \[start\] it cannot be used: /]],
  ["a state.json that says nothing", () => stoppedPrimary, (root) => fs.writeFileSync(join(logOf(root), "state.json"), "{}"), [/^state\.json \[start\] it cannot be used: it does not say what a state must/]],
  ["a state.json that is missing", () => stoppedPrimary, (root) => fs.rmSync(join(logOf(root), "state.json")), [/^state\.json \[start\] it is missing/]],
  ["epochs that do not ascend", () => stoppedPrimary, (root) => {
    const path = join(logOf(root), "state.json");
    const state = JSON.parse(fs.readFileSync(path, "utf8")) as { epochs: unknown[] };
    fs.writeFileSync(path, JSON.stringify({ ...state, epochs: [...state.epochs, { epoch: 1, firstTxid: 3, node: "x" }] }));
  }, [/^state\.json \[peer\] its epochs do not ascend/]],
  ["a stored proposal", () => stoppedFollower, (root) => fs.writeFileSync(join(logOf(root), "tail"), Buffer.alloc(80, 1)), [/^tail \[start\] its header is damaged/]],
  ["something in log/ that is no log", () => stoppedPrimary, (root) => fs.writeFileSync(join(root, "log", "%zz"), ""), [/^%zz \[start\] it is not the log of a database/]],
  ["the ids and epochs of the node", () => stoppedPrimary, (root) => ["node-id", "cluster-id", "epoch", "lease.json"].forEach((name) => fs.writeFileSync(join(root, name), "??")), [/^node-id \[start\]/, /^cluster-id \[person\]/, /^epoch \[start\]/, /^lease\.json \[start\]/]],
];

for (const [what, from, damage, expected] of DAMAGES) {
  test(`verify names ${what}`, async () => {
    const report = await verified(from(), damage);
    const faults = faultsOf(report);
    assert.equal(faults.length, expected.length, faults.join("\n"));
    expected.forEach((pattern, index) => assert.match(faults[index]!, pattern));
    assert.ok(!isSound(report));
  });
}

test("commits that the log has not got yet, and a transaction that is stored and not applied, are notes", async () => {
  const newer = await verified(killedPrimary, (root) => {
    // Two programs in the real world; here the second only looks.
    const copy = fs.mkdtempSync(join(folder, "copy-"));
    for (const suffix of ["", "-wal"]) fs.copyFileSync(join(root, "files", `${DATABASE}${suffix}`), join(copy, `${DATABASE}${suffix}`));
    const db = new Database(join(copy, DATABASE));
    db.exec("PRAGMA wal_autocheckpoint = 0; UPDATE t SET body = randomblob(1400) WHERE id % 50 = 1");
    for (const suffix of ["", "-wal"]) fs.copyFileSync(join(copy, `${DATABASE}${suffix}`), join(root, "files", `${DATABASE}${suffix}`));
    db.close();
  });
  assert.deepEqual(faultsOf(newer), []);
  assert.match(notesOf(newer).join("\n"), /^app\.db-wal it holds commits that are not in the log yet \(\d+ pages\)/);
  const gap = await verified(stoppedFollower, (root) => fs.rmSync(firstOf(root, ".ltx")));
  assert.deepEqual(faultsOf(gap), []);
  assert.match(notesOf(gap).join("\n"), /transactions 2 to 2 are not in the log/);
  const stored = await verified(unapplied);
  assert.deepEqual(faultsOf(stored), []);
  assert.match(notesOf(stored).join("\n"), new RegExp(`^app\\.db-wal transaction ${COMMITS} is stored and not applied yet`));
});

test("each fault has its command, by where it is", () => {
  const where = { file: "f.yml", database: "app.db", running: true, writing: false, isStatic: false };
  assert.equal(remedy("peer", where), "`sluice repair --from peer --name app.db -c f.yml`");
  assert.equal(remedy("peer", { ...where, running: false }), "`sluice mount -c f.yml`, then `sluice repair --from peer --name app.db -c f.yml`");
  assert.equal(remedy("peer", { ...where, writing: true }), "`sluice handoff -c f.yml`, then `sluice repair --from peer --name app.db -c f.yml`");
  assert.match(remedy("peer", { ...where, writing: true, isStatic: true }), /lease\.primary .*sluice import --name app\.db -c f\.yml/);
  assert.match(remedy("start", { ...where, running: false }), /^`sluice mount -c f\.yml` mends it/);
  assert.match(remedy("person", where), /node\.clusterId/);
});

test("an identity that is damaged is set aside and found again, but for the cluster's", () => {
  const root = fs.mkdtempSync(join(folder, "identity-"));
  const first = new Identity(root);
  first.foundCluster();
  assert.equal(first.startEpoch(0), 1);
  fs.writeFileSync(join(root, "epoch"), '{"epoch":"x"}');
  fs.writeFileSync(join(root, "node-id"), "");
  const said: string[] = [];
  const second = new Identity(root, (message) => said.push(message));
  assert.match(second.nodeId, /^[0-9a-f]{16}$/);
  assert.equal(second.clusterId, first.clusterId);
  assert.equal(second.startEpoch(7), 8);
  assert.equal(said.length, 2);
  assert.equal(fs.readdirSync(join(root, "aside")).filter((name) => !name.endsWith(".why")).length, 2);
  fs.writeFileSync(join(root, "cluster-id"), "0123");
  assert.throws(() => new Identity(root), { code: "CORRUPT_FILE", message: /cluster-id".*node\.clusterId/ });
  assert.equal(fs.readFileSync(join(root, "cluster-id"), "utf8"), "0123");
});
