/**
 * Where ids stand in their list.
 *
 * @module
 */

/** The positions of ids; of those that are there several times the last. */
export function positionsOfIds(ids: readonly string[]): Map<string, number> {
  const positions = new Map<string, number>();
  for (let i = 0; i < ids.length; i++) positions.set(ids[i]!, i);
  return positions;
}
