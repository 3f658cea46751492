/**
 * An old primary meets another one that went on without it: what only the old one has is kept in `diverged/`, and it follows.
 *
 * The primaries are changed in the configurations between starts, so that every step is the test's own.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import Database from "better-sqlite3";
import type { DivergedEntry, ListedEntry } from "../../node/store/diverged.ts";
import { assertSame, integrity, positionOf } from "../support/compare.ts";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";
import { findLtxTool } from "../support/ltx-tool.ts";
import { Program, bytesOf, shell } from "../support/programs.ts";

const rows = (path: string, table = "t"): string => shell(path, `SELECT group_concat(body, ' ') FROM (SELECT body FROM ${table} ORDER BY id)`);
const insert = (path: string, ...bodies: string[]): void => {
  const db = new Database(path, { timeout: 20_000 });
  for (const body of bodies) db.prepare("INSERT INTO t(body) VALUES (?)").run(body);
  db.close();
};
const list = async (node: TestNode, ...args: string[]): Promise<ListedEntry[]> => {
  const { code, output } = await sluice("diverged", "list", "--json", "-c", node.config, ...args);
  assert.equal(code, 0, output);
  return (JSON.parse(output) as { entries: ListedEntry[] }).entries;
};
const metric = async (node: TestNode, name: string): Promise<string[]> => (await (await fetch(`http://127.0.0.1:${node.ports.admin}/metrics`, { headers: { connection: "close" } })).text()).split("\n").filter((line) => line.startsWith(name));

describe("an old primary that comes back", { timeout: 400_000 }, () => {
  let cluster: TestCluster;
  let a: TestNode;
  let b: TestNode;
  let open: Program[] = [];

  beforeEach(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    [a, b] = cluster.nodes as [TestNode, TestNode];
  });
  afterEach(async () => {
    for (const program of open) await program.kill();
    open = [];
    await cluster.dispose();
  });

  /** b is the primary from now on, a is to follow it. */
  async function promote(): Promise<void> {
    for (const node of [a, b]) node.follow(b);
    b.start();
    await b.ready();
  }

  async function rejoin(name: string): Promise<void> {
    a.start();
    await a.ready();
    cluster.nodes.reverse();
    await assertSame(cluster, name);
  }

  for (const mode of ["wal", "delete"]) {
    test(`with journal_mode=${mode}: what nobody else has is in diverged/, the nodes are equal, and an operator gets the rows back`, async () => {
      const path = a.path("app.db");
      const setup = new Database(path);
      setup.pragma(`journal_mode = ${mode}`);
      setup.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)");
      setup.close();
      insert(path, ..."1 2 3 4 5 6 7 8 9".split(" "));
      await assertSame(cluster, "app.db");
      const shared = positionOf(a, "app.db");
      await b.stop();
      insert(path, "l1", "l2", "l3", "l4", "l5");
      const lost = positionOf(a, "app.db");
      await a.killAll();
      await promote();
      insert(b.path("app.db"), "n1", "n2", "n3");
      assert.deepEqual({ ...positionOf(b, "app.db"), checksum: 0n }, { epoch: 2, txid: shared.txid + 3, checksum: 0n }, "b begins an epoch of its own and goes on with the TXIDs");
      await rejoin("app.db");

      assert.equal(rows(a.path("app.db")), "1 2 3 4 5 6 7 8 9 n1 n2 n3");
      assert.match(a.output, /went back to transaction/, "by the pages that differ, not by a whole snapshot");
      const [entry, ...more] = await list(a);
      assert.deepEqual(more, []);
      assert.deepEqual(
        { ...entry!, id: "", time: "", files: [], position: {}, node: entry!.node.name, primary: { ...entry!.primary, id: "" }, notes: [], reason: "", pageCount: 0, pageSize: 0 },
        { version: 1, id: "", database: "app.db", node: "a", epoch: 1, firstTxid: shared.txid + 1, lastTxid: lost.txid, transactions: lost.txid - shared.txid, position: {}, pageSize: 0, pageCount: 0, ancestor: { epoch: 1, txid: shared.txid }, time: "", reason: "", primary: { name: "b", id: "", epoch: 2 }, files: [], complete: true, hasState: true, notes: [], seen: false },
      );
      const folder = join(a.data, "diverged", entry!.id);
      assert.deepEqual(fs.readdirSync(folder).sort(), ["entry.json", "state.db", ...entry!.files.map(({ name }) => name)].sort());
      const tool = findLtxTool();
      if ("missing" in tool) console.log(tool.missing);
      else for (const { name } of entry!.files) assert.equal(spawnSync(tool.path, ["verify", join(folder, name)], { encoding: "utf8" }).status, 0, name);

      assert.deepEqual((await a.status())!.diverged, { entries: 1, transactions: lost.txid - shared.txid, unseen: 1 });
      assert.match((await sluice("status", "-c", a.config)).output, /Lost in a failover and kept \(1 of 1 not looked at\)/);
      assert.deepEqual(await metric(a, "sluice_diverged_transactions"), [`sluice_diverged_transactions ${lost.txid - shared.txid}`]);
      assert.ok((await metric(a, "sluice_diverged_entries")).includes('sluice_diverged_entries{seen="false"} 1'));
      assert.deepEqual((await b.status())!.diverged, { entries: 0, transactions: 0, unseen: 0 });

      const shown = await sluice("diverged", "show", entry!.id, "-c", a.config);
      assert.equal(shown.code, 0, shown.output);
      assert.match(shown.output, new RegExp(`TXID ${shared.txid + 1} to ${lost.txid} of epoch 1`));
      assert.doesNotMatch((await sluice("status", "-c", a.config)).output, /Lost in a failover/, "somebody has looked");

      const target = join(cluster.folder, "back.db");
      const exported = await sluice("diverged", "export", entry!.id, target, "-c", a.config);
      assert.equal(exported.code, 0, exported.output);
      assert.equal(rows(target), "1 2 3 4 5 6 7 8 9 l1 l2 l3 l4 l5");
      assert.equal(integrity(target), "ok");
      assert.equal((await sluice("diverged", "export", entry!.id, target, "-c", a.config)).code, 1, "nothing is overwritten");

      // It goes on, also after another start, without diverging again.
      await a.killAll();
      assert.deepEqual((await list(a)).map(({ id }) => id), [entry!.id], "also while the node does not run");
      const offline = join(cluster.folder, "offline.db");
      assert.equal((await sluice("diverged", "export", entry!.id, offline, "-c", a.config)).code, 0);
      assert.ok(fs.readFileSync(offline).equals(fs.readFileSync(target)));
      assert.equal((await sluice("diverged", "drop", entry!.id, "-c", a.config)).code, 1, "dropped only by the node");
      insert(b.path("app.db"), "n4");
      a.start();
      await a.ready();
      await assertSame(cluster, "app.db");
      assert.equal((await list(a)).length, 1);

      // And back: what a has now is b's history, so nothing is lost when a becomes the primary again.
      await assertSame(cluster, "app.db");
      await b.stop();
      await a.stop();
      for (const node of [a, b]) node.follow(a);
      a.start();
      await a.ready();
      insert(a.path("app.db"), "m1");
      assert.equal(positionOf(a, "app.db").epoch, 3);
      b.start();
      await b.ready();
      cluster.nodes.reverse();
      await assertSame(cluster, "app.db");
      assert.deepEqual(await list(b), []);
      assert.equal(rows(b.path("app.db")), "1 2 3 4 5 6 7 8 9 n1 n2 n3 n4 m1");

      assert.equal((await sluice("diverged", "drop", "app.db/nothing", "-c", a.config)).code, 1);
      assert.equal((await sluice("diverged", "drop", entry!.id, "-c", a.config)).code, 0);
      assert.deepEqual(await list(a), []);
      assert.equal(fs.existsSync(folder), false);
    });
  }

  test("commits that no engine had captured are kept too, and a transaction that was never committed is not", async () => {
    const files = { wal: a.path("wal.db"), journal: a.path("journal.db") };
    for (const [mode, path] of Object.entries(files)) {
      const db = new Database(path);
      db.pragma(`journal_mode = ${mode === "wal" ? "wal" : "delete"}`);
      db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); CREATE TABLE pad(id INTEGER PRIMARY KEY, x); INSERT INTO pad(x) SELECT randomblob(1000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800) SELECT i FROM n)");
      db.close();
      insert(path, "1", "2");
    }
    for (const name of ["wal.db", "journal.db"]) await assertSame(cluster, name);
    await b.stop();
    const program = new Program();
    open.push(program);
    await program.run(({ Database, kept }, wal, journal) => {
      // Opened and read, so that nothing that follows is a question to the engine.
      kept["wal"] = new Database(wal);
      kept["wal"].pragma("wal_autocheckpoint = 0");
      kept["wal"].exec("INSERT INTO t(body) VALUES ('seen')");
      kept["journal"] = new Database(journal);
      kept["journal"].pragma("cache_spill = 1");
      kept["journal"].pragma("cache_size = 1");
      // Pages of it are in the database file, and its journal stands beside it.
      kept["journal"].exec("BEGIN IMMEDIATE; UPDATE pad SET x = randomblob(1000); INSERT INTO t(body) VALUES ('half'); INSERT INTO pad(x) SELECT x FROM pad");
    }, files.wal, files.journal);
    assert.ok(fs.statSync(a.path("journal.db-journal")).size > 100_000);
    await until("the first to be captured", async () => (await a.status())?.databases.find(({ name }) => name === "wal.db")?.txid === positionOf(a, "wal.db").txid.toString(16).padStart(16, "0"));
    process.kill(a.pids().engine!, "SIGSTOP");
    await program.run(({ kept }) => void kept["wal"]!.exec("INSERT INTO t(body) VALUES ('uncaptured 1'); INSERT INTO t(body) VALUES ('uncaptured 2')"));
    await a.killAll();
    await program.kill();
    await promote();
    for (const name of ["wal.db", "journal.db"]) insert(b.path(name), "new");
    await rejoin("wal.db");
    await assertSame(cluster, "journal.db");
    assert.equal(rows(a.path("journal.db")), "1 2 new");
    const entries = await list(a);
    assert.deepEqual(entries.map(({ database }) => database), ["wal.db"], "what was rolled back was no transaction");
    const target = join(cluster.folder, "back.db");
    assert.equal((await sluice("diverged", "export", entries[0]!.id, target, "-c", a.config)).code, 0);
    assert.equal(rows(target), "1 2 seen uncaptured 1 uncaptured 2");
  });

  test("a reader on it sees the old state or the new one and is never blocked; a database that nobody else has leaves; one that was imported is kept whole", async () => {
    const path = a.path("app.db");
    const setup = new Database(path);
    setup.pragma("journal_mode = wal");
    setup.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); CREATE TABLE pad(x); INSERT INTO pad SELECT randomblob(3000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT i FROM n)");
    setup.close();
    insert(path, "1");
    await assertSame(cluster, "app.db");
    await b.stop();
    insert(path, "lost 1", "lost 2");
    const only = new Database(a.path("only.db"));
    only.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); INSERT INTO t(body) VALUES ('only here')");
    only.close();
    const source = join(cluster.folder, "source.db");
    const big = new Database(source);
    big.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); INSERT INTO t(body) SELECT randomblob(1000000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80) SELECT i FROM n)");
    big.close();
    const imported = await sluice("import", "--name", "app2.db", source, "-c", a.config);
    assert.equal(imported.code, 0, imported.output);
    await a.killAll();
    await promote();
    insert(b.path("app.db"), "new 1");
    const two = new Database(b.path("app2.db"));
    two.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); INSERT INTO t(body) VALUES ('of b')");
    two.close();
    a.start();
    await until("the mount to serve", () => fs.existsSync(path));
    const reader = new Program();
    open.push(reader);
    const states = reader.run(async ({ Database }, path) => {
      const seen = new Set<string>();
      const db = new Database(path, { readonly: true, timeout: 0 });
      for (let n = 0; n < 2_000 && !seen.has("1 new 1"); n++) {
        seen.add((db.prepare("SELECT group_concat(body, ' ') AS all_rows FROM (SELECT body FROM t ORDER BY id)").get() as { all_rows: string }).all_rows);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      db.close();
      return [...seen];
    }, path);
    await a.ready();
    cluster.nodes.reverse();
    for (const name of ["app.db", "app2.db"]) await assertSame(cluster, name);
    for (const state of await states) assert.ok(["1 lost 1 lost 2", "1 new 1"].includes(state), state);
    await until("the database that b never had to be gone", async () => !fs.existsSync(a.path("only.db")) && !(await a.status())!.databases.some(({ name }) => name === "only.db"));

    const entries = new Map((await list(a)).map((entry): [string, DivergedEntry] => [entry.database, entry]));
    assert.deepEqual([...entries.keys()].sort(), ["app.db", "app2.db", "only.db"]);
    const whole = entries.get("app2.db")!;
    assert.deepEqual([whole.complete, whole.hasState, whole.files.length], [false, true, 0]);
    assert.match(whole.notes.join(), /not every transaction is in the log/);
    assert.ok(whole.pageCount * whole.pageSize > 64 << 20, "larger than what is copied for certain");
    for (const [name, expected] of [["only.db", "only here"], ["app.db", "1 lost 1 lost 2"]] as const) {
      const target = join(cluster.folder, `back-${name}`);
      assert.equal((await sluice("diverged", "export", entries.get(name)!.id, target, "-c", a.config)).code, 0);
      assert.equal(rows(target), expected);
    }
    const target = join(cluster.folder, "back-app2.db");
    assert.equal((await sluice("diverged", "export", whole.id, target, "-c", a.config)).code, 0);
    assert.ok(bytesOf(target).equals(bytesOf(source)));
    assert.deepEqual((await list(a, "--seen")).map(({ seen }) => seen), [true, true, true]);
    assert.equal((await a.status())!.diverged.unseen, 0);
  });

  test("a primary of an older epoch is refused by name, and nothing of it is applied", async () => {
    const db = new Database(a.path("app.db"));
    db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)");
    db.close();
    insert(a.path("app.db"), "1");
    await assertSame(cluster, "app.db");
    await b.stop();
    // b becomes a primary of its own, while a goes on: two at once, as only a broken configuration makes them.
    b.follow(b);
    b.start();
    await b.ready();
    insert(b.path("app.db"), "of b");
    const mine = positionOf(b, "app.db");
    assert.equal(mine.epoch, 2);
    insert(a.path("app.db"), "of a 1", "of a 2", "of a 3");
    await b.stop();
    b.follow(a);
    b.start();
    await until("b to refuse a", () => /Cannot follow a: it is in epoch 1, and this node has seen epoch 2/.test(b.output));
    insert(a.path("app.db"), "of a 4");
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.deepEqual(positionOf(b, "app.db"), mine);
    assert.equal(rows(b.path("app.db")), "1 of b");
    assert.equal((await b.status())!.connected, false);
    assert.deepEqual(await list(b), []);
    // Once a has seen the newer epoch's history there is one primary again, and what a had alone is kept.
    await a.stop();
    await b.stop();
    await promote();
    await rejoin("app.db");
    assert.equal(rows(a.path("app.db")), "1 of b");
    assert.deepEqual((await list(a)).map(({ epoch, transactions }) => [epoch, transactions]), [[1, 4]]);
  });
});
