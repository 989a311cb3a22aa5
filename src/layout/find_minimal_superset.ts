/**
 * Choosing a process group that has room for a step's ranks.
 *
 * @module
 */

/**
 * Finds the smallest set that contains `wanted`, the first of equals.
 *
 * @param sets Sets of ranks, in any order and with repetitions.
 * @param wanted The ranks that the set must hold.
 * @returns The set, sorted, or null where none holds them all.
 */
export function findMinimalSuperset(
  sets: readonly (readonly number[])[],
  wanted: readonly number[],
): number[] | null {
  let smallest: Set<number> | null = null;
  for (const ranks of sets) {
    const set = new Set(ranks);
    if (smallest !== null && set.size >= smallest.size) continue;
    if (wanted.every((rank) => set.has(rank))) smallest = set;
  }
  return smallest === null ? null : [...smallest].sort((a, b) => a - b);
}
