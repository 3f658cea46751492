/**
 * One question for many who ask it at the same time.
 *
 * Always holds: whoever calls gets an answer to a question that was asked after the call. One that is under way when the call comes may have looked
 * too early, so callers meanwhile share the one that follows it.
 */
export class Coalesced<T> {
  readonly #ask: () => Promise<T>;
  #running: Promise<T> | undefined;
  #next: Promise<T> | undefined;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  call(): Promise<T> {
    if (this.#running === undefined) return (this.#running = this.#ask().finally(() => (this.#running = undefined)));
    return (this.#next ??= this.#running.then(ignore, ignore).then(() => {
      this.#next = undefined;
      return this.call();
    }));
  }
}

function ignore(): void {}
