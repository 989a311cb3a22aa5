/**
 * The movements of a step: which rank sends which ids to which ranks.
 *
 * @module
 */

import type { RedistribStep } from "./step.ts";

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

/** Takes a movement, and where in `ids` the positions of its ids begin and end. */
export type VisitMovement<Ids = Int32Array> = (movement: Movement, ids: Ids, begin: number, end: number) => void;

/** The lists of ids of a step. */
function idListsOf(step: RedistribStep): readonly (readonly string[])[] {
  return step.commType === "bcast" ? [step.ids] : step.ids;
}

/** The positions of all ids of a valid plan, one after another as its steps have them. `positions` has all of them. */
export function positionsOf(plan: readonly RedistribStep[], positions: ReadonlyMap<string, number>): Int32Array {
  let count = 0;
  for (const step of plan) {
    if (step.commType === "bcast") count += step.ids.length;
    else for (const ids of step.ids) count += ids.length;
  }
  const places = new Int32Array(count);
  let at = 0;
  for (const step of plan) {
    for (const ids of idListsOf(step)) for (let i = 0; i < ids.length; i++) places[at++] = positions.get(ids[i]!)!;
  }
  return places;
}

/** The same of positions that are known by step. */
export function joinPositions(positions: readonly IdPositions[]): Int32Array {
  let count = 0;
  for (const lists of positions) for (const ids of lists) count += ids.length;
  const places = new Int32Array(count);
  let at = 0;
  for (const lists of positions) for (const ids of lists) for (let i = 0; i < ids.length; i++) places[at++] = ids[i]!;
  return places;
}

/**
 * Calls `visit` with each movement of a plan.
 *
 * Ids of a scatter that go to the same destinations travel together. What one rank sends to several is cut into as many shares as there are destinations, or
 * ids where those are fewer, one behind the other and equally many ids each.
 *
 * @param plan Valid steps.
 * @param positions Those of all its ids, as {@linkcode positionsOf} gives them.
 * @param visit Told the position of the step too.
 */
export function forEachMovement(
  plan: readonly RedistribStep[],
  positions: Int32Array,
  visit: (step: number, ...movement: Parameters<VisitMovement>) => void,
): void {
  let at = 0;
  let n = 0;
  const visitOne: VisitMovement = (movement, ids, begin, end) => visit(n, movement, ids, begin, end);
  for (; n < plan.length; n++) {
    const step = plan[n]!;
    switch (step.commType) {
      case "bcast":
        inShares(step.root, ascendingRanks(step.dsts), positions, at, at += step.ids.length, visitOne);
        break;
      case "gather": {
        const destinations = [step.root];
        for (let i = 0; i < step.srcs.length; i++) {
          inShares(step.srcs[i]!, destinations, positions, at, at += step.ids[i]!.length, visitOne);
        }
        break;
      }
      case "scatter": {
        const lists = step.ids.map((ids) => positions.subarray(at, at += ids.length));
        for (const { destinations, ids } of destinationSetsOf(step.dsts, lists)) {
          inShares(step.root, destinations, ids, 0, ids.length, visitOne);
        }
        break;
      }
      case "exchange":
        for (let i = 0; i < step.srcs.length; i++) {
          const destinations = ascendingRanks(step.dsts[i]!);
          const movement = { source: step.srcs[i]!, destinations, direct: true, turn: 0, turns: 1 };
          visitOne(movement, positions, at, at += step.ids[i]!.length);
        }
    }
  }
}

/** Calls `visit` with each share of what `source` sends to `destinations`: the ids whose positions stand from `begin` to `end`. */
export function inShares<Ids>(
  source: number,
  destinations: readonly number[],
  ids: Ids,
  begin: number,
  end: number,
  visit: VisitMovement<Ids>,
): void {
  const count = end - begin;
  const receivers = destinations.includes(source) ? destinations.length - 1 : destinations.length;
  const turns = Math.max(1, Math.min(receivers, count));
  for (let turn = 0; turn < turns; turn++) {
    visit(
      { source, destinations, direct: false, turn, turns },
      ids,
      begin + Math.floor(count * turn / turns),
      begin + Math.floor(count * (turn + 1) / turns),
    );
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
