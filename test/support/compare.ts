/**
 * What a test says of two nodes: that they hold the same, and by how many transactions a database has moved.
 *
 * Always holds: content is compared as SQLite reads it through each node's mount, byte for byte, not as Sluice describes it.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import Database from "better-sqlite3";
import { parsePosition, type Position } from "../../proto/position.ts";
import { until, type TestCluster, type TestNode } from "./cluster.ts";
import { bytesOf } from "./programs.ts";

/** The position of a database as its `-pos` file shows it; on the primary everything committed before is captured. */
export function positionOf(node: TestNode, name: string): Position {
  const text = readFileSync(node.path(`${name}-pos`), "utf8");
  const position = parsePosition(text);
  assert.ok(position !== undefined, `"${text}" is no position`);
  return position;
}

/** TXID of a database on a node. */
export function txidOf(node: TestNode, name: string): number {
  return positionOf(node, name).txid;
}

/**
 * Waits until all nodes are at one position of `name`, then compares the content as SQLite reads it on each, byte for byte, and has SQLite
 * check its structure.
 */
export async function assertSame(cluster: TestCluster, name: string, why = ""): Promise<Buffer> {
  // Files that change without a journal are noticed a moment later than the position can be read: the content decides when to stop.
  const [primary, ...followers] = cluster.nodes as [TestNode, ...TestNode[]];
  await until(`${name} to be known as a database`, () => existsSync(primary.path(`${name}-pos`)));
  for (let attempt = 1; ; attempt++) {
    await cluster.inStep(name);
    const expected = bytesOf(primary.path(name));
    const different = followers.find((node) => !bytesOf(node.path(name)).equals(expected));
    if (different === undefined) {
      for (const node of followers) assert.equal(integrity(node.path(name)), "ok", `${name} ${why}: integrity on ${node.name}`);
      return expected;
    }
    if (attempt === 100) assert.fail(`${name} ${why}: the content on ${different.name} differs: ${describe(expected, bytesOf(different.path(name)))}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export function integrity(path: string): unknown {
  const db = new Database(path, { readonly: true, timeout: 20_000 });
  try {
    return db.pragma("integrity_check", { simple: true });
  } finally {
    db.close();
  }
}

function describe(expected: Buffer, found: Buffer): string {
  if (expected.length !== found.length) return `${found.length} bytes instead of ${expected.length}`;
  const pageSize = expected.readUInt16BE(16) === 1 ? 65536 : expected.readUInt16BE(16);
  const pages: number[] = [];
  for (let at = 0; at < expected.length; at += pageSize) if (!expected.subarray(at, at + pageSize).equals(found.subarray(at, at + pageSize))) pages.push(at / pageSize + 1);
  return `pages ${pages.slice(0, 20).join(", ")}${pages.length > 20 ? ` and ${pages.length - 20} more` : ""} of ${expected.length / pageSize}`;
}
