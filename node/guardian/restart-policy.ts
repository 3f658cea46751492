/**
 * How soon a child that died is started again: at once, unless it keeps dying.
 *
 * Always holds: pure; the clock is an argument. At once, because requests of applications wait meanwhile; not always, because a child that
 * dies at its start would use a whole processor and fill the log.
 */
const WINDOW_MS = 10_000;
const DEATHS_MAX = 5;
const PAUSE_MS = 1_000;

export class RestartPolicy {
  #deaths: readonly number[] = [];

  /** Records a death at `nowMs` (a monotonic clock) and answers how long to wait before the next start, in ms. */
  died(nowMs: number): number {
    this.#deaths = [...this.#deaths.filter((at) => nowMs - at < WINDOW_MS), nowMs].slice(-DEATHS_MAX);
    return this.#deaths.length < DEATHS_MAX ? 0 : PAUSE_MS;
  }
}
