/**
 * How far a WAL is in the log, shared with another thread of this process, so that it need not ask.
 *
 * Always holds: a point that `reaches` confirms was published and not withdrawn before the call began. While anything is under way that wants
 * to be asked first, nothing is published. A frame number is stored last and cleared first, so a reader never meets salts of another point.
 */
const FRAME = 0;
const SALT1 = 1;
const SALT2 = 2;
const WORDS = 3;

export interface WalEnd {
  readonly salt1: number;
  readonly salt2: number;
  readonly frame: number;
}

export class CapturedPoint {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#words = new Int32Array(shared);
  }

  publish({ salt1, salt2, frame }: WalEnd): void {
    if (this.reaches({ salt1, salt2, frame })) return;
    this.withdraw();
    Atomics.store(this.#words, SALT1, salt1 | 0);
    Atomics.store(this.#words, SALT2, salt2 | 0);
    Atomics.store(this.#words, FRAME, frame | 0);
  }

  withdraw(): void {
    Atomics.store(this.#words, FRAME, 0);
  }

  /** Whether all of a WAL that ends here is in the log. False for one without frames. */
  reaches({ salt1, salt2, frame }: WalEnd): boolean {
    const at = (word: number): number => Atomics.load(this.#words, word);
    return frame > 0 && at(FRAME) === frame && at(SALT1) === (salt1 | 0) && at(SALT2) === (salt2 | 0) && at(FRAME) === frame;
  }
}
