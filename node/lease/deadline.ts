/**
 * Time limits of calls to a lease store.
 *
 * Always holds: on the monotonic clock; what is not answered by then counts as not answered, whatever comes later.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../../proto/errors.ts";

export class Deadline {
  readonly #at: number;
  readonly #ms: number;
  readonly #store: string;

  /** `store`: how the store is called in the error. */
  constructor(ms: number, store: string) {
    this.#ms = ms;
    this.#at = performance.now() + ms;
    this.#store = store;
  }

  get leftMs(): number {
    return Math.max(0, this.#at - performance.now());
  }

  get isOver(): boolean {
    return performance.now() >= this.#at;
  }

  /** The error for not having finished in time. */
  error(reason?: string, options?: ErrorOptions): AppError {
    return new AppError("LEASE_STORE_UNAVAILABLE", [this.#store, `${reason ?? "no answer"} within ${Math.round(this.#ms)} ms`], options);
  }

  /** Throws if it is over. */
  check(reason?: string): void {
    if (this.isOver) throw this.error(reason);
  }

  /** Waits, but not past the deadline; throws when it is over. */
  async pause(ms: number, reason?: string): Promise<void> {
    await sleep(Math.min(ms, this.leftMs));
    this.check(reason);
  }
}
