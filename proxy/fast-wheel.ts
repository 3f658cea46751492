/**
 * One timer for the deadlines of all connections: a wheel of slots, each the list of those that are looked at in its turn.
 *
 * Always holds: putting a deadline off writes one number; the entry stays in its old slot and moves on when that is reached. Entries link
 * themselves, so nothing is allocated for one, and nothing is kept of one that was removed. A deadline is met at most one tick late.
 */

export const TICK_MS = 100;
const SLOTS = 1 << 10;
const NEVER = 0x3fff_ffff;

/** A member of the wheel. The fields are the wheel's own. */
export interface Timed {
  /** The tick at which it expires. */
  due: number;
  /** The tick of the slot that it is in; 0 outside. */
  slot: number;
  previous: Timed | undefined;
  next: Timed | undefined;
  /** Its deadline is over. It is out of the wheel by then. */
  expired(): void;
}

export class Wheel {
  readonly #slots: (Timed | undefined)[] = new Array<Timed | undefined>(SLOTS).fill(undefined);
  readonly #timer: NodeJS.Timeout;
  #now = 1;

  constructor() {
    this.#timer = setInterval(() => this.#turn(), TICK_MS);
    this.#timer.unref();
  }

  /** Ticks since the wheel was made: a clock for what need not be exact. */
  get now(): number {
    return this.#now;
  }

  /** Sets the deadline of `entry` to `ms` from now, whatever it was. */
  set(entry: Timed, ms: number): void {
    const due = Math.min(NEVER, this.#now + 1 + Math.ceil(ms / TICK_MS));
    entry.due = due;
    if (entry.slot !== 0) {
      if (entry.slot <= due) return;
      this.#unlink(entry);
    }
    this.#link(entry);
  }

  remove(entry: Timed): void {
    if (entry.slot !== 0) this.#unlink(entry);
  }

  /** All that are in it now. */
  entries(): Timed[] {
    const all: Timed[] = [];
    for (const first of this.#slots) for (let entry = first; entry !== undefined; entry = entry.next) all.push(entry);
    return all;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #link(entry: Timed): void {
    // What lies beyond one turn of the wheel is looked at once a turn.
    const slot = Math.min(entry.due, this.#now + SLOTS - 1);
    const first = this.#slots[slot % SLOTS];
    entry.slot = slot;
    entry.previous = undefined;
    entry.next = first;
    if (first !== undefined) first.previous = entry;
    this.#slots[slot % SLOTS] = entry;
  }

  #unlink(entry: Timed): void {
    const { previous, next } = entry;
    if (previous === undefined) this.#slots[entry.slot % SLOTS] = next;
    else previous.next = next;
    if (next !== undefined) next.previous = previous;
    entry.slot = 0;
    entry.previous = entry.next = undefined;
  }

  #turn(): void {
    const now = ++this.#now;
    // Whatever an expiry does to the list, its first entry is always one that has not been looked at.
    for (let entry = this.#slots[now % SLOTS]; entry !== undefined; entry = this.#slots[now % SLOTS]) {
      this.#unlink(entry);
      if (entry.due > now) this.#link(entry);
      else entry.expired();
    }
  }
}
