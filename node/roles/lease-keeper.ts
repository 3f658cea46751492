/**
 * Keeps a lease that this node holds: renews it in time, and says when it can no longer be sure of it.
 *
 * Always holds: `onDeadline` comes at the fence time of the last renewal that was answered in time, whatever the store does, and before
 * anybody else can have the lease. A renewal that is answered after that is good as well (the store extended it before anybody took it), and is told by
 * `onRenewed`. Nothing is told after `end`.
 */
import { callDeadline, leaseTimes, renewDelay, type LeaseTimes } from "./lease-time.ts";
import type { Held, LeaseStore } from "../lease/lease.ts";

export interface KeeperEvents {
  /** `late`: the fence time of the renewal before had come, or nearly so; the guardian may have acted on it. */
  onRenewed(times: LeaseTimes, late: boolean): void;
  /** The lease may end soon, and no renewal was answered. */
  onDeadline(): void;
  /** It is not ours any more. */
  onLost(): void;
  onError(error: unknown): void;
}

const LATE_MS = 50;

export interface KeeperClock {
  /** ms of CLOCK_BOOTTIME. */
  now(): number;
}

export class LeaseKeeper {
  readonly held: Held;
  readonly #store: LeaseStore;
  readonly #ttlMs: number;
  readonly #events: KeeperEvents;
  readonly #clock: KeeperClock;
  #times: LeaseTimes;
  #timer: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #renewing = false;
  #ended = false;

  /** `sentMs`: when the call was sent by which the lease was acquired or renewed. */
  constructor(store: LeaseStore, held: Held, options: { readonly ttlMs: number; readonly sentMs: number; readonly clock: KeeperClock }, events: KeeperEvents) {
    this.#store = store;
    this.held = held;
    this.#ttlMs = options.ttlMs;
    this.#clock = options.clock;
    this.#events = events;
    this.#times = leaseTimes(options.sentMs, options.ttlMs);
    this.#watch();
    this.#schedule(renewDelay("renewed", this.#ttlMs));
  }

  get times(): LeaseTimes {
    return this.#times;
  }

  /** Renews at once: somebody has doubts. */
  renewNow(): void {
    this.#schedule(0);
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#deadline);
  }

  #watch(): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => {
      // A timer may be early by a millisecond, and late by the whole sleep of a machine.
      if (this.#clock.now() < this.#times.fenceMs) this.#watch();
      else this.#events.onDeadline();
    }, Math.max(0, this.#times.fenceMs - this.#clock.now()));
  }

  #schedule(delayMs: number): void {
    if (this.#ended || (this.#renewing && delayMs === 0)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#renew(), delayMs);
  }

  async #renew(): Promise<void> {
    if (this.#renewing || this.#ended) return;
    this.#renewing = true;
    const sentMs = this.#clock.now();
    let next: number | undefined;
    try {
      const ours = await this.#store.renew(this.held, { ttlMs: this.#ttlMs, deadlineMs: callDeadline(this.#ttlMs) });
      if (this.#ended) return;
      if (ours) {
        const late = this.#clock.now() > this.#times.fenceMs - LATE_MS;
        this.#times = leaseTimes(sentMs, this.#ttlMs);
        this.#watch();
        this.#events.onRenewed(this.#times, late);
        next = renewDelay("renewed", this.#ttlMs);
      } else {
        this.#events.onLost();
      }
    } catch (error) {
      if (this.#ended) return;
      this.#events.onError(error);
      next = renewDelay("unanswered", this.#ttlMs);
    } finally {
      this.#renewing = false;
    }
    if (next !== undefined) this.#schedule(next);
  }
}
