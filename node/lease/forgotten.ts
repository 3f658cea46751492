/**
 * Whether a store has lost its memory: it was wiped, or restored from an old copy, while nodes remember greater epochs.
 *
 * Always holds: then nobody gets the lease for one TTL after that was first seen, because a holder that the store has forgotten trusts its
 * lease that long. Pure; the monotonic clock is an argument.
 */
export class Forgotten {
  #since: number | undefined;

  /** Whether the lease may be given out. `storedEpoch`: the greatest that the store knows. */
  mayAcquire(storedEpoch: number, minEpoch: number, ttlMs: number, nowMs: number): boolean {
    if (storedEpoch + 1 >= minEpoch) {
      this.#since = undefined;
      return true;
    }
    this.#since ??= nowMs;
    return nowMs - this.#since >= ttlMs;
  }
}
