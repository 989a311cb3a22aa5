/**
 * Who wants what, arranged for planning.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { isRank } from "./check_step.ts";
import { sortCodePoints } from "./code_points.ts";

/**
 * All that a plan has to deliver. Ids that are wanted by the same ranks share one class: with data parallelism there are few classes, whatever
 * the number of ids, and what is worked out for a class need not be worked out for each id.
 */
export interface Demand {
  /** The wanted ids by code point, each once. */
  readonly ids: readonly string[];
  /** The ranks that want any, ascending. */
  readonly destinations: readonly number[];
  /** By position in `ids`, an index into `wantedBy`. */
  readonly classOf: Int32Array;
  /** By class, the ranks that want its ids, ascending. Classes without ids of their own are undefined. */
  readonly wantedBy: readonly (readonly number[] | undefined)[];
}

/**
 * Arranges `dests`. Linear in the number of (rank, id) pairs, but for sorting the ids.
 *
 * @param dests By rank the ids that it is to have. Ranks without ids count for nothing.
 * @param worldSize The number of ranks.
 * @throws {PlanError} when a rank lies outside the world, an id is not a string, or one rank names an id twice.
 */
export function arrangeDemand(dests: ReadonlyMap<number, readonly string[]>, worldSize: number): Demand {
  const destinations: number[] = [];
  for (const [rank, ids] of dests) {
    requireDestination(rank, ids, worldSize);
    if (ids.length > 0) destinations.push(rank);
  }
  destinations.sort((a, b) => a - b);

  // The sets of ranks met so far form a tree: from a set, adding a rank that is higher than all in it leads to a child. Walking the ranks in
  // ascending order takes each id from the empty set, node 0, to the set of all ranks that want it.
  const parents = [-1];
  const added = [-1];
  const nodeOf = new Map<string, { node: number; lastRank: number }>();
  for (const rank of destinations) {
    const children = new Map<number, number>();
    for (const id of dests.get(rank)!) {
      if (typeof id !== "string") {
        throw new PlanError(`dests[${rank}]: an id is a string, not ${show(id)}`, { place: `dests[${rank}]`, rank });
      }
      let at = nodeOf.get(id);
      if (at === undefined) nodeOf.set(id, at = { node: 0, lastRank: -1 });
      if (at.lastRank === rank) {
        throw new PlanError(`dests[${rank}]: id ${show(id)} is named twice`, { place: `dests[${rank}]`, rank, id });
      }
      let child = children.get(at.node);
      if (child === undefined) {
        children.set(at.node, child = parents.length);
        parents.push(at.node);
        added.push(rank);
      }
      at.node = child;
      at.lastRank = rank;
    }
  }

  const ids = sortCodePoints(nodeOf.keys());
  const wantedBy = new Array<number[] | undefined>(parents.length).fill(undefined);
  const classOf = new Int32Array(ids.length);
  for (const [i, id] of ids.entries()) {
    const { node } = nodeOf.get(id)!;
    classOf[i] = node;
    if (wantedBy[node] !== undefined) continue;
    const ranks: number[] = [];
    for (let at = node; at !== 0; at = parents[at]!) ranks.push(added[at]!);
    wantedBy[node] = ranks.reverse();
  }
  return { ids, destinations, classOf, wantedBy };
}

function requireDestination(rank: number, ids: unknown, worldSize: number): void {
  if (!isRank(rank) || rank >= worldSize) {
    throw new PlanError(`dests: a destination is a rank from 0 to ${worldSize - 1}, not ${show(rank)}`, {
      place: "dests",
      ...(typeof rank === "number" ? { rank } : {}),
    });
  }
  if (!Array.isArray(ids)) {
    throw new PlanError(`dests[${rank}]: it is a list of ids, not ${show(ids)}`, { place: `dests[${rank}]`, rank });
  }
}
