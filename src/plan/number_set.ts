/**
 * Sets of numbers.
 *
 * @module
 */

/** Numbers below a limit, which come out in ascending order without being sorted. */
export class NumberSet {
  /** A bit for each number. */
  readonly #bits: Int32Array;
  /** A bit for each element of `#bits` that has any. */
  readonly #filled: Int32Array;
  readonly #taken: Int32Array;

  /** For numbers from 0 to before `limit`. */
  constructor(limit: number) {
    this.#bits = new Int32Array((limit + 31) >>> 5);
    this.#filled = new Int32Array((this.#bits.length + 31) >>> 5);
    this.#taken = new Int32Array(limit);
  }

  /** Adds a number. */
  add(n: number): void {
    const at = n >>> 5;
    this.#bits[at]! |= 1 << (n & 31);
    this.#filled[at >>> 5]! |= 1 << (at & 31);
  }

  /** Empties the set. Returns what was in it, ascending, which is good until the next call. */
  takeAll(): Int32Array {
    const bits = this.#bits;
    const filled = this.#filled;
    const taken = this.#taken;
    let count = 0;
    for (let i = 0; i < filled.length; i++) {
      for (let left = filled[i]!; left !== 0; left &= left - 1) {
        const at = (i << 5) + lowestBit(left);
        for (let left = bits[at]!; left !== 0; left &= left - 1) taken[count++] = (at << 5) + lowestBit(left);
        bits[at] = 0;
      }
      filled[i] = 0;
    }
    return taken.subarray(0, count);
  }
}

/** The place of the lowest bit that is set. */
function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}
