/**
 * Who wrote which part of a database's history, and where two histories part: Kafka's leader epoch cache, per database.
 *
 * Always holds: pure. Entries ascend strictly by epoch and by first TXID; an epoch reaches to the one before the next entry, and the last one
 * to the node's own position, so an entry whose first TXID is position + 1 has been begun and holds nothing yet. Within an epoch a TXID names one
 * state, and whoever begins an epoch goes on from what it has: so where two histories agree on the epoch of a TXID, they agree on everything up to it.
 */

export interface EpochStart {
  readonly epoch: number;
  readonly firstTxid: number;
  /** Name of the node that was the primary; empty when it is not known. */
  readonly node: string;
}

export type EpochHistory = readonly EpochStart[];

/** A history together with how far its node has come. */
export interface Lineage {
  readonly history: EpochHistory;
  readonly txid: number;
}

/** The epoch in which a transaction was committed; undefined before the first entry. */
export function epochAt(history: readonly Pick<EpochStart, "epoch" | "firstTxid">[], txid: number): number | undefined {
  let found: number | undefined;
  for (const { epoch, firstTxid } of history) if (firstTxid <= txid) found = epoch;
  return found;
}

/** The newest epoch that a node is in once it has `txid`: also one that was begun right after it. */
export function epochReached(history: EpochHistory, txid: number): number | undefined {
  return epochAt(history, txid + 1);
}

/** What a node at `txid` has of a history. The rest was begun after what it has. */
export function historyUpTo(history: EpochHistory, txid: number): EpochHistory {
  return history.every(({ firstTxid }) => firstTxid <= txid + 1) ? history : history.filter(({ firstTxid }) => firstTxid <= txid + 1);
}

/** The history of a node that has `start.firstTxid - 1` and begins an epoch. Epochs in which nothing was committed leave no entry. */
export function beginEpoch(history: EpochHistory, start: EpochStart): EpochHistory {
  return [...history.filter(({ firstTxid }) => firstTxid < start.firstTxid), start];
}

/** A history without the entries that break its order: what arrives from another node is not trusted to keep it. */
export function soundHistory(history: readonly EpochStart[]): EpochHistory {
  const sound: EpochStart[] = [];
  for (const { epoch, firstTxid, node } of history) {
    const last = sound.at(-1);
    if (Number.isSafeInteger(epoch) && Number.isSafeInteger(firstTxid) && firstTxid >= 1 && (last === undefined || (epoch > last.epoch && firstTxid > last.firstTxid))) sound.push({ epoch, firstTxid, node });
  }
  return sound;
}

/** Last TXID of the entry at `index`. */
function lastOf({ history, txid }: Lineage, index: number): number {
  const next = history[index + 1];
  return next === undefined ? txid : Math.min(txid, next.firstTxid - 1);
}

/**
 * The newest transaction that both have: the greatest TXID whose epoch is the same in both. (0, 0) when they share nothing. Only the newest
 * epoch in which both committed can hold it, because everything before that is shared.
 */
export function commonAncestor(one: Lineage, other: Lineage): { readonly epoch: number; readonly txid: number } {
  for (let i = one.history.length - 1; i >= 0; i--) {
    const { epoch, firstTxid } = one.history[i]!;
    const j = other.history.findIndex((entry) => entry.epoch === epoch);
    if (j === -1) continue;
    const txid = Math.min(lastOf(one, i), lastOf(other, j));
    if (txid >= Math.max(firstTxid, other.history[j]!.firstTxid)) return { epoch, txid };
  }
  return { epoch: 0, txid: 0 };
}

export type TransactionVerdict =
  /** It follows what is here. */
  | "apply"
  /** It is here already. */
  | "known"
  /** Its sender was the primary of an older epoch than this node has seen: refused. */
  | "stale"
  /** This node has something else in its place: what it has beyond the common ancestor must give way. */
  | "diverged";

/** What a follower does with a transaction file, by its epoch (that of its last transaction) and TXIDs. `sender`: the primary's history, where known. */
export function judgeTransaction(own: Lineage & { readonly epoch: number }, file: { readonly epoch: number; readonly maxTxid: number }, sender?: EpochHistory): TransactionVerdict {
  if (own.txid === 0) return "apply";
  if (file.maxTxid <= own.txid) {
    const here = epochAt(own.history, file.maxTxid) ?? own.epoch;
    return here === file.epoch ? "known" : file.epoch < here ? "stale" : "diverged";
  }
  // Unless its sender knows of this epoch as well: then the epoch was begun here after less than it was begun after elsewhere, because a loss of
  // power has taken the rest, and it holds nothing.
  if (file.epoch < own.epoch && (sender?.at(-1)?.epoch ?? 0) < own.epoch) return "stale";
  if (sender === undefined || sender.length === 0) return "apply";
  return commonAncestor(own, { history: sender, txid: file.maxTxid }).txid === own.txid ? "apply" : "diverged";
}

/** Whether a primary of this epoch must not be followed: somebody was elected after it. */
export function isStalePrimary(epoch: number, seen: number): boolean {
  return epoch < seen;
}
