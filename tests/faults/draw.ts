/**
 * Random numbers that a seed brings back.
 *
 * @module
 */

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

/** `count` of the items, in random order. */
export function drawn<T>(items: readonly T[], count: number, seed: number): T[] {
  const next = random(seed);
  const rest = [...items];
  const taken: T[] = [];
  while (taken.length < count && rest.length > 0) {
    const [item] = rest.splice(Math.floor(next() * rest.length), 1);
    taken.push(item!);
  }
  return taken;
}
