/**
 * Keeps the event loop from going to sleep while an answer is a moment away: waking a processor up can take longer than the answer.
 *
 * Always holds: it costs processor time only while answers have lately come within QUICK_MS, and then at most twice what they take; never where
 * this process has one processor, which whoever answers may need. Everything else is served in between.
 */
import { availableParallelism } from "node:os";

const QUICK_MS = 0.4;
/** Weight of the newest answer. */
const WEIGHT = 0.1;

export class Wakefulness {
  readonly #alone = availableParallelism() < 2;
  /** What an answer takes, as a mean over the last ones. */
  #meanMs = 0;

  /** An answer is being waited for. Returns the call that tells that it has come. */
  expect(): () => void {
    const sinceMs = performance.now();
    let come = false;
    const mostMs = 2 * this.#meanMs;
    const turn = (): void => {
      if (!come && performance.now() - sinceMs < mostMs) setImmediate(turn);
    };
    if (!this.#alone && this.#meanMs < QUICK_MS) setImmediate(turn);
    return () => {
      come = true;
      // One that took very long says nothing about the next.
      const tookMs = Math.min(performance.now() - sinceMs, 10 * QUICK_MS);
      this.#meanMs = this.#meanMs === 0 ? tookMs : this.#meanMs + WEIGHT * (tookMs - this.#meanMs);
    };
  }
}
