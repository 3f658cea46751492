/**
 * Programs that open their database just while its node ceases to be the primary: none is told that it cannot be opened, whether its WAL was there or not.
 *
 * They are processes that open, read and close without a pause, so the `-wal` comes and goes with them. This does not judge another, rare error: a program may
 * find the wal-index replaced that it has just opened (SQLITE_IOERR_SHMSIZE, SQLITE_PROTOCOL), whose cause is not known yet; such a one is begun anew here.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";

const READER = `
  const Database = require("better-sqlite3");
  let done = 0;
  process.on("SIGTERM", () => { console.log(done); process.exit(0); });
  const turn = () => {
    const db = new Database(process.argv[1], { timeout: 60000, fileMustExist: true });
    if (db.prepare("SELECT count(*) FROM t").pluck().get() !== 5) throw new Error("rows are missing");
    db.close();
    if (++done === 1) console.log("reads");
    setImmediate(turn);
  };
  turn();`;

interface Reader { readonly node: TestNode; readonly name: string; readonly errors: () => string; begun(): boolean; end(): Promise<number> }

function read(node: TestNode, name: string): Reader {
  const child = spawn(process.execPath, ["-e", READER, node.path(name)], { stdio: ["ignore", "pipe", "pipe"], cwd: new URL("../..", import.meta.url).pathname });
  let [out, errors] = ["", ""];
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const gone = new Promise<void>((resolve) => child.on("close", () => resolve()));
  return {
    node, name, errors: () => errors, begun: () => out.startsWith("reads"),
    end: async () => {
      child.kill("SIGTERM");
      await gone;
      return Number(out.trim().split("\n").at(-1));
    },
  };
}

test("a program that opens its database while the node ceases to be the primary is not told that it cannot, in WAL mode and without, over many handoffs", { timeout: 300_000 }, async () => {
  const cluster = await TestCluster.start(["a", "b"], "lease: {type: local, ttl: 60s, local: {path: $FOLDER/lease.db}}");
  const readers: Reader[] = [];
  try {
    const { nodes } = cluster;
    const primary = (): Promise<TestNode> => until("a primary with a follower", async () => {
      for (const node of nodes) {
        const status = await node.status();
        if (status?.roleState === "primary" && status.followers.length === 1) return node;
      }
      return undefined;
    });
    const names = ["wal.db", "other.db", "delete.db"];
    for (const name of names) {
      const db = new Database((await primary()).path(name));
      db.pragma(`journal_mode = ${name.startsWith("delete") ? "delete" : "wal"}`);
      db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2), (3), (4), (5)");
      db.close();
      await cluster.inStep(name);
    }
    for (const node of nodes) for (const name of names) readers.push(read(node, name));
    await until("all to read", () => readers.every((reader) => reader.begun() || reader.errors() !== ""));
    for (let round = 0; round < 16; round++) {
      const { code, output } = await sluice("handoff", "-c", (await primary()).config);
      assert.equal(code, 0, output);
      for (const [i, reader] of readers.entries()) {
        const errors = reader.errors();
        if (errors === "") continue;
        assert.match(errors, /SQLITE_IOERR_SHMSIZE|SQLITE_PROTOCOL/, `round ${round}`);
        readers[i] = read(reader.node, reader.name);
      }
    }
    const counts = await Promise.all(readers.splice(0).map((reader) => reader.end()));
    assert.ok(counts.reduce((sum, count) => sum + count, 0) > 100, counts.join());
  } finally {
    for (const reader of readers) await reader.end();
    await cluster.dispose();
  }
});
