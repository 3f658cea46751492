/**
 * Page numbers with their checksums, as a transaction brings them.
 *
 * Always holds: 12 bytes a page and at most as many unused; as objects they would be ninety, 24 MiB for a transaction of a gigabyte.
 */
export class SumList implements Iterable<readonly [number, bigint]> {
  #numbers = new Uint32Array(8);
  #sums = new BigUint64Array(8);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  push(pgno: number, sum: bigint): void {
    if (this.#count === this.#numbers.length) this.#grow();
    this.#numbers[this.#count] = pgno;
    this.#sums[this.#count++] = sum;
  }

  *[Symbol.iterator](): Generator<readonly [number, bigint], void> {
    for (let i = 0; i < this.#count; i++) yield [this.#numbers[i]!, this.#sums[i]!];
  }

  #grow(): void {
    const numbers = new Uint32Array(this.#count * 2);
    const sums = new BigUint64Array(this.#count * 2);
    numbers.set(this.#numbers);
    sums.set(this.#sums);
    this.#numbers = numbers;
    this.#sums = sums;
  }
}
