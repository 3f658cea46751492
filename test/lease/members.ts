/**
 * Nodes of the lease tests: by number.
 */
import type { Member } from "../../node/lease/lease.ts";

export function memberOf(number: number, more: Partial<Member> = {}): Member {
  return {
    nodeId: number.toString(16).padStart(16, "0"), name: `n${number}`, advertise: `10.0.0.${number}:7001`, proxy: `http://10.0.0.${number}:8080`, region: number % 2 === 0 ? "fra" : "", candidate: number % 3 !== 0, ...more,
  };
}
