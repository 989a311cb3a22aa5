/**
 * Random numbers that a seed brings back.
 *
 * @module
 */

import { hashOf } from "../../src/hash.ts";

/** A generator of numbers from 0 up to 1, 1 excluded (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * `count` of the items, in an order that the seed decides for each name by itself: whatever else there is, the same names stand in the same order.
 */
export function drawn<T extends { readonly name: string }>(items: readonly T[], count: number, seed: number): T[] {
  return items.map((item) => ({ item, rank: random(hashOf(item.name, seed))() }))
    .sort((a, b) => a.rank - b.rank || (a.item.name < b.item.name ? -1 : 1))
    .slice(0, count)
    .map(({ item }) => item);
}
