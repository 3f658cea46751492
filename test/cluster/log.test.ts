/**
 * The transaction log of a busy run: every file is one that the reference tool accepts, the files continue without a hole, old ones go by age
 * and by size, and small ones are merged.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SEGMENT_BYTES_MAX } from "../../node/core/limits.ts";
import { formatHex16 } from "../../proto/position.ts";
import { assertSame, positionOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { logOf, type LoggedFile } from "../support/log-files.ts";
import { findLtxTool } from "../support/ltx-tool.ts";
import { addNode } from "../support/membership.ts";
import { Program } from "../support/programs.ts";

const TABLE = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)";
const ROWS = (count: number, size = 100): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t(body) SELECT randomblob(${size}) FROM n`;

const tool = findLtxTool();
if ("missing" in tool) console.error(`\n*** ${tool.missing}\n`);

function assertContinuous(files: readonly LoggedFile[], last: number, what: string): void {
  files.forEach((file, i) => i === 0 || assert.equal(file.min, files[i - 1]!.max + 1, `${what}: after ${files[i - 1]!.path}`));
  assert.equal(files.at(-1)?.max, last, `${what}: the newest file ends at the position`);
}

function assertVerified(tool: string, files: readonly LoggedFile[], what: string): void {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-ltx-"));
  try {
    const paths = files.map(({ min, max, data }) => {
      const path = join(folder, `${formatHex16(min)}-${formatHex16(max)}.ltx`);
      fs.writeFileSync(path, data);
      return path;
    });
    const { status, stdout, stderr } = spawnSync(tool, ["verify", ...paths], { encoding: "utf8" });
    assert.equal(status, 0, `${what}: ${stdout}${stderr}`);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

const bytesOf = (files: readonly LoggedFile[]): number => files.reduce((sum, { data }) => sum + data.length, 0);

/** Commits one by one; after every tenth the position is read, so that the log has at least a tenth as many entries. */
async function write(program: Program, path: string, commits: number, mode = "wal"): Promise<void> {
  await program.run(async ({ Database, fs }, path, commits, mode) => {
    const db = new Database(path, { timeout: 20_000 });
    db.pragma(`journal_mode = ${mode}`);
    db.exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)");
    for (let i = 0; i < commits; i++) {
      db.exec("INSERT INTO t(body) VALUES (randomblob(300)); DELETE FROM t WHERE id = (SELECT max(id) - 9 FROM t)");
      if (i % 10 === 0) fs.readFileSync(`${path}-pos`);
      else if (i % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    db.close();
  }, path, commits, mode);
}

test("every file of a busy run's log, on both nodes, is accepted by `ltx verify`, and they continue without a hole", { timeout: 200_000, skip: "missing" in tool && tool.missing }, async () => {
  assert.ok("path" in tool);
  const cluster = await TestCluster.start(["a", "b"]);
  const program = new Program();
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    const name = "busy.db";
    await write(program, a.path(name), 300);
    await program.exec(a.path(name), "PRAGMA journal_mode = delete", ROWS(100, 5000), "DELETE FROM t WHERE id % 2", "PRAGMA page_size = 1024", "VACUUM", "PRAGMA journal_mode = persist", ROWS(10));
    await write(program, a.path(name), 100, "truncate");
    await program.exec(a.path("gone.db"), TABLE);
    fs.rmSync(a.path("gone.db"));
    await program.exec(a.path("gone.db"), TABLE, ROWS(3));
    for (const database of [name, "gone.db"]) await assertSame(cluster, database);
    let files = 0;
    for (const node of [a, b]) {
      for (const database of [name, "gone.db"]) {
        const log = logOf(node, database);
        assertContinuous(log, positionOf(node, database).txid, `${node.name} ${database}`);
        assert.equal(log[0]!.min, 1);
        assertVerified(tool.path, log, `${node.name} ${database}`);
        files += log.length;
      }
    }
    assert.ok(files > 20, `only ${files} files`);
  } finally {
    await program.end();
    await cluster.dispose();
  }
});

test("retention keeps the log below its bytes, a follower that was away longer takes a snapshot, and one that was away for less does not", { timeout: 200_000 }, async (t) => {
  const cluster = await TestCluster.start(["a", "b"], "retention: {duration: 10m, bytes: 1MiB}");
  const program = new Program();
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    const name = "bytes.db";
    await program.exec(a.path(name), "PRAGMA journal_mode = wal", TABLE, ROWS(50, 1000));
    await assertSame(cluster, name);
    await b.stop();
    await program.exec(a.path(name), ROWS(1));
    b.output = "";
    b.start();
    await b.ready();
    await assertSame(cluster, name);
    assert.ok(!b.output.includes("Snapshot of"), "one transaction behind: streamed");
    await b.stop();
    const wanted = positionOf(a, name).txid + 1;
    for (let i = 0; i < 40; i++) await program.exec(a.path(name), ROWS(60, 2000), "PRAGMA wal_checkpoint(TRUNCATE)");
    await until("old transactions to go", async () => Number.parseInt((await a.status())!.databases.find((entry) => entry.name === name)!.logFrom!, 16) > wanted);
    // Maintenance goes round: what was written last may still be over the bound when the first transactions are gone.
    await until("the log to keep to its bytes", async () => (await a.status())!.databases.find((entry) => entry.name === name)!.logBytes <= (1 << 20) + logOf(a, name).at(-1)!.data.length);
    // A segment goes when nothing in it is needed any more: until then it holds what retention has given up.
    const bytes = bytesOf(logOf(a, name));
    const newest = logOf(a, name).at(-1)!;
    assert.ok(bytes <= (1 << 20) + SEGMENT_BYTES_MAX + newest.data.length, `${bytes} bytes of log`);
    assertContinuous(logOf(a, name), positionOf(a, name).txid, "after retention");
    const status = (await a.status())!.databases.find((entry) => entry.name === name)!;
    const from = Number.parseInt(status.logFrom!, 16);
    assert.ok(from > wanted, "what the follower needs is gone");
    const counted = logOf(a, name).filter(({ min }) => min >= from);
    assert.equal(counted[0]!.min, from);
    assert.equal(status.logBytes, bytesOf(counted), "/status counts what is there");
    assert.ok(status.logBytes <= (1 << 20) + newest.data.length);
    b.output = "";
    b.start();
    await b.ready();
    await assertSame(cluster, name);
    assert.match(b.output, /the log does not reach back that far/);
    assert.match(b.output, /Snapshot of \\"bytes.db\\" installed/);
    t.diagnostic(`${bytes} bytes of log kept`);
  } finally {
    await program.end();
    await cluster.dispose();
  }
});

test("retention removes what is older than its duration, but never the newest file", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a"], "retention: {duration: 1s, bytes: 256MiB}");
  const program = new Program();
  try {
    const [a] = cluster.nodes as [TestNode];
    await write(program, a.path("age.db"), 30);
    const before = logOf(a, "age.db").length;
    assert.ok(before > 1);
    await until("all but the newest file to go", () => logOf(a, "age.db").length === 1, 60_000);
    assertContinuous(logOf(a, "age.db"), positionOf(a, "age.db").txid, "after retention");
    // A follower that comes now has nothing to stream from.
    const late = await addNode(cluster, "late");
    late.start();
    await late.ready();
    await assertSame(cluster, "age.db");
  } finally {
    await program.end();
    await cluster.dispose();
  }
});

test("small files are merged into few, which hold the same history: a new follower is equal, and the log needs a part of the WAL's bytes", { timeout: 200_000 }, async (t) => {
  const cluster = await TestCluster.start(["a"]);
  const program = new Program();
  try {
    const [a] = cluster.nodes as [TestNode];
    const name = "merge.db";
    // Reading a position captures what is committed, so each round makes a file, however seldom a busy database is looked at. Each is noted
    // after its round: on a slow machine the first ones are merged before the last ones are written.
    const small: LoggedFile[] = [];
    let txid = 0;
    for (let round = 0; round < 120; round++) {
      await write(program, a.path(name), 10);
      const position = positionOf(a, name);
      small.push(...logOf(a, name).filter(({ min }) => min > txid));
      txid = position.txid;
    }
    assert.ok(small.length > 100, `only ${small.length} files`);
    await until("the log to have few files", () => logOf(a, name).length < small.length / 2, 60_000);
    const files = logOf(a, name);
    assertContinuous(files, txid, "after merging");
    assert.equal(files[0]!.min, 1);
    assert.ok(files.some(({ min, max }) => max - min >= 60), "a merged file holds many transactions");
    if ("path" in tool) assertVerified(tool.path, files, "after merging");
    const bytes = bytesOf(files);
    assert.ok(bytes < bytesOf(small), "merging saves bytes");
    t.diagnostic(`${small.length} files became ${files.length}, ${bytes} bytes, ${(bytes / 1200).toFixed(0)} a commit`);
    const late = await addNode(cluster, "late");
    late.start();
    await late.ready();
    await assertSame(cluster, name);
    assert.ok(!late.output.includes("Snapshot of"), "the merged log was streamed");
    assertContinuous(logOf(late, name), txid, "on the follower");
  } finally {
    await program.end();
    await cluster.dispose();
  }
});
