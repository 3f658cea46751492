/**
 * Elections with durability sync on real nodes of this machine: nobody becomes the primary without those who may have an acknowledged commit alone, unless an
 * operator says so; and who is gone for good is not waited for.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { TestCluster, sluice, until, type TestNode } from "../support/cluster.ts";

const SETTINGS = [
  "lease: {type: local, ttl: 4s, local: {path: $FOLDER/lease.db}}",
  'databases: {"app.db": {durability: sync, syncReplicas: 1, syncTimeout: 60s}}',
].join("\n");

const signal = (node: TestNode, name: NodeJS.Signals): void => void process.kill(node.pids().engine!, name);

/** Names of the nodes that count, as the lease store has them. */
function electorate(cluster: TestCluster): string[] {
  const db = new Database(join(cluster.folder, "lease.db"), { readonly: true, timeout: 10_000 });
  try {
    const value = db.prepare("SELECT value FROM setting WHERE name = 'electorate'").pluck().get() as string | undefined;
    return value === undefined ? [] : (JSON.parse(value) as { nodes: { name: string }[] }).nodes.map(({ name }) => name).toSorted();
  } finally {
    db.close();
  }
}

async function primaryOf(nodes: readonly TestNode[]): Promise<TestNode> {
  return until("a primary", async () => {
    for (const node of nodes) if ((await node.status())?.roleState === "primary") return node;
    return undefined;
  });
}

function insert(node: TestNode, ...values: readonly number[]): void {
  const db = new Database(node.path("app.db"), { timeout: 60_000 });
  try {
    for (const x of values) db.prepare("INSERT INTO t VALUES (?)").run(x);
  } finally {
    db.close();
  }
}

function rows(node: TestNode): number[] {
  const db = new Database(node.path("app.db"), { readonly: true });
  try {
    return db.prepare("SELECT x FROM t ORDER BY x").pluck().all() as number[];
  } finally {
    db.close();
  }
}

/** Resolves when these nodes show the same position. */
async function inStep(nodes: readonly TestNode[]): Promise<void> {
  await until("the nodes to be in step", async () => {
    const seen = await Promise.all(nodes.map(async (node) => (await node.status())?.databases.find(({ name }) => name === "app.db")));
    return seen.every((one) => one !== undefined && one.txid === seen[0]?.txid && one.checksum === seen[0].checksum && one.epoch === seen[0].epoch);
  });
}

/** Three nodes that count, with one row; the first is the primary. */
async function begin(): Promise<{ cluster: TestCluster; first: TestNode; second: TestNode; third: TestNode }> {
  const cluster = await TestCluster.start(["a", "b", "c"], SETTINGS);
  const first = await primaryOf(cluster.nodes);
  const [second, third] = cluster.nodes.filter((node) => node !== first) as [TestNode, TestNode];
  const db = new Database(first.path("app.db"), { timeout: 60_000 });
  db.pragma("journal_mode = wal");
  db.exec("CREATE TABLE t(x INTEGER PRIMARY KEY)");
  db.close();
  insert(first, 1);
  await until("all three to count", () => electorate(cluster).length === 3);
  await inStep(cluster.nodes);
  return { cluster, first, second, third };
}

/** Row 2 is acknowledged and with nodes that do not answer: the primary is gone, the second stopped. The third was away meanwhile, and waits. */
async function leaveThird({ first, second, third }: Awaited<ReturnType<typeof begin>>): Promise<string> {
  // Not stopped: what is on its way to it would arrive later.
  await third.killAll();
  insert(first, 2);
  signal(second, "SIGSTOP");
  await first.killAll();
  third.start();
  return until("the third to say what its election lacks", async () => (await third.status())?.electionLacks);
}

test("a candidate without the node that has the newest acknowledged commit waits for it and says so, and takes over with it", { timeout: 300_000 }, async () => {
  const nodes = await begin();
  const { cluster, first, second, third } = nodes;
  try {
    const lacks = await leaveThird(nodes);
    // Of two, where it was away for so long that it was left out.
    assert.match(lacks, /^of the [23] nodes that store commits under durability sync [12] must answer, and none comes from/);
    for (const node of [first, second]) assert.match(lacks, new RegExp(`\\b${node.name}\\b`));
    const { code, output } = await sluice("promote", "-c", third.config);
    assert.notEqual(code, 0);
    assert.match(output, /Cannot become the primary: .*promote --force/s);
    assert.match((await sluice("status", "-c", third.config)).output, /election waits: of the [23] nodes/);
    assert.equal((await third.status())?.roleState, "electing");
    signal(second, "SIGCONT");
    const next = await primaryOf([second, third]);
    assert.deepEqual(rows(next), [1, 2]);
    insert(next, 3);
    await inStep([second, third]);
    for (const node of [second, third]) assert.deepEqual(rows(node), [1, 2, 3], node.name);
    assert.equal((await third.status())?.electionLacks, undefined);
  } finally {
    await cluster.dispose();
  }
});

test("an operator can force the election; what the other node had is kept there, and it follows", { timeout: 300_000 }, async () => {
  const nodes = await begin();
  const { cluster, second, third } = nodes;
  try {
    await leaveThird(nodes);
    const { code, output } = await sluice("promote", "--force", "-c", third.config);
    assert.equal(code, 0, output);
    assert.equal((await third.status())?.roleState, "primary");
    assert.deepEqual(rows(third), [1]);
    signal(second, "SIGCONT");
    insert(third, 3);
    await inStep([second, third]);
    for (const node of [second, third]) assert.deepEqual(rows(node), [1, 3], node.name);
    // As a transaction that it had published, or as a proposal that nobody had confirmed.
    await until("transaction 2 to be kept", async () => {
      const status = await second.status();
      return status !== undefined && status.diverged.entries + status.aside > 0;
    });
  } finally {
    await cluster.dispose();
  }
});

test("a node that is gone for good is left out once the others have everything: then either of them is enough", { timeout: 300_000 }, async () => {
  const { cluster, first, second, third } = await begin();
  try {
    await third.killAll();
    insert(first, 2);
    await until("the third to be left out", () => !electorate(cluster).includes(third.name));
    assert.deepEqual(electorate(cluster), [first.name, second.name].toSorted());
    insert(first, 3);
    await first.killAll();
    assert.equal(await primaryOf([second]), second);
    assert.deepEqual(rows(second), [1, 2, 3]);
    // It comes back, and counts again.
    third.start();
    await third.ready();
    insert(second, 4);
    await until("the third to count again", () => electorate(cluster).includes(third.name));
    await inStep([second, third]);
    assert.deepEqual(rows(third), [1, 2, 3, 4]);
  } finally {
    await cluster.dispose();
  }
});
