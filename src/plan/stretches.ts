/**
 * Arrays of numbers, and lists that lie one after another in one.
 *
 * @module
 */

import type { Scratch } from "../scratch.ts";

/** How often each number below `end` is in a list; negative ones do not count. `counts` takes them: as many zeros. */
export function countsOf(
  numbers: ArrayLike<number>,
  end: number,
  counts: Int32Array = new Int32Array(end),
): Int32Array {
  for (let i = 0; i < numbers.length; i++) if (numbers[i]! >= 0) counts[numbers[i]!]!++;
  return counts;
}

/**
 * Where each of stretches of these lengths begins when they lie one after another, and where the last one ends. `starts` takes them: one more than there are
 * lengths.
 */
export function startsOf(lengths: Int32Array, starts: Int32Array = new Int32Array(lengths.length + 1)): Int32Array {
  starts[0] = 0;
  for (let i = 0; i < lengths.length; i++) starts[i + 1] = starts[i]! + lengths[i]!;
  return starts;
}

/** The largest of some numbers from 0 up; 0 where there are none. Of any count, while a call takes only so many arguments. */
export function largestOf(numbers: Float64Array): number {
  let largest = 0;
  for (let i = 0; i < numbers.length; i++) if (numbers[i]! > largest) largest = numbers[i]!;
  return largest;
}

/** The numbers from `begin` to before `end`, in place: as `subarray` does, several times faster. */
export function stretchOf(numbers: Int32Array, begin: number, end: number): Int32Array {
  return new Int32Array(numbers.buffer, numbers.byteOffset + begin * numbers.BYTES_PER_ELEMENT, end - begin);
}

/** The same numbers with room for `length` at least, and for twice as many as before. */
export function grown(list: Int32Array, length: number): Int32Array {
  const larger = new Int32Array(Math.max(length, 2 * list.length));
  larger.set(list);
  return larger;
}

/** Calls `visit` with where each stretch of numbers that follow each other begins, and the number behind it. */
export function forEachStretch(numbers: Int32Array | Uint32Array, visit: (begin: number, end: number) => void): void {
  for (let i = 0, end = 0; i < numbers.length; i = end) {
    const before = i - numbers[i]!;
    for (end = i + 1; end < numbers.length && end - numbers[end]! === before;) end++;
    visit(numbers[i]!, end - before);
  }
}

/** What sets have. */
export interface Members {
  /** Of each set from 1 on what is in it, ascending, one set behind the other. */
  readonly all: Int32Array;
  /** By set where it ends, which is where the next one begins. */
  readonly ends: Int32Array;
}

/** What is in each set, by the numbers of their sets; set 0 is left out. Good until `scratch` is reset. */
export function membersOf(setOf: Int32Array, sets: number, scratch: Scratch): Members {
  const counts = countsOf(setOf, sets, scratch.int32(sets));
  counts[0] = 0;
  const ends = startsOf(counts, scratch.int32(sets + 1));
  const all = scratch.int32(ends[sets]!);
  putInOrder(setOf, all, ends);
  return { all, ends };
}

/** Puts what is in a set other than 0 where its set begins, which moves on to where it ends. */
function putInOrder(setOf: Int32Array, all: Int32Array, begins: Int32Array): void {
  for (let one = 0; one < setOf.length; one++) if (setOf[one]! > 0) all[begins[setOf[one]!]!++] = one;
}
