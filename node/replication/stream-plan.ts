/**
 * How a follower's database is brought to the primary's position: the decision, without any I/O.
 *
 * | follower has                                   | log holds the next transaction | then                       |
 * |------------------------------------------------|--------------------------------|----------------------------|
 * | transactions after the common ancestor         | -                              | snapshot, ancestor named   |
 * | the same position                              | -                              | nothing                    |
 * | the same TXID, another checksum                | -                              | snapshot, one before named |
 * | an earlier TXID of this history, in any epoch  | no                             | snapshot (log gone)        |
 * | an earlier TXID of this history                | yes, but from another state    | snapshot, one before named |
 * | an earlier TXID of this history                | yes                            | stream                     |
 */
import type { Position } from "../../proto/position.ts";
import { commonAncestor, type EpochHistory } from "../store/epoch-history.ts";

export type StreamPlan =
  | { readonly kind: "nothing" }
  | { readonly kind: "stream"; readonly from: number }
  | { readonly kind: "snapshot"; readonly reason: string; readonly ancestor: { readonly epoch: number; readonly txid: number } };

export interface PlanFacts {
  readonly follower: Position;
  readonly followerHistory: EpochHistory;
  readonly primary: Position;
  readonly history: EpochHistory;
  /** Whether the log holds everything from follower.txid + 1 on. */
  readonly logCovers: boolean;
  /** Checksum before the next transaction, when an entry begins exactly there. */
  readonly nextPreApply: bigint | undefined;
}

export function planStream(facts: PlanFacts): StreamPlan {
  const { follower, primary } = facts;
  const ancestor = commonAncestor({ history: facts.followerHistory, txid: follower.txid }, { history: facts.history, txid: primary.txid });
  const snapshot = (reason: string): StreamPlan => ({ kind: "snapshot", reason, ancestor });
  if (ancestor.txid < follower.txid) return snapshot(`the follower has ${follower.txid - ancestor.txid} transactions that this history does not have`);
  // One TXID of one epoch with two states: what the follower has in its place counts as its own, and is kept before it gives way.
  const differing = (reason: string): StreamPlan => ({ kind: "snapshot", reason, ancestor: { epoch: ancestor.epoch, txid: Math.min(ancestor.txid, follower.txid - 1) } });
  if (follower.txid === primary.txid) return follower.checksum === primary.checksum ? { kind: "nothing" } : differing("the states differ at the same TXID");
  if (!facts.logCovers) return snapshot("the log does not reach back that far");
  if (follower.txid > 0 && facts.nextPreApply !== undefined && facts.nextPreApply !== follower.checksum) return differing("the states differ");
  return { kind: "stream", from: follower.txid + 1 };
}
