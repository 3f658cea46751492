/**
 * Files that were damaged while a node was down, peers that do not belong here, a disk that is full: named, kept aside, healed, survived.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { CHANNEL_OPTIONS, PROTOCOL_VERSION, ReplicationService } from "../../proto/grpc.ts";
import { assertSame, integrity, positionOf, txidOf } from "../support/compare.ts";
import { TestCluster, until, type TestNode } from "../support/cluster.ts";
import { logFolder, logOf, type LoggedFile } from "../support/log-files.ts";
import { addNode, removeNode } from "../support/membership.ts";
import { Program } from "../support/programs.ts";

const TABLE = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)";
const ROWS = (count: number, size = 100): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t(body) SELECT randomblob(${size}) FROM n`;

/** Overwrites bytes of a file, from the end when `at` is negative. */
function alter(path: string, at: number, text = "ALTERED!"): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, Buffer.from(text), 0, text.length, at < 0 ? fs.fstatSync(fd).size + at : at);
  fs.closeSync(fd);
}

const asideFiles = (node: TestNode): string[] => (fs.existsSync(join(node.data, "aside")) ? fs.readdirSync(join(node.data, "aside")) : []);

describe("bad input", { timeout: 400_000 }, () => {
  let cluster: TestCluster;
  let a: TestNode;
  let b: TestNode;
  let program: Program;

  before(async () => {
    cluster = await TestCluster.start(["a", "b"]);
    [a, b] = cluster.nodes as [TestNode, TestNode];
    program = new Program();
  });

  // A node that a fact has broken must not break the next one.
  beforeEach(async () => {
    for (const node of cluster.nodes.slice(2)) await removeNode(cluster, node);
    for (const node of [a, b]) {
      if (node.process!.exitCode === null && node.process!.signalCode === null) continue;
      fs.rmSync(join(node.data, "log"), { recursive: true, force: true });
      node.start();
      await node.ready();
    }
  });

  after(async () => {
    await program.end();
    await cluster.dispose();
  });

  /**
   * A database with some history, its last commits still in the WAL where a program holds it open; then both nodes are killed at once, so that
   * nothing is in order, and `damage` is done.
   */
  async function damaged(name: string, victim: () => TestNode, damage: (node: TestNode) => void): Promise<{ txid: number }> {
    const writer = new Program();
    await program.exec(a.path(name), "PRAGMA journal_mode = wal", TABLE, ROWS(100, 1000));
    await writer.run(async ({ Database, kept }, path) => {
      const db = (kept["db"] = new Database(path));
      for (let i = 0; i < 20; i++) {
        db.exec("INSERT INTO t(body) VALUES (randomblob(2000)); UPDATE t SET body = randomblob(900) WHERE id % 10 = 3");
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }, a.path(name));
    await assertSame(cluster, name);
    const { txid } = positionOf(a, name);
    await victim().killAll();
    await writer.kill();
    await writer.end();
    damage(victim());
    victim().output = "";
    victim().start();
    await victim().ready();
    return { txid };
  }

  /** Everything goes on: a commit, equal content, sound structure. */
  async function goesOn(name: string): Promise<void> {
    await program.exec(a.path(name), ROWS(2));
    await assertSame(cluster, name);
    assert.equal(integrity(a.path(name)), "ok");
  }

  for (const [who, victim] of [["primary", () => a], ["follower", () => b]] as const) {
    for (const [what, damage] of [
      ["truncated", ({ path }: LoggedFile) => fs.truncateSync(path, fs.statSync(path).size - 7)],
      ["altered", ({ path, at }: LoggedFile) => alter(path, at + 120)],
      ["altered in its header", ({ path, at }: LoggedFile) => alter(path, at + 2)],
      ["empty", ({ path }: LoggedFile) => fs.truncateSync(path, 0)],
    ] as const) {
      test(`the newest transaction in the log of the ${who}, ${what}, is not believed; the node serves and both are equal`, async () => {
        const name = `ltx-${who}-${what.replaceAll(" ", "-")}.db`;
        const before = asideFiles(victim()).length;
        await damaged(name, victim, (node) => damage(logOf(node, name).at(-1)!));
        // A transaction that is cut off looks as one that a crash cut off; all else is kept.
        if (what === "altered") assert.ok(asideFiles(victim()).length > before, "it is kept aside");
        if (what === "altered") assert.match(victim().output, /Set aside/);
        await goesOn(name);
      });
    }

    test(`a transaction in the middle of the ${who}'s log, altered, does not reach a follower as something else`, async () => {
      const name = `middle-${who}.db`;
      await damaged(name, victim, (node) => {
        const log = logOf(node, name);
        assert.ok(log.length >= 3, `${log.length} transactions in the log`);
        const { path, at } = log[Math.floor(log.length / 2)]!;
        alter(path, at + 130);
      });
      await goesOn(name);
      // A new follower would be sent exactly this one.
      const late = await addNode(cluster, `late-${who}`);
      late.start();
      await late.ready();
      await goesOn(name);
      await removeNode(cluster, late);
    });

    for (const [what, damage] of [
      ["altered in its entries", (path: string) => alter(path, 64 + 80)],
      ["altered in its header", (path: string) => alter(path, 20)],
      ["truncated", (path: string) => fs.truncateSync(path, 100)],
      ["missing", (path: string) => fs.rmSync(path)],
    ] as const) {
      test(`the sidecar of page checksums of the ${who}, ${what}, is noticed; the database is read instead and both are equal`, async () => {
        const name = `sidecar-${who}-${what.replaceAll(" ", "-")}.db`;
        const { txid } = await damaged(name, victim, (node) => damage(join(logFolder(node, name), "checksums")));
        await until("the database to be read", async () => (await victim().status())!.databases.find((entry) => entry.name === name)?.state === "ok");
        assert.ok(txidOf(a, name) >= txid);
        await goesOn(name);
      });
    }

    for (const [what, text] of [["no JSON", "{broken"], ["other JSON", "[1, 2]"], ["of wrong types", '{"base": {"epoch": "x"}, "epochs": 7}']] as const) {
      test(`state.json of the ${who}, ${what}, stops nothing: the node serves and both are equal`, async () => {
        const name = `state-${who}-${what.replaceAll(" ", "-")}.db`;
        await damaged(name, victim, (node) => fs.writeFileSync(join(logFolder(node, name), "state.json"), text));
        await goesOn(name);
      });
    }

    for (const [what, damage] of [
      ["altered near its end", (path: string) => alter(path, -3_000)],
      ["altered in its header", (path: string) => alter(path, 16)],
      ["truncated", (path: string) => fs.truncateSync(path, Math.floor(fs.statSync(path).size * 0.8))],
    ] as const) {
      test(`the -wal of the ${who}, ${what}, is noticed at the start; both are equal before and after the next commit`, async () => {
        const name = `wal-${who}-${what.replaceAll(" ", "-")}.db`;
        await damaged(name, victim, (node) => damage(join(node.data, "files", `${name}-wal`)));
        await assertSame(cluster, name);
        await goesOn(name);
      });
    }
  }

  test("a follower of another cluster and one of another protocol version are refused by name, and the node goes on", async () => {
    const stranger = await addNode(cluster, "stranger");
    fs.mkdirSync(stranger.data, { recursive: true, mode: 0o700 });
    fs.writeFileSync(join(stranger.data, "cluster-id"), "0123456789abcdef\n");
    stranger.start();
    await until("the refusal to be named", () => /belongs to cluster [0-9a-f]{16}, this node to cluster 0123456789abcdef/.test(stranger.output));
    assert.equal((await stranger.status())!.ready, false);
    await removeNode(cluster, stranger);

    const client = new ReplicationService(`127.0.0.1:${a.ports.listen}`, grpc.credentials.createInsecure(), CHANNEL_OPTIONS) as unknown as grpc.Client & { follow(): grpc.ClientDuplexStream<object, object> };
    try {
      const refused = (messages: object[]): Promise<grpc.ServiceError> => new Promise((resolve, reject) => {
        const stream = client.follow();
        stream.on("error", resolve);
        stream.on("data", () => undefined);
        stream.on("end", () => reject(new Error("was not refused")));
        for (const message of messages) stream.write(message);
      });
      const version = await refused([{ hello: { version: PROTOCOL_VERSION + 1, clusterId: "", nodeId: "x", node: { name: "newer" }, positions: [] } }]);
      assert.equal(version.metadata.get("sluice-code")[0], "FOREIGN_VERSION");
      assert.match(version.details, new RegExp(`newer: it speaks protocol version ${PROTOCOL_VERSION + 1}, this node ${PROTOCOL_VERSION}`));
      const noHello = await refused([{ ack: { database: "x", epoch: 1, txid: 1, checksum: Buffer.alloc(8) } }]);
      assert.equal(noHello.metadata.get("sluice-code")[0], "INVALID_MESSAGE");
    } finally {
      client.close();
    }
    await program.exec(a.path("after.db"), TABLE, ROWS(3));
    await assertSame(cluster, "after.db");
  });
});

/** A small ext4 in a file, mounted at `folder`; or why that is not possible here. */
function mountSmallDisk(image: string, folder: string, mib: number): string | undefined {
  execFileSync("truncate", ["-s", `${mib}M`, image]);
  fs.mkdirSync(folder, { recursive: true });
  const made = spawnSync("mkfs.ext4", ["-q", "-F", "-m", "0", image], { encoding: "utf8" });
  if (made.error !== undefined || made.status !== 0) return `mkfs.ext4: ${made.error?.message ?? made.stderr}`;
  const mounted = spawnSync("mount", ["-o", "loop", image, folder], { encoding: "utf8" });
  return mounted.status === 0 ? undefined : `mount -o loop: ${mounted.stderr.trim()}`;
}

for (const victim of ["a", "b"] as const) {
  test(`a full disk on the ${victim === "a" ? "primary is SQLITE_FULL for the application; with space again it goes on" : "follower stops nobody; with space again it catches up"}, and both are equal`, { timeout: 240_000 }, async (t) => {
    const cluster = await TestCluster.make(["a", "b"]);
    const [a, b] = cluster.nodes as [TestNode, TestNode];
    const node = victim === "a" ? a : b;
    const program = new Program();
    let mounted = false;
    try {
      const problem = mountSmallDisk(join(cluster.folder, "disk.img"), node.data, 40);
      if (problem !== undefined) {
        console.error(`\n*** SKIPPED: no small disk can be mounted here (${problem}), so a full disk was NOT checked\n`);
        return t.skip(problem);
      }
      mounted = true;
      fs.chmodSync(node.data, 0o700);
      fs.rmSync(join(node.data, "lost+found"), { recursive: true });
      for (const one of cluster.nodes) one.start();
      for (const one of cluster.nodes) await one.ready();
      const name = "full.db";
      await program.exec(a.path(name), "PRAGMA journal_mode = wal", TABLE, ROWS(20));
      await assertSame(cluster, name);
      const ballast = join(node.data, "ballast");
      fs.writeFileSync(ballast, Buffer.alloc(20 << 20));
      const outcome = await program.run(({ Database }, path) => {
        const db = new Database(path, { timeout: 20_000 });
        try {
          for (let i = 0; i < 400; i++) db.exec("INSERT INTO t(body) VALUES (randomblob(50000))");
          return "none";
        } catch (error) {
          return (error as { code: string }).code;
        } finally {
          db.close();
        }
      }, a.path(name)).catch((error: Error) => error.message);
      if (victim === "a") assert.match(outcome, /^SQLITE_(FULL|IOERR)/);
      else assert.equal(outcome, "none", "the primary does not care");
      if (victim === "b") await until("the follower to say so", () => /no space left|ENOSPC/.test(b.output));
      for (const one of cluster.nodes) assert.equal(one.process!.exitCode, null, one.output);
      fs.rmSync(ballast);
      if (victim === "b") await program.exec(a.path(name), "DELETE FROM t WHERE id > 30", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)");
      await until("a write to succeed again", async () => {
        try {
          await program.exec(a.path(name), ROWS(1));
          return true;
        } catch {
          return false;
        }
      });
      await assertSame(cluster, name);
      assert.equal(integrity(a.path(name)), "ok");
    } finally {
      await program.end();
      for (const one of cluster.nodes) if (one.process !== undefined) await one.stop();
      if (mounted) execFileSync("umount", [node.data]);
      await cluster.dispose();
    }
  });
}
