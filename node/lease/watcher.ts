/**
 * Tells of changes of the holder: reads again and again, and at once when it is poked.
 *
 * Always holds: one read at a time; a change is told once; what was poked while a read was under way is read again after it. A store with a
 * stream of events pokes; the polling behind it finds what a stream that has silently died would not say.
 */
import type { Held } from "./lease.ts";

export interface WatcherOptions {
  read(): Promise<Held | undefined>;
  readonly pollMs: number;
  onChange(held: Held | undefined): void;
  onError(error: unknown): void;
}

/** What makes two answers of the store the same to whoever watches. */
const signature = (held: Held | undefined): string => (held === undefined ? "" : `${held.token} ${held.reservedFor ?? ""}`);

export class Watcher {
  readonly #options: WatcherOptions;
  #known: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reading = false;
  #again = false;
  #ended = false;

  constructor(options: WatcherOptions) {
    this.#options = options;
    this.poke();
  }

  /** Something may have changed. */
  poke(): void {
    if (this.#ended) return;
    if (this.#reading) this.#again = true;
    else void this.#read();
  }

  async #read(): Promise<void> {
    clearTimeout(this.#timer);
    this.#reading = true;
    let next = this.#options.pollMs;
    try {
      const held = await this.#options.read();
      if (this.#ended) return;
      if (held?.remainingMs !== undefined) next = Math.min(next, held.remainingMs + 1);
      if (signature(held) !== this.#known) {
        this.#known = signature(held);
        this.#options.onChange(held);
      }
    } catch (error) {
      if (this.#ended) return;
      // So that the next answer is told, whatever it is: the connection is back.
      this.#known = undefined;
      this.#options.onError(error);
    } finally {
      this.#reading = false;
      if (!this.#ended) this.#timer = setTimeout(() => this.poke(), this.#again ? 0 : next);
      this.#again = false;
    }
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }
}
