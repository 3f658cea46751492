/**
 * The types of lease that the fault tests can be run with.
 *
 * Always holds: a type that this release does not have is refused by name, not skipped in silence.
 */
import { STATIC_LEASE, type LeaseKind } from "./cluster.ts";

const KINDS: readonly LeaseKind[] = [STATIC_LEASE];

/** The type of lease of this name. */
export function leaseKind(type: string): LeaseKind {
  const kind = KINDS.find((one) => one.type === type);
  if (kind === undefined) throw new Error(`LEASE=${type}: there are ${KINDS.map((one) => one.type).join(", ")}`);
  return kind;
}
