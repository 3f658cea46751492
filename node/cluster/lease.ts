/**
 * Who may write: the lease, as the engine sees it.
 *
 * Always holds: at most one node holds the lease of a cluster at a time, and each holder has a greater epoch than all before it: the epoch is
 * the fencing number that every position carries. Elections, renewal and hand-over live behind this interface; `static` is the kind without them.
 */
export type LeaseState =
  | { readonly holder: "self"; readonly epoch: number }
  /** `advertise`: where the holder takes replication streams. */
  | { readonly holder: "other"; readonly advertise: string }
  | { readonly holder: "none" };

export interface Lease {
  readonly type: string;
  current(): LeaseState;
  /** Calls back after each change. Returns the call that ends it. */
  onChange(listener: (state: LeaseState) => void): () => void;
  /** Gives the lease up, if this node holds it. */
  close(): Promise<void>;
}
