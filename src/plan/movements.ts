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
  /** Whether the source sends to each destination itself. Else one copy leaves it, and those that have it pass it on. */
  readonly direct: boolean;
  /** Which share of what goes from this source to these destinations in this step: from 0 on. It decides who passes it on. */
  readonly turn: number;
  /** How many shares there are. */
  readonly turns: number;
}

/** The positions of a step's ids, in the lists in which the step has them; a bcast's in one list. */
export type IdPositions = readonly Int32Array[];

/** The lists of ids of a step. */
export function idListsOf(step: RedistribStep): readonly (readonly string[])[] {
  return step.commType === "bcast" ? [step.ids] : step.ids;
}

/** The positions of a valid step's ids. `positions` has all of them. */
export function positionsOf(step: RedistribStep, positions: ReadonlyMap<string, number>): IdPositions {
  return idListsOf(step).map((ids) => {
    const places = new Int32Array(ids.length);
    for (let i = 0; i < ids.length; i++) places[i] = positions.get(ids[i]!)!;
    return places;
  });
}

/**
 * Calls `visit` with each movement of one step, and the positions of its ids.
 *
 * Ids of a scatter that go to the same destinations travel together. What one rank sends to several is cut into as many shares as there are destinations, or
 * ids where those are fewer, one behind the other and equally many ids each.
 */
export function forEachMovement(
  step: RedistribStep,
  positions: IdPositions,
  visit: (movement: Movement, ids: Int32Array) => void,
): void {
  if (step.commType === "scatter") {
    for (const { destinations, ids } of destinationSetsOf(step.dsts, positions)) {
      inShares(step.root, destinations, ids, visit);
    }
    return;
  }
  const direct = step.commType === "exchange";
  deliveriesOf(step).forEach(({ src, dsts }, i) => {
    const destinations = ascendingRanks(dsts);
    const ids = positions[i]!;
    if (direct) visit({ source: src, destinations, direct, turn: 0, turns: 1 }, ids);
    else inShares(src, destinations, ids, visit);
  });
}

/** Calls `visit` with each share of what `source` sends to `destinations`, and the positions of its ids. */
export function inShares(
  source: number,
  destinations: readonly number[],
  ids: Int32Array,
  visit: (movement: Movement, ids: Int32Array) => void,
): void {
  const receivers = destinations.includes(source) ? destinations.length - 1 : destinations.length;
  const turns = Math.max(1, Math.min(receivers, ids.length));
  for (let turn = 0; turn < turns; turn++) {
    const [from, to] = [Math.floor(ids.length * turn / turns), Math.floor(ids.length * (turn + 1) / turns)];
    visit({ source, destinations, direct: false, turn, turns }, ids.subarray(from, to));
  }
}

/** Ids that a scatter sends to the same ranks. */
interface DestinationSet {
  readonly destinations: readonly number[];
  readonly ids: Int32Array;
}

/** By set of destinations the ids that go there; in the order in which the ranks, ascending, name them. */
function destinationSetsOf(dsts: readonly number[], positions: IdPositions): DestinationSet[] {
  // As in a tree: the set of destinations so far, and by the next destination the set with it.
  interface Node {
    readonly destinations: readonly number[];
    readonly with: Map<number, Node>;
    readonly ids: number[];
  }
  const order = dsts.map((dst, i) => ({ dst, ids: positions[i]! })).sort((a, b) => a.dst - b.dst);
  const nodes: Node[] = [];
  const root: Node = { destinations: [], with: new Map(), ids: [] };
  const nodeOf = new Map<number, Node>();
  for (const { dst, ids } of order) {
    for (const id of ids) {
      const node = nodeOf.get(id) ?? root;
      let larger = node.with.get(dst);
      if (larger === undefined) {
        node.with.set(dst, larger = { destinations: [...node.destinations, dst], with: new Map(), ids: [] });
        nodes.push(larger);
      }
      nodeOf.set(id, larger);
    }
  }
  for (const [id, node] of nodeOf) node.ids.push(id);
  return nodes.filter(({ ids }) => ids.length > 0).map(({ destinations, ids }) => ({
    destinations,
    ids: Int32Array.from(ids),
  }));
}

function ascendingRanks(ranks: readonly number[]): readonly number[] {
  for (let i = 1; i < ranks.length; i++) if (ranks[i]! < ranks[i - 1]!) return [...ranks].sort((a, b) => a - b);
  return ranks;
}
