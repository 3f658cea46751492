/**
 * One at a time: the order in which work on one database is done.
 *
 * Always holds: at most one holder; waiters are served in the order they came. Capture, diff, import, snapshot switch and the hooks of one
 * database go through its turn, so none of them sees another half done. What needs no waiting (the common flush) asks `idle` and runs at once.
 */
export class Turn {
  #last: Promise<void> = Promise.resolve();
  #holders = 0;

  /** Nobody holds it or waits for it. */
  get idle(): boolean {
    return this.#holders === 0;
  }

  /** Runs `work` when everything before it is done. */
  async run<T>(work: () => T | Promise<T>): Promise<T> {
    this.#holders++;
    const before = this.#last;
    let done!: () => void;
    this.#last = new Promise((resolve) => (done = resolve));
    try {
      await before;
      return await work();
    } finally {
      this.#holders--;
      done();
    }
  }
}
