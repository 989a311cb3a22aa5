/**
 * Many numbers that cost the collector nothing.
 *
 * @module
 */

/** Numbers that grow in number; 8 bytes each. */
export class NumberColumn {
  #values: Float64Array;
  #length = 0;

  /** Has room for `capacity` numbers before it has to grow. */
  constructor(capacity: number) {
    this.#values = new Float64Array(capacity);
  }

  /** The number at a position. */
  at(position: number): number {
    return this.#values[position]!;
  }

  /** Appends a number. */
  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Float64Array(Math.max(4, 2 * this.#length));
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }
}
