/** Where a node stands, as an election compares nodes. */
import type { Position } from "../../proto/position.ts";

export interface Standing {
  readonly nodeId: string;
  readonly candidate: boolean;
  /** Where each database of the node stands, with what it has stored but does not show yet. */
  readonly positions: ReadonlyMap<string, Position>;
}
