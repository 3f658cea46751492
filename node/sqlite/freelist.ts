/**
 * The freelist of a database: a chain of trunk pages, each naming leaf pages.
 *
 * Always holds: the walk ends on any input, after at most `pageCount` pages. It exists because SQLite reuses leaf pages without saving
 * their old content in the rollback journal: a commit may have changed any leaf of the freelist as it was before.
 *
 * | offset | size | field                                      |
 * | 0      | 4    | next trunk page, 0 at the end               |
 * | 4      | 4    | number of leaves n                          |
 * | 8      | 4n   | page numbers of the leaves                  |
 */
import { lockPgno } from "./database-header.ts";

/**
 * All leaf pages of the freelist that begins at page `trunk` and has `count` pages, trunks included (header offsets 32 and 36).
 * `readPage` gives a whole page. Undefined when the chain is malformed, has a loop, or is not as long as `count` says.
 */
export function freelistLeaves(readPage: (pgno: number) => Buffer, trunk: number, count: number, pageCount: number): Set<number> | undefined {
  const leaves = new Set<number>();
  const trunks = new Set<number>();
  if (count > pageCount) return undefined;
  for (let pgno = trunk; pgno !== 0; ) {
    if (pgno < 2 || pgno > pageCount || trunks.has(pgno) || leaves.has(pgno)) return undefined;
    trunks.add(pgno);
    const page = readPage(pgno);
    if (page.length < 512) return undefined;
    const n = page.readUInt32BE(4);
    if (n > page.length / 4 - 2 || trunks.size + leaves.size + n > count) return undefined;
    const lockPage = lockPgno(page.length);
    for (let i = 0; i < n; i++) {
      const leaf = page.readUInt32BE(8 + 4 * i);
      if (leaf < 2 || leaf > pageCount || leaf === lockPage || leaves.has(leaf) || trunks.has(leaf)) return undefined;
      leaves.add(leaf);
    }
    pgno = page.readUInt32BE(0);
  }
  return trunks.size + leaves.size === count ? leaves : undefined;
}
