/**
 * The movements of a step: which rank sends which ids to which ranks.
 *
 * @module
 */

import { deliveriesOf, type RedistribStep } from "./step.ts";

/** Ids that one rank sends to the same ranks. */
export interface Movement {
  /** The rank that has them. */
  readonly source: number;
  /** The ranks that are to have them, ascending; the source may be among them. */
  readonly destinations: readonly number[];
  /** The ids, with all keys of the step. */
  readonly ids: readonly string[];
  /** Whether the source sends to each destination itself. Else one copy leaves it, and those that have it pass it on. */
  readonly direct: boolean;
}

/** The movements of one step; ids of a scatter that go to the same destinations travel together. */
export function movementsOf(step: RedistribStep): Movement[] {
  if (step.commType !== "scatter") {
    const direct = step.commType === "exchange";
    return deliveriesOf(step).map(({ src, dsts, ids }) => ({
      source: src,
      destinations: ascendingRanks(dsts),
      ids,
      direct,
    }));
  }
  // As in a tree: the set of destinations so far, and by the next destination the set with it.
  interface DstSet {
    readonly destinations: readonly number[];
    readonly with: Map<number, DstSet>;
    readonly ids: string[];
  }
  const sets: DstSet[] = [];
  const setOf = new Map<string, DstSet>();
  const root: DstSet = { destinations: [], with: new Map(), ids: [] };
  const order = step.dsts.map((dst, i) => ({ dst, ids: step.ids[i]! })).sort((a, b) => a.dst - b.dst);
  for (const { dst, ids } of order) {
    for (const id of ids) {
      const set = setOf.get(id) ?? root;
      let larger = set.with.get(dst);
      if (larger === undefined) {
        set.with.set(dst, larger = { destinations: [...set.destinations, dst], with: new Map(), ids: [] });
        sets.push(larger);
      }
      setOf.set(id, larger);
    }
  }
  for (const [id, set] of setOf) set.ids.push(id);
  return sets.filter(({ ids }) => ids.length > 0)
    .map(({ destinations, ids }) => ({ source: step.root, destinations, ids, direct: false }));
}

function ascendingRanks(ranks: readonly number[]): readonly number[] {
  for (let i = 1; i < ranks.length; i++) if (ranks[i]! < ranks[i - 1]!) return [...ranks].sort((a, b) => a - b);
  return ranks;
}
