/**
 * Which node should take a free lease: the decision, without any I/O.
 *
 * Always holds: a node that some reachable candidate is ahead of, and that is ahead of nobody, waits for that candidate, for a bounded time
 * only: it may be unable to reach the lease store. Whoever takes the lease then fetches what others have more of. A position of a later epoch
 * is ahead of one of an earlier epoch, whatever their TXIDs, because the later epoch was won by a node that knew what was promised.
 */
import type { Standing } from "../core/standing.ts";
import type { Position } from "../../proto/position.ts";

/** Whether `a` has something that `b` lacks, in any database. */
export function isAhead(a: ReadonlyMap<string, Position>, b: ReadonlyMap<string, Position>): boolean {
  return aheadIn(a, b).length > 0;
}

/** The databases in which `a` has more than `b`. */
export function aheadIn(a: ReadonlyMap<string, Position>, b: ReadonlyMap<string, Position>): string[] {
  return [...a].filter(([name, position]) => comparePositions(position, b.get(name)) > 0).map(([name]) => name);
}

function comparePositions(a: Position, b: Position | undefined): number {
  if (b === undefined) return a.txid > 0 ? 1 : 0;
  return a.epoch !== b.epoch ? a.epoch - b.epoch : a.txid - b.txid;
}

/** "take" the lease now, or "wait" for a node that is ahead. */
export function decideElection(own: Standing, others: readonly Standing[], waited: { readonly ms: number; readonly mostMs: number }): "take" | "wait" {
  if (waited.ms >= waited.mostMs) return "take";
  const ahead = others.filter(({ candidate, positions }) => candidate && isAhead(positions, own.positions));
  if (ahead.length === 0) return "take";
  // Ahead of each other in different databases: somebody has to fetch, and the one with the lowest id does.
  const mutual = ahead.every(({ positions }) => isAhead(own.positions, positions));
  return mutual && ahead.every(({ nodeId }) => own.nodeId < nodeId) ? "take" : "wait";
}
