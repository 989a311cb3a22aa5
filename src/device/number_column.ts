/**
 * Many numbers that cost the collector nothing.
 *
 * @module
 */

/** Numbers that a column has room for when it begins to grow. */
const SMALLEST_CAPACITY = 4;

/** Numbers that grow in number, kept as an array of the kind that they came in. */
export class NumberColumn {
  #values: Float64Array | Uint32Array;
  #length: number;

  /** Keeps `values`, of which the first `length` are there already; the rest is room. */
  constructor(values: Float64Array | Uint32Array, length: number = values.length) {
    this.#values = values;
    this.#length = length;
  }

  /** How many there are. */
  get length(): number {
    return this.#length;
  }

  /** The number at a position. */
  at(position: number): number {
    return this.#values[position]!;
  }

  /** Replaces the number at a position. */
  set(position: number, value: number): void {
    this.#values[position] = value;
  }

  /** Appends a number; returns its position. */
  push(value: number): number {
    if (this.#length === this.#values.length) {
      const capacity = Math.max(SMALLEST_CAPACITY, 2 * this.#length);
      const larger = this.#values instanceof Uint32Array ? new Uint32Array(capacity) : new Float64Array(capacity);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length] = value;
    return this.#length++;
  }
}
