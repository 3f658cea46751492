/**
 * durability sync on real nodes: a commit returns when followers have stored it, fails when they have not, and then nobody ever sees it.
 *
 * Followers are stopped with SIGSTOP, so the primary finds out by waiting, as with a machine that does not answer.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import Database from "better-sqlite3";
import { ClusterService } from "../../proto/grpc.ts";
import { createChain } from "../support/chain.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { chain } from "./support.ts";

const settings = (replicas: number, timeout: string): string => `databases: {"app.db": {durability: sync, syncReplicas: ${replicas}, syncTimeout: ${timeout}}}`;

const signal = (node: TestNode, name: NodeJS.Signals): void => void process.kill(node.pids().engine!, name);

function count(node: TestNode, where = "1"): number {
  const db = new Database(node.path("app.db"));
  try {
    return db.prepare(`SELECT count(*) FROM t WHERE ${where}`).pluck().get() as number;
  } finally {
    db.close();
  }
}

const refused = (run: () => void): string => {
  try {
    run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return "committed";
};

/** Until it is committed: a follower on a busy machine may need longer than the time-out. What was refused is nowhere, so nothing is done twice. */
const committed = (run: () => void): Promise<boolean> => until("a commit", () => {
  const code = refused(run);
  assert.match(code, /^(committed$|SQLITE_IOERR)/);
  return code === "committed";
});

for (const mode of ["wal", "delete", "truncate", "persist"] as const) {
  test(`journal_mode ${mode}: without a follower the commit fails and the row is nowhere, also after all have started again; with one it works`, { timeout: 240_000 }, async () => {
    const cluster = await TestCluster.start(["a", "b", "c"], settings(1, "700ms"));
    try {
      const [a, b, c] = cluster.nodes as [TestNode, TestNode, TestNode];
      let db = new Database(a.path("app.db"));
      await committed(() => void db.pragma(`journal_mode = ${mode}`));
      await committed(() => void db.exec("CREATE TABLE t(x, y BLOB)"));
      const put = (x: number, bytes = 100): void => void db.prepare("INSERT INTO t VALUES (?, randomblob(?))").run(x, bytes);
      for (let x = 0; x < 20; x++) await committed(() => put(x, x * 500));
      await cluster.inStep("app.db");
      for (const node of [b, c]) signal(node, "SIGSTOP");
      const code = refused(() => put(1_000, 20_000));
      assert.match(code, /^SQLITE_IOERR/);
      // The same connection goes on, others see the state before.
      assert.equal(count(a), 20);
      assert.equal(db.prepare("SELECT count(*) FROM t").pluck().get(), 20);
      assert.match(refused(() => put(1_001)), /^SQLITE_IOERR/);
      db.close();
      for (const node of [b, c]) signal(node, "SIGCONT");
      db = new Database(a.path("app.db"));
      // What waited in the streams of the followers is rewound; new commits take its TXIDs.
      for (let x = 20; x < 30; x++) await committed(() => put(x));
      await cluster.inStep("app.db");
      for (const node of cluster.nodes) assert.deepEqual([count(node), count(node, "x >= 1000")], [30, 0], node.name);
      assert.deepEqual(db.pragma("integrity_check"), [{ integrity_check: "ok" }]);
      // One that is refused right before everything dies.
      for (const node of [b, c]) signal(node, "SIGSTOP");
      assert.match(refused(() => put(1_002)), /^SQLITE_IOERR/);
      for (const node of [b, c]) signal(node, "SIGCONT");
      db.close();
      for (const node of cluster.nodes) await node.killAll();
      for (const node of cluster.nodes) node.start();
      for (const node of cluster.nodes) await node.ready();
      await cluster.inStep("app.db");
      for (const node of cluster.nodes) assert.deepEqual([count(node), count(node, "x >= 1000")], [30, 0], node.name);
      db = new Database(a.path("app.db"));
      await committed(() => put(30));
      db.close();
      await cluster.inStep("app.db");
      for (const node of cluster.nodes) assert.equal(count(node), 31, node.name);
    } finally {
      await cluster.dispose();
    }
  });
}

test("what a follower has stored and nobody has confirmed is shown by no node, and is dropped when it is refused", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b", "c"], settings(2, "4s"));
  try {
    const [a, b, c] = cluster.nodes as [TestNode, TestNode, TestNode];
    const db = new Database(a.path("app.db"));
    await committed(() => void db.pragma("journal_mode = wal"));
    await committed(() => void db.exec("CREATE TABLE t(x)"));
    await committed(() => void db.prepare("INSERT INTO t VALUES (1)").run());
    await cluster.inStep("app.db");
    db.close();
    const readers = [a, b].map((node) => new Database(node.path("app.db"), { readonly: true })).map((reader) => ({ reader, rows: reader.prepare("SELECT count(*) FROM t").pluck() }));
    assert.deepEqual(readers.map(({ rows }) => rows.get()), [1, 1]);
    signal(c, "SIGSTOP");
    const position = fs.readFileSync(b.path("app.db-pos"), "latin1");
    // In a process of its own, because it waits.
    const writing = new Promise<string>((resolve) => {
      execFile("sqlite3", [a.path("app.db"), "INSERT INTO t VALUES (2)"], (error, _out, said) => resolve(error === null ? "committed" : said));
    });
    const tail = join(b.data, "log", "app.db", "tail");
    const stored = fs.readFileSync(tail).readBigUInt64BE(16);
    await until("the proposal to be stored", () => fs.readFileSync(tail).readBigUInt64BE(16) > stored && fs.readFileSync(tail).readBigUInt64BE(40) > 0n);
    let looks = 0;
    let end: string | undefined;
    void writing.then((how) => (end = how));
    while (end === undefined) {
      // Reads go on while the commit waits, on both sides, also of who opens the database only now.
      assert.deepEqual([count(a), count(b)], [1, 1]);
      assert.deepEqual(readers.map(({ rows }) => rows.get()), [1, 1]);
      assert.equal(fs.readFileSync(b.path("app.db-pos"), "latin1"), position);
      looks++;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.match(end, /disk I\/O error/);
    assert.ok(looks > 10, `only ${looks} looks`);
    await until("the proposal to be dropped", () => fs.readFileSync(tail).readBigUInt64BE(40) === 0n);
    for (const { reader } of readers) reader.close();
    signal(c, "SIGCONT");
    const again = new Database(a.path("app.db"));
    await committed(() => void again.prepare("INSERT INTO t VALUES (3)").run());
    again.close();
    await cluster.inStep("app.db");
    for (const node of cluster.nodes) assert.deepEqual([count(node), count(node, "x = 2")], [2, 0]);
  } finally {
    await cluster.dispose();
  }
});

test("several writers, spilled transactions, checkpoints, VACUUM and changes of the journal mode: followers show committed states only, and end equal", { timeout: 420_000 }, async (t) => {
  const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 1e6));
  t.diagnostic(`replay with: make test ONLY=sync/commit SEED=${seed}`);
  const cluster = await TestCluster.start(["a", "b", "c"], settings(1, "60s"));
  try {
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    createChain(a.path("app.db"));
    const spiller = new Database(a.path("app.db"));
    spiller.pragma("journal_mode = wal");
    spiller.pragma("cache_size = 5");
    spiller.exec("CREATE TABLE spill(id INTEGER PRIMARY KEY, body BLOB)");
    // Pages are written, evicted, and written over in the WAL: SQLite makes their checksums anew at the end.
    const fill = spiller.transaction(() => {
      const insert = spiller.prepare("INSERT OR REPLACE INTO spill VALUES (?, randomblob(900))");
      for (let i = 0; i < 600; i++) insert.run(i);
      for (let i = 0; i < 600; i += 7) insert.run(i);
    });
    for (let i = 0; i < 3; i++) {
      fill();
      spiller.pragma("wal_checkpoint(TRUNCATE)");
    }
    spiller.close();
    await cluster.inStep("app.db");
    const reader = chain("read", b.path("app.db"));
    await until("the reader to have begun", () => reader.lines.includes("r"));
    const writers = [1, 2, 3].map((n) => chain("write", a.path("app.db"), String(seed + n), "120"));
    for (const writer of writers) assert.equal(await writer.done, 0);
    await cluster.inStep("app.db");
    reader.kill();
    await reader.done;
    const committed = new Set(writers.flatMap(({ lines }) => lines.filter((line) => line.startsWith("c ")).map((line) => line.slice(2))));
    const states = reader.lines.filter((line) => line.startsWith("s ")).map((line) => line.slice(2));
    assert.deepEqual(reader.lines.filter((line) => line.startsWith("f ")), []);
    assert.ok(states.length > 20, `only ${states.length} states`);
    for (const state of states) assert.ok(committed.has(state) || state.startsWith("0 "), `state ${state} was never committed`);
    const status = await a.status();
    const unheld = a.output.split("\n").filter((line) => line.includes("did not wait for followers"));
    t.diagnostic(`${committed.size} commits, ${states.length} states seen, ${unheld.length} could not be held (PERSIST with synchronous=OFF), TXID ${status?.databases[0]?.txid}`);
    const dumps = cluster.nodes.map((node) => {
      const db = new Database(node.path("app.db"));
      try {
        return [db.pragma("integrity_check"), db.prepare("SELECT n, hash FROM chain ORDER BY n").all(), db.prepare("SELECT sum(length(body)), count(*) FROM spill").get()];
      } finally {
        db.close();
      }
    });
    for (const dump of dumps) assert.deepEqual(dump, dumps[0]);
    assert.deepEqual(dumps[0]![0], [{ integrity_check: "ok" }]);
  } finally {
    await cluster.dispose();
  }
});

test("WaitReplicated answers with the followers that have a position, at once or at the time-out", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b", "c"]);
  try {
    const [a, b, c] = cluster.nodes as [TestNode, TestNode, TestNode];
    const db = new Database(a.path("app.db"));
    db.exec("CREATE TABLE t(x)");
    const client = new ClusterService(`unix:${join(a.data, "run", "engine.sock")}`, grpc.credentials.createInsecure()) as unknown as {
      getPositions(request: object, done: (error: Error | null, value: { positions: { txid: number }[] }) => void): void;
      waitReplicated(request: object, done: (error: Error | null, value: { replicas: number }) => void): void;
      close(): void;
    };
    const positions = async (): Promise<{ txid: number }[]> => new Promise((resolve, reject) => client.getPositions({ flush: true }, (error, value) => (error === null ? resolve(value.positions) : reject(error))));
    const wait = async (wanted: object[], replicas: number, timeoutMs: number): Promise<number> => new Promise((resolve, reject) => {
      client.waitReplicated({ positions: wanted, replicas, timeoutMs }, (error, value) => (error === null ? resolve(value.replicas) : reject(error)));
    });
    try {
      assert.equal(await wait(await positions(), 2, 30_000), 2);
      signal(c, "SIGSTOP");
      db.exec("INSERT INTO t VALUES (1)");
      const wanted = await positions();
      assert.equal(await wait(wanted, 1, 30_000), 1);
      assert.equal(await wait(wanted, 2, 300), 1);
      signal(b, "SIGSTOP");
      const future = wanted.map((position) => ({ ...position, txid: position.txid + 1 }));
      assert.equal(await wait(future, 1, 200), 0);
      const later = wait(future, 2, 60_000);
      db.exec("INSERT INTO t VALUES (2)");
      for (const node of [b, c]) signal(node, "SIGCONT");
      assert.equal(await later, 2);
    } finally {
      client.close();
      db.close();
    }
  } finally {
    await cluster.dispose();
  }
});

test("a commit that gives no signal to hold is reported, and the driver fuse-native is refused by name", { timeout: 240_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], settings(1, "60s"));
  try {
    const [a] = cluster.nodes as [TestNode];
    const db = new Database(a.path("app.db"));
    db.exec("CREATE TABLE t(x)");
    db.pragma("journal_mode = memory");
    db.exec("INSERT INTO t VALUES (1)");
    db.close();
    await until("the report", () => a.output.includes("did not wait for followers as durability sync asks for"));
    await cluster.inStep("app.db");
    await a.stop();
    fs.writeFileSync(a.config, fs.readFileSync(a.config, "utf8").replace("driver: auto", "driver: fuse-native"));
    const before = a.output.length;
    a.start();
    assert.notEqual((await a.exited()).code, 0);
    assert.match(a.output.slice(before), /durability: sync.*needs the driver passthrough/);
  } finally {
    await cluster.dispose();
  }
});
