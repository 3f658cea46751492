/**
 * The link of a follower's stream on real nodes: commits that wait go on whether it can be opened or not, and over its end.
 *
 * The writer is a process of its own: a commit that waits blocks who makes it, and the relay runs here.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { Relay } from "../support/relay.ts";

const WRITER = `
  const db = require("better-sqlite3")(process.argv[1], { timeout: 60000 });
  db.pragma("journal_mode = wal");
  db.exec("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, body BLOB)");
  const insert = db.prepare("INSERT INTO t(body) VALUES (randomblob(?))");
  for (let n = 0; ; n++) { insert.run(n % 50 === 0 ? 400000 : 100); require("node:fs").writeSync(1, "."); }`;

/** A node that commits all the time. */
function write(node: TestNode): { count(): number; end(): Promise<void> } {
  const child = spawn(process.execPath, ["-e", WRITER, node.path("app.db")], { stdio: ["ignore", "pipe", "inherit"], cwd: new URL("../..", import.meta.url).pathname });
  let count = 0;
  child.stdout.on("data", (data: Buffer) => (count += data.length));
  const gone = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  return {
    count: () => count,
    end: () => {
      child.kill("SIGKILL");
      return gone;
    },
  };
}

function rows(node: TestNode): number {
  const db = new Database(node.path("app.db"), { readonly: true });
  try {
    return db.prepare("SELECT count(*) FROM t").pluck().get() as number;
  } finally {
    db.close();
  }
}

test("commits wait for a follower over the link, without one where it cannot be opened or breaks at once, and over its end", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.make(["a", "b"], 'databases: {"app.db": {durability: sync, syncReplicas: 1, syncTimeout: 120s}}');
  const [a, b] = cluster.nodes as [TestNode, TestNode];
  const relay = await Relay.start(a.ports.listen);
  let writer: ReturnType<typeof write> | undefined;
  const more = async (what: string, commits = 120): Promise<void> => {
    const had = writer!.count();
    await until(`${commits} commits ${what}`, () => writer!.count() >= had + commits);
  };
  try {
    b.follow({ ports: { listen: relay.port } } as TestNode);
    relay.onPlain = "drop";
    a.start();
    b.start();
    await a.ready();
    await b.ready();
    writer = write(a);
    await more("without a link");
    assert.ok(relay.plain > 0, "it was tried");
    relay.onPlain = "break";
    for (let round = 0; round < 2; round++) {
      relay.cut();
      await more("with a link that breaks before it has brought anything");
    }
    relay.onPlain = "pass";
    const [tried, called] = [relay.plain, relay.bytes];
    // The first stream after a link that broke at once does without.
    for (let round = 0; round < 4 && relay.plain === tried; round++) {
      relay.cut();
      await more("after a cut");
    }
    assert.ok(relay.plain > tried && relay.bytes > called);
    for (let round = 0; round < 5; round++) {
      relay.cutPlain();
      await more("after the end of a link", 40);
    }
    relay.cut();
    await more("after the end of everything", 40);
    await writer.end();
    await cluster.inStep("app.db");
    assert.ok(rows(a) >= writer.count());
    assert.equal(rows(b), rows(a));
  } finally {
    await writer?.end();
    await cluster.dispose();
    await relay.close();
  }
});
