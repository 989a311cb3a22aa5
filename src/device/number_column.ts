/**
 * Many numbers that cost the collector nothing.
 *
 * @module
 */

/** Numbers that a column has room for when it begins to grow. */
const SMALLEST_CAPACITY = 4;

/** Whole numbers from 0 up, of as many bytes each as the largest of them needs. */
export type Numbers = Uint8Array | Uint32Array | Float64Array;

/** None, one for all: an array costs a microsecond, an empty one too. */
export const NO_NUMBERS = new Uint32Array(0);

/** Room for numbers up to `largest`. */
export function numbersUpTo(largest: number, count: number): Numbers {
  if (largest <= 0xff) return new Uint8Array(count);
  return largest <= 0xffffffff ? new Uint32Array(count) : new Float64Array(count);
}

/** Numbers that grow in number, and in size. */
export class NumberColumn {
  #values: Numbers;
  #length: number;

  /** Begins with these, which it keeps. */
  constructor(values: Numbers = NO_NUMBERS) {
    this.#values = values;
    this.#length = values.length;
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
    if (this.#values[position] === value) return;
    this.#moveTo(numbersUpTo(value, this.#values.length));
    this.#values[position] = value;
  }

  /** Appends a number; returns its position. */
  push(value: number): number {
    const position = this.#length++;
    if (position === this.#values.length) {
      const capacity = Math.max(SMALLEST_CAPACITY, 2 * position);
      this.#moveTo(new (this.#values.constructor as { new (length: number): Numbers })(capacity));
    }
    this.set(position, value);
    return position;
  }

  #moveTo(larger: Numbers): void {
    larger.set(this.#values);
    this.#values = larger;
  }
}
