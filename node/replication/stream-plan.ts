/**
 * How a follower's database is brought to the primary's position: the decision, without any I/O.
 *
 * | follower has                       | log holds the next transaction | then                      |
 * |------------------------------------|--------------------------------|---------------------------|
 * | the same position                  | -                              | nothing                   |
 * | the same TXID, another checksum    | -                              | snapshot (diverged)       |
 * | a later TXID, or an unknown epoch  | -                              | snapshot (diverged)       |
 * | an earlier TXID                    | no                             | snapshot (log gone)       |
 * | an earlier TXID                    | yes, but from another state    | snapshot (diverged)       |
 * | an earlier TXID                    | yes                            | stream                    |
 */
import type { Position } from "../../proto/position.ts";

export type StreamPlan = { readonly kind: "nothing" } | { readonly kind: "stream"; readonly from: number } | { readonly kind: "snapshot"; readonly reason: string };

export interface PlanFacts {
  readonly follower: Position;
  readonly primary: Position;
  /** Where each epoch began, oldest first. */
  readonly epochs: readonly { readonly epoch: number; readonly firstTxid: number }[];
  /** Whether the log holds everything from follower.txid + 1 on. */
  readonly logCovers: boolean;
  /** Checksum before the next transaction, when an entry begins exactly there. */
  readonly nextPreApply: bigint | undefined;
}

export function planStream(facts: PlanFacts): StreamPlan {
  const { follower, primary } = facts;
  if (follower.txid > primary.txid) return { kind: "snapshot", reason: "the follower has transactions that this history does not have" };
  if (follower.txid === primary.txid) {
    return follower.checksum === primary.checksum ? { kind: "nothing" } : { kind: "snapshot", reason: "the histories differ at the same TXID" };
  }
  if (follower.txid > 0 && follower.epoch !== epochAt(facts.epochs, follower.txid)) return { kind: "snapshot", reason: `epoch ${follower.epoch} did not write transaction ${follower.txid} of this history` };
  if (!facts.logCovers) return { kind: "snapshot", reason: "the log does not reach back that far" };
  if (follower.txid > 0 && facts.nextPreApply !== undefined && facts.nextPreApply !== follower.checksum) return { kind: "snapshot", reason: "the histories differ" };
  return { kind: "stream", from: follower.txid + 1 };
}

/** The epoch in which a transaction was committed. */
export function epochAt(epochs: PlanFacts["epochs"], txid: number): number | undefined {
  let found: number | undefined;
  for (const { epoch, firstTxid } of epochs) if (firstTxid <= txid) found = epoch;
  return found;
}
