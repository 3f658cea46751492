/**
 * `sluice repair --from peer` on a disk that has no room for it: real nodes, the follower's data on a small file system of its own.
 *
 * What happens when the disk fills up in the middle of a repair is in test/recovery/repair-full.test.ts.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SmallDisk } from "../faults/disk.ts";
import { sluice, TestCluster, type TestNode } from "../support/cluster.ts";
import { assertSame, integrity } from "../support/compare.ts";
import { Program, skipWithout } from "../support/programs.ts";

const NAME = "app.db";
const FILL = "WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < 3000) INSERT INTO t(body) SELECT randomblob(3000) FROM c";
const skip = process.getuid?.() === 0 ? skipWithout("mkfs.ext4") : "SKIPPED: a file system of its own needs root";

test("a repair that the disk has no room for ends with the disk, what it needs and what to do; nothing is touched, and it works once there is space", { skip, timeout: 240_000 }, async () => {
  const cluster = await TestCluster.make(["a", "b"]);
  const [a, b] = cluster.nodes as [TestNode, TestNode];
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-test-disk-"));
  const disk = new SmallDisk(join(folder, "disk"), 96);
  const data = join(disk.folder, "data");
  const program = new Program();
  const asides = (): string[] => (fs.existsSync(join(data, "aside")) ? fs.readdirSync(join(data, "aside")) : []);
  try {
    fs.writeFileSync(b.config, fs.readFileSync(b.config, "utf8").replace(/^data: .*$/m, `data: ${data}`));
    for (const node of [a, b]) node.start();
    for (const node of [a, b]) await node.ready();
    await program.exec(a.path(NAME), "PRAGMA journal_mode = wal", "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)", FILL);
    const before = await assertSame(cluster, NAME);

    disk.fill();
    for (let attempt = 0; attempt < 2; attempt++) {
      const refused = await sluice("repair", "--from", "peer", "--name", NAME, "-c", b.config);
      assert.equal(refused.code, 1, refused.output);
      assert.match(refused.output, new RegExp(`Cannot repair "app\\.db" from a peer: /dev/loop\\d+ at ${disk.folder} has [\\d.]+ MiB free and this needs [\\d.]+ MiB`));
      assert.match(refused.output, /Free space on that disk .*, then run the command again\./);
    }
    assert.deepEqual(asides(), []);
    assert.ok((await assertSame(cluster, NAME)).equals(before), "what is here goes on being served");

    // The node goes on following as well, as far as a full disk lets it.
    await program.exec(a.path(NAME), "INSERT INTO t(body) VALUES (randomblob(200000))");
    disk.empty();
    const repaired = await sluice("repair", "--from", "peer", "--name", NAME, "-c", b.config);
    assert.equal(repaired.code, 0, repaired.output);
    assert.match(repaired.output, /^Repaired app\.db: \d+ pages/m);
    await assertSame(cluster, NAME);
    assert.equal(integrity(b.path(NAME)), "ok");
    assert.ok(asides().some((name) => name.endsWith(`-${NAME}`)), asides().join());
  } finally {
    await program.end();
    await cluster.dispose().finally(() => {
      disk.dispose();
      fs.rmSync(folder, { recursive: true, force: true });
    });
  }
});
