/** Where a node stands, as an election compares nodes. */
import type { StoredPosition } from "./stored-position.ts";

export interface Standing {
  readonly nodeId: string;
  readonly candidate: boolean;
  /** Of each database: what readers of the node see, and what it has stored beyond that. */
  readonly stored: ReadonlyMap<string, StoredPosition>;
}
