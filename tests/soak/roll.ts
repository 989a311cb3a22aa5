/**
 * Random numbers that follow from a seed and from where they are used.
 *
 * @module
 */

import { random } from "../faults/draw.ts";
import type { Roll } from "../properties/random_plan.ts";

/** The rolls of a lap or a round; the same seed and number give the same ones. */
export function rollOf(seed: number, number: number): Roll {
  const next = random(seed * 1_000_003 + number);
  return (sides) => Math.floor(next() * sides);
}

/** One of a list. */
export function pick<T>(roll: Roll, list: readonly T[]): T {
  return list[roll(list.length)]!;
}
