/**
 * Waits until enough followers have acknowledged positions: for responses that are held until their write is elsewhere too.
 *
 * Always holds: a follower counts once it has stored and applied every position asked for; the answer is the count at that moment, never more
 * than was asked for, and it comes at the time-out at the latest.
 */
import { hasReached, ZERO_POSITION, type Position, type Txid } from "../../proto/position.ts";

export interface Acknowledged {
  /** Positions by database of each follower that is connected. */
  readonly followers: Iterable<{ readonly nodeId: string; readonly positions: ReadonlyMap<string, Position> }>;
  /** Calls back after each acknowledgement. Returns the call that ends it. */
  onAck(listener: () => void): () => void;
}

export interface WantedPosition { readonly database: string; readonly epoch: number; readonly txid: Txid }

/** How many different nodes have all of it. */
export function countReplicated(source: Pick<Acknowledged, "followers">, wanted: readonly WantedPosition[]): number {
  const nodes = new Set<string>();
  for (const { nodeId, positions } of source.followers) if (wanted.every((want) => hasReached(positions.get(want.database) ?? ZERO_POSITION, want))) nodes.add(nodeId);
  return nodes.size;
}

export function waitReplicated(source: Acknowledged, wanted: readonly WantedPosition[], replicas: number, timeoutMs: number): { readonly reached: Promise<number>; cancel(): void } {
  const { promise, resolve } = Promise.withResolvers<number>();
  const count = (): number => Math.min(replicas, countReplicated(source, wanted));
  const finish = (): void => {
    clearTimeout(timer);
    stop();
    resolve(count());
  };
  const stop = source.onAck(() => {
    if (count() >= replicas) finish();
  });
  const timer = setTimeout(finish, timeoutMs);
  if (count() >= replicas) finish();
  return { reached: promise, cancel: finish };
}
