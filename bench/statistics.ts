/**
 * Medians and their spread. On a shared machine a mean says little and a single number nothing.
 *
 * Always holds: pure; a spread has at least one value.
 */
import { assert } from "../node/core/assert.ts";

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** In the order in which they were measured. */
  readonly values: readonly number[];
}

export function spreadOf(values: readonly number[]): Spread {
  assert(values.length > 0, "a spread needs a value");
  return { median: quantile(values, 0.5), min: Math.min(...values), max: Math.max(...values), values };
}

/** The value below which `q` (0 to 1) of the values lie, between two neighbours by proportion. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}

/** Round by round `after / before`: neighbours in time share the noise of the machine, so their ratio has less of it than either. */
export function ratios(after: readonly number[], before: readonly number[]): number[] {
  assert(after.length === before.length, "ratios need pairs");
  return after.map((value, i) => value / before[i]!);
}
