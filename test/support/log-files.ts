/**
 * The transaction log of a node as it lies on the disk: whole LTX files, and segments with one LTX file after the other.
 *
 * Always holds: read from the files, not from the node, so that a test can say what is really there.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { readLtxHeader } from "../../node/ltx/decoder.ts";
import type { TestNode } from "./cluster.ts";

export interface LoggedFile {
  readonly min: number;
  readonly max: number;
  /** The LTX file itself. */
  readonly data: Buffer;
  /** Where it lies, and at which byte. */
  readonly path: string;
  readonly at: number;
}

/** Folder of a database's log. */
export function logFolder(node: TestNode, name: string): string {
  return join(node.data, "log", encodeURIComponent(name));
}

/** All transactions in the log of a database, oldest first. Parts of a merge whose result is there are left out. */
export function logOf(node: TestNode, name: string): LoggedFile[] {
  const folder = logFolder(node, name);
  const found: LoggedFile[] = [];
  for (const file of fs.readdirSync(folder)) {
    if (!/\.(ltx|seg)$/.test(file)) continue;
    const path = join(folder, file);
    let bytes: Buffer;
    try {
      bytes = fs.readFileSync(path);
    } catch {
      continue; // Merged or removed meanwhile.
    }
    const take = (at: number, length: number): void => {
      const data = bytes.subarray(at, at + length);
      const { minTxid, maxTxid } = readLtxHeader(data.subarray(0, 100));
      found.push({ min: minTxid, max: maxTxid, data, path, at });
    };
    if (file.endsWith(".ltx")) take(0, bytes.length);
    else for (let at = 0; at + 104 <= bytes.length && at + 4 + bytes.readUInt32BE(at) <= bytes.length; at += 4 + bytes.readUInt32BE(at)) take(at + 4, bytes.readUInt32BE(at));
  }
  found.sort((one, two) => one.min - two.min || two.max - one.max);
  const kept: LoggedFile[] = [];
  for (const file of found) if (kept.length === 0 || file.max > kept.at(-1)!.max) kept.push(file);
  return kept;
}
