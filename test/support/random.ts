/** Random numbers that a seed repeats: xorshift128+. `SEED=…` in the environment replays a failure. */
export class Random {
  readonly seed: number;
  #a: number;
  #b: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#a = seed ^ 0x9e3779b9;
    this.#b = Math.imul(seed, 0x85ebca6b) ^ 0xc2b2ae35;
    for (let i = 0; i < 16; i++) this.next();
  }

  /** 0 ≤ value < 1. */
  next(): number {
    let t = this.#a;
    const s = this.#b;
    this.#a = s;
    t ^= t << 23;
    t ^= t >>> 17;
    t ^= s ^ (s >>> 26);
    this.#b = t;
    return ((this.#a + this.#b) >>> 0) / 4294967296;
  }

  /** 0 ≤ whole number < n. */
  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }
}

/** The seed of this run: from the environment, or a new one, which the caller prints. */
export function seedOfRun(): number {
  const given = Number(process.env["SEED"]);
  return Number.isInteger(given) && given > 0 ? given : 1 + Math.floor(Math.random() * 1e9);
}
