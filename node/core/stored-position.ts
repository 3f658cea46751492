/**
 * How far a node has stored a database, and which of several nodes is the most advanced: what an election goes by. Pure.
 *
 * Always holds: an acknowledged transaction is stored on the primary and on N followers, so the most advanced of the nodes that are left has
 * it as long as no more than N of them all are gone. A tail is worth nothing once any of the nodes asked knows that it was refused: then its
 * application was told so. Of two tails with one TXID the later proposal counts, because the earlier one was refused before it was made; what
 * a node has published counts more than any tail of that TXID, because only what is committed is published.
 */
import type { Position } from "../../proto/position.ts";

export interface StoredPosition {
  /** What readers of this node see. */
  readonly published: Position;
  /** The undecided transaction behind it. */
  readonly tail: { readonly position: Position; readonly serial: number } | undefined;
  /** Every proposal up to this serial was refused, as far as this node knows. */
  readonly refused: number;
}

/** The highest serial that any of the nodes knows to be refused. */
export function refusedOf(all: readonly StoredPosition[]): number {
  return Math.max(0, ...all.map(({ refused }) => refused));
}

/** Below 0: `a` is less advanced than `b`; 0: neither is ahead. `refused` is {@link refusedOf} all nodes that answered. */
export function compareStored(a: StoredPosition, b: StoredPosition, refused: number): number {
  const [first, second] = [reachOf(a, refused), reachOf(b, refused)];
  return first.epoch - second.epoch || first.txid - second.txid || (first.serial === second.serial ? 0 : first.serial < second.serial ? -1 : 1);
}

function reachOf({ published, tail }: StoredPosition, refused: number): { epoch: number; txid: number; serial: number } {
  if (tail === undefined || tail.serial <= refused) return { epoch: published.epoch, txid: published.txid, serial: Infinity };
  return { epoch: tail.position.epoch, txid: tail.position.txid, serial: tail.serial };
}

/** Index of the most advanced; the first of equals. -1 of none. */
export function mostAdvanced(all: readonly StoredPosition[]): number {
  const refused = refusedOf(all);
  return all.reduce((best, candidate, index) => (best === -1 || compareStored(candidate, all[best]!, refused) > 0 ? index : best), -1);
}
