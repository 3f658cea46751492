/**
 * Which node should take a free lease: the decision, without any I/O.
 *
 * Always holds: a node that some reachable candidate is ahead of, and that is ahead of nobody, waits for that candidate, for a bounded time
 * only: it may be unable to reach the lease store. So does one that has not heard from a member who may merely be slow. Whoever takes the lease then fetches what others have more of. A position of a later epoch
 * is ahead of one of an earlier epoch, whatever their TXIDs, because the later epoch was won by a node that knew what was promised.
 */
import type { Standing } from "../core/standing.ts";
import { compareStored, refusedOf, type StoredPosition } from "../core/stored-position.ts";
import { ZERO_POSITION } from "../../proto/position.ts";

/** For each database, the highest serial that any of the nodes knows to be refused. */
export function refusals(all: readonly Pick<Standing, "stored">[]): Map<string, number> {
  const names = new Set(all.flatMap(({ stored }) => [...stored.keys()]));
  return new Map([...names].map((name) => [name, refusedOf(all.flatMap(({ stored }) => stored.get(name) ?? []))]));
}

/** The databases in which `a` has more than `b`. */
export function aheadIn(a: Standing["stored"], b: Standing["stored"], refused: ReadonlyMap<string, number>): string[] {
  return [...a].filter(([name, stored]) => compareStored(stored, b.get(name) ?? NOTHING, refused.get(name) ?? 0) > 0).map(([name]) => name);
}

/** Whether `a` has something that `b` lacks, in any database. */
export function isAhead(a: Standing["stored"], b: Standing["stored"], refused: ReadonlyMap<string, number>): boolean {
  return aheadIn(a, b, refused).length > 0;
}

const NOTHING: StoredPosition = { published: ZERO_POSITION, tail: undefined, refused: 0 };

export interface Waited {
  readonly ms: number;
  /** For a node that is ahead. */
  readonly mostMs: number;
  /** For members that have not answered. */
  readonly silentMs: number;
}

/**
 * "take" the lease now, or "wait" for a node that is ahead. `silent`: so many members have not answered, though nobody knows that they are gone. `lacking`: what
 * nodes without which an acknowledged commit may be missing; then there is no end to the waiting.
 */
export function decideElection(own: Standing, others: readonly Standing[], silent: number, waited: Waited, lacking?: string): "take" | "wait" {
  if (lacking !== undefined) return "wait";
  if (waited.ms >= waited.mostMs) return "take";
  if (silent > 0 && waited.ms < waited.silentMs) return "wait";
  const refused = refusals([own, ...others]);
  const ahead = others.filter(({ candidate, stored }) => candidate && isAhead(stored, own.stored, refused));
  if (ahead.length === 0) return "take";
  // Ahead of each other in different databases: somebody has to fetch, and the one with the lowest id does.
  const mutual = ahead.every(({ stored }) => isAhead(own.stored, stored, refused));
  return mutual && ahead.every(({ nodeId }) => own.nodeId < nodeId) ? "take" : "wait";
}
