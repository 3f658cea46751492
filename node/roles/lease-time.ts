/**
 * When a lease must be renewed, and when this node must have stopped writing: arithmetic on one clock.
 *
 * Always holds: a renewal counts from when it was sent, because the store's own clock cannot have started later; the fence comes a margin
 * before that, so that it is up before anybody else can hold the lease. Times are ms of CLOCK_BOOTTIME, which goes on while a machine sleeps.
 */

export interface LeaseTimes {
  /** The lease cannot have ended anywhere before this. */
  readonly endsMs: number;
  /** From here on nobody writes on this node. */
  readonly fenceMs: number;
}

/** A part of the TTL, enough to raise the fences on a busy machine; at least MARGIN_MS_MIN, at most a quarter of the TTL. */
const MARGIN_SHARE = 0.05;
const MARGIN_MS_MIN = 100;

export function leaseTimes(sentMs: number, ttlMs: number): LeaseTimes {
  const margin = Math.min(ttlMs / 4, Math.max(MARGIN_MS_MIN, ttlMs * MARGIN_SHARE));
  return { endsMs: sentMs + ttlMs, fenceMs: sentMs + ttlMs - margin };
}

/** How long to wait before the next renewal: a third of the TTL after one that worked, soon after one that got no answer. */
export function renewDelay(outcome: "renewed" | "unanswered", ttlMs: number): number {
  return outcome === "renewed" ? ttlMs / 3 : Math.min(1_000, Math.max(50, ttlMs / 20));
}

/** How long one call of the store may take: it must leave time for another try before the fence. */
export function callDeadline(ttlMs: number): number {
  return Math.max(250, ttlMs / 4);
}
