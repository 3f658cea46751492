/**
 * Files that exist only in the mount: what they look like. Their content comes from the store, at the first read of each open.
 *
 * Always holds: they are regular, read-only, of size 0, and opened for direct reading, so each read reaches the engine and their length
 * is what the store answers. Names and attributes are never kept by the kernel.
 */
import * as fs from "node:fs";
import type { Server } from "./server.ts";

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

function variant(server: Server, mode: number, size: bigint): fs.BigIntStats {
  const stat = fs.statSync(server.filesDir, { bigint: true });
  return Object.assign(Object.create(Object.getPrototypeOf(stat)) as fs.BigIntStats, stat, { mode: BigInt(mode), size, blocks: 0n });
}

export function virtualStat(server: Server): fs.BigIntStats {
  return Object.assign(variant(server, S_IFREG | 0o444, 0n), { uid: 0n, gid: 0n });
}

export function trustedDirectoryStat(server: Server): fs.BigIntStats {
  return Object.assign(variant(server, S_IFDIR | 0o700, 4096n), { uid: 0n, gid: 0n });
}
