/**
 * Positions of all databases of a node, as the proxy compares and shows them.
 *
 * Always holds: the map's order is "most recently changed first", so that a cut at any place keeps what a client most likely needs. Checksums
 * are left out: within an epoch a TXID names one state, and a client only asks "have you got at least this?".
 */
import { hasReached, type Position } from "../proto/position.ts";

export type Mark = Pick<Position, "epoch" | "txid">;
export type Marks = ReadonlyMap<string, Mark>;

export const NO_MARKS: Marks = new Map();

/** Whether a node at `have` has everything in `want`. A database that the node does not have is not reached unless TXID 0 is asked for. */
export function reachedAll(have: Marks, want: Marks): boolean {
  for (const [database, mark] of want) {
    const mine = have.get(database);
    if (mine === undefined ? mark.txid > 0 : !hasReached({ ...mine, checksum: 0n }, mark)) return false;
  }
  return true;
}

/** The marks of the databases that count; all without `counts`. */
export function countedMarks(marks: Marks, counts: ((database: string) => boolean) | undefined): Marks {
  return counts === undefined ? marks : new Map([...marks].filter(([database]) => counts(database)));
}

/** `current`, ordered: what differs from `previous` first, the rest as it stood there. Returns `previous` itself when nothing differs. */
export function recentFirst(previous: Marks, current: Iterable<readonly [string, Mark]>): Marks {
  const changed = new Map<string, Mark>();
  const same = new Set<string>();
  for (const [database, mark] of current) {
    const before = previous.get(database);
    if (before !== undefined && before.epoch === mark.epoch && before.txid === mark.txid) same.add(database);
    else changed.set(database, mark);
  }
  if (changed.size === 0 && same.size === previous.size) return previous;
  for (const [database, mark] of previous) if (same.has(database)) changed.set(database, mark);
  return changed;
}

/** At most `count` databases, most recently changed first: `app.db=1/2a, sub%2Fx.db=1/7` (epoch and TXID in hexadecimal). */
export function formatMarks(marks: Marks, count = 16): string {
  const parts: string[] = [];
  for (const [database, mark] of marks) {
    if (parts.length === count) break;
    parts.push(`${encodeURIComponent(database)}=${mark.epoch.toString(16)}/${mark.txid.toString(16)}`);
  }
  return parts.join(", ");
}
