/**
 * `sluice verify` and `sluice repair --from peer` on two real nodes: damage that no start and no healing can see is named, and mended by the primary,
 * while programs have the database open.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import Database from "better-sqlite3";
import { scanWal } from "../../node/sqlite/wal-scanner.ts";
import { databasePaths } from "../../node/store/names.ts";
import { bytesOf } from "../support/programs.ts";
import { sluice, TestCluster, until, type TestNode } from "../support/cluster.ts";
import { assertSame, integrity } from "../support/compare.ts";
import { Program } from "../support/programs.ts";

const NAME = "app.db";
const OTHER = "other.db";
const PAGE = 4096;
/** More than a follower keeps in its WAL, so that its database file has pages that lie nowhere else. */
const FILL = "WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < 6000) INSERT INTO t(body) SELECT randomblob(3000) FROM c";

describe("verify and repair", () => {
  let cluster: TestCluster;
  let a: TestNode;
  let b: TestNode;
  const program = new Program();

  before(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    [a, b] = cluster.nodes as [TestNode, TestNode];
    for (const name of [NAME, OTHER]) {
      await program.exec(a.path(name), "PRAGMA journal_mode = wal", "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)", FILL, "DELETE FROM t WHERE id % 7 = 0");
      for (let n = 0; n < 40; n++) await program.exec(a.path(name), "INSERT INTO t(body) VALUES (randomblob(500))");
      await assertSame(cluster, name);
    }
  });

  after(async () => {
    await program.end();
    await cluster.dispose();
  });

  const asideOf = (node: TestNode): string[] => (fs.existsSync(join(node.data, "aside")) ? fs.readdirSync(join(node.data, "aside")) : []);
  const largest = (node: TestNode): string => {
    const { log } = databasePaths(node.data, NAME);
    const logs = fs.readdirSync(log).filter((name) => name.endsWith(".ltx")).map((name) => join(log, name));
    return logs.sort((one, other) => fs.statSync(other).size - fs.statSync(one).size)[0]!;
  };

  /** As a disk loses something: the file system knows of no change. */
  function flip(path: string, at: number): void {
    const { atimeMs, mtimeMs } = fs.statSync(path);
    const fd = fs.openSync(path, "r+");
    const byte = Buffer.alloc(1);
    fs.readSync(fd, byte, 0, 1, at);
    byte[0]! ^= 0x55;
    fs.writeSync(fd, byte, 0, 1, at);
    fs.closeSync(fd);
    fs.utimesSync(path, atimeMs / 1_000, mtimeMs / 1_000);
  }

  /** A page whose only copy is in the database file. */
  function pageOutsideWal(node: TestNode, pages: number): number {
    const wal = fs.readFileSync(join(node.data, "files", `${NAME}-wal`));
    const inWal = new Set(scanWal((buffer, offset) => wal.copy(buffer, 0, offset))?.pages ?? []);
    for (let pgno = Math.floor(pages / 2); pgno > 1; pgno--) if (!inWal.has(pgno)) return pgno;
    throw new Error(`all of ${pages} pages are in the WAL`);
  }

  test("running nodes are sound, also while they write", async () => {
    const writer = new Program();
    const writing = writer.run(async ({ Database }, path) => {
      const db = new Database(path, { timeout: 10_000 });
      for (let n = 0; n < 400; n++) {
        db.exec("UPDATE t SET body = randomblob(3000) WHERE id = abs(random() % 300)");
        if (n % 20 === 0) db.pragma("wal_checkpoint(TRUNCATE)");
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      db.close();
    }, a.path(NAME));
    for (let n = 0; n < 3; n++) {
      for (const node of [a, b]) {
        const { code, output } = await sluice("verify", "-c", node.config);
        assert.equal(code, 0, `${node.name}: ${output}`);
        assert.match(output, /^app\.db: sound at TXID [0-9a-f]{16}$/m);
      }
    }
    await writing;
    await writer.end();
    await assertSame(cluster, NAME);
  });

  test("a page and an old transaction file of a follower that were damaged while it was down are named, and a repair mends them under open programs", async () => {
    assert.equal(await b.stop(), 0);
    const before = fs.readFileSync(join(b.data, "files", NAME));
    const damagedPage = pageOutsideWal(b, before.length / PAGE);
    const ltx = largest(b);
    flip(join(b.data, "files", NAME), (damagedPage - 1) * PAGE + 2000);
    flip(ltx, Math.floor(fs.statSync(ltx).size / 2));
    const damaged = fs.readFileSync(join(b.data, "files", NAME));

    const down = await sluice("verify", "-c", b.config);
    assert.equal(down.code, 1);
    assert.match(down.output, new RegExp(`^${join(b.data, "files", NAME)}: page ${damagedPage} is not what its checksum says; \`sluice mount -c ${b.config}\`, then \`sluice repair --from peer --name app\\.db -c ${b.config}\`$`, "m"));
    assert.match(down.output, new RegExp(`^${ltx}: .*sluice repair --from peer`, "m"));
    assert.match(down.output, /^other\.db: sound/m);

    b.output = "";
    b.start();
    await b.ready();
    await cluster.inStep(NAME);
    const open = new Database(b.path(NAME), { readonly: true });
    try {
      open.prepare("SELECT count(*) FROM t").get();
      // A start neither reads a database nor its log after a clean stop: nothing has healed it.
      assert.deepEqual((await b.status())!.damage, { found: 0, healed: 0 });
      const up = await sluice("verify", "-c", b.config, "--name", NAME, "--json");
      assert.equal(up.code, 1, up.output);
      const { findings } = JSON.parse(up.output) as { findings: { file: string; remedy: string }[] };
      assert.deepEqual(findings.map(({ file }) => file).sort(), [join(b.data, "files", NAME), ltx].sort());
      for (const { remedy } of findings) assert.equal(remedy, `\`sluice repair --from peer --name app.db -c ${b.config}\``);

      const repaired = await sluice("repair", "--from", "peer", "-c", b.config);
      assert.equal(repaired.code, 0, repaired.output);
      assert.match(repaired.output, /^Repaired app\.db: \d+ pages, \S+, at TXID [0-9a-f]{16}; what was here is in aside\/$/m);
      assert.doesNotMatch(repaired.output, /other\.db/);

      const after = await sluice("verify", "-c", b.config);
      assert.equal(after.code, 0, after.output);
      assert.ok((await assertSame(cluster, NAME)).equals(bytesOf(a.path(NAME))));
      assert.equal(integrity(b.path(NAME)), "ok");
      // The program that had it open all the time reads on, what comes from now on included.
      await program.exec(a.path(NAME), "INSERT INTO t(body) VALUES ('after the repair')");
      await cluster.inStep(NAME);
      assert.equal((open.prepare("SELECT body FROM t ORDER BY id DESC LIMIT 1").get() as { body: string }).body, "after the repair");
    } finally {
      open.close();
    }
    const kept = asideOf(b);
    const copy = kept.find((name) => name.endsWith(`-${NAME}`));
    assert.ok(copy !== undefined, kept.join("\n"));
    // The page as it was damaged is there; a checkpoint may have brought newer versions of others.
    const page = (bytes: Buffer): Buffer => bytes.subarray((damagedPage - 1) * PAGE, damagedPage * PAGE);
    assert.ok(page(fs.readFileSync(join(b.data, "aside", copy))).equals(page(damaged)));
    for (const wanted of [`${NAME}-wal`, "state.json", "checksums", ltx.slice(ltx.lastIndexOf("/") + 1)]) assert.ok(kept.some((name) => name.endsWith(`-${wanted}`)), `${wanted} in ${kept.join(", ")}`);
    assert.ok(kept.every((name) => name.endsWith(".why") || kept.includes(`${name}.why`)));
    await until("the follower to go on from its new log", async () => (await sluice("verify", "-c", b.config)).code === 0);
  });

  test("nodes that were killed while they wrote have no fault that the next start does not mend, and a repaired follower starts again as any other", async () => {
    await program.exec(a.path(OTHER), "PRAGMA journal_mode = delete");
    const writers = [NAME, OTHER].map(() => new Program());
    const writing = writers.map((writer, index) => writer.run(async ({ Database }, path) => {
      const db = new Database(path, { timeout: 10_000 });
      for (;;) db.exec("UPDATE t SET body = randomblob(3000) WHERE id = abs(random() % 300)");
    }, a.path([NAME, OTHER][index]!)).catch(() => undefined));
    const from = (await b.status())!.databases.map(({ txid }) => txid);
    await until("both databases to move", async () => (await b.status())!.databases.every(({ txid }, index) => txid > from[index]!));
    await Promise.all([a.killAll(), b.killAll()]);
    for (const writer of writers) await writer.kill();
    await Promise.all(writing);
    for (const writer of writers) await writer.end();
    for (const node of [a, b]) {
      const { output } = await sluice("verify", "-c", node.config, "--json");
      // Half a file at the end of the log is what a kill may leave (rows R10 and R11 of the recovery table): named, and mended by the start.
      const { findings } = JSON.parse(output) as { findings: { mends: string; file: string }[] };
      for (const { mends, file } of findings) assert.ok(mends === "note" || (mends === "start" && /\.(?:ltx|seg)$/.test(file)), `${node.name}: ${output}`);
    }
    for (const node of [a, b]) {
      node.output = "";
      node.start();
    }
    for (const node of [a, b]) await node.ready();
    for (const name of [NAME, OTHER]) {
      // A writer may roll back what was cut short; the comparison only reads.
      await program.exec(a.path(name), "INSERT INTO t(body) VALUES ('after the kill')");
      await assertSame(cluster, name);
    }
    const { code, output } = await sluice("verify", "-c", b.config);
    assert.equal(code, 0, output);
  });

  test("a database that has just begun can be repaired before the primary has said again where it stands", async () => {
    // The primary says so each second: of several in a row most come in between.
    for (let n = 0; n < 5; n++) {
      const name = `new${n}.db`;
      await program.exec(a.path(name), "PRAGMA journal_mode = wal", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)");
      await cluster.inStep(name);
      const { code, output } = await sluice("repair", "--from", "peer", "--name", name, "-c", b.config);
      assert.equal(code, 0, output);
      await assertSame(cluster, name);
    }
  });

  test("repair is refused on the primary, for a database that nobody has, and without a primary; nothing is wrong is said as such", async () => {
    const onPrimary = await sluice("repair", "--from", "peer", "--name", NAME, "-c", a.config);
    assert.equal(onPrimary.code, 1);
    assert.match(onPrimary.output, /Cannot repair "app\.db" from a peer: this node is the primary; hand the lease over first \(`sluice handoff`\), then repair/);
    const unknown = await sluice("repair", "--from", "peer", "--name", "nobody.db", "-c", b.config);
    assert.equal(unknown.code, 1);
    assert.match(unknown.output, /Cannot find database "nobody\.db"/);
    const nothing = await sluice("repair", "--from", "peer", "-c", b.config);
    assert.deepEqual(nothing, { code: 0, output: "Nothing is wrong; with --name a database is taken anew all the same.\n" });
    await a.stop();
    await until("the follower to notice", async () => (await b.status())?.connected === false);
    const alone = await sluice("repair", "--from", "peer", "--name", NAME, "-c", b.config);
    assert.equal(alone.code, 1);
    assert.match(alone.output, /Cannot repair "app\.db" from a peer: this node has no stream from the primary/);
    const still = await sluice("verify", "-c", b.config);
    assert.equal(still.code, 0, still.output);
  });
});
