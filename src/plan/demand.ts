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
 * All that a plan has to deliver. With data parallelism many ranks want the same ids, and there are few sets of ranks that want something,
 * whatever the number of ids. So ranks with equal lists form a group, ids that are wanted by the same groups form a class, and what is worked
 * out for a group or a class need not be worked out for each rank or id.
 */
export interface Demand {
  /** The wanted ids by code point, each once. */
  readonly ids: readonly string[];
  /** The ranks that want any, ascending. */
  readonly destinations: readonly number[];
  /** By position in `destinations`, the rank's group. */
  readonly groupOf: readonly number[];
  /** By position in `ids`, the id's class. */
  readonly classOf: Int32Array;
  /** By class, the groups that want its ids. Numbers that no id has as its class hold undefined. */
  readonly groupsOf: readonly (readonly number[] | undefined)[];
  /** By class, the ranks of those groups, ascending. */
  readonly wantedBy: readonly (readonly number[] | undefined)[];
}

/** Ranks with equal lists. */
interface Group {
  readonly ranks: number[];
  readonly ids: readonly string[];
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
  const { groups, groupOf } = groupEqualLists(dests, destinations);

  // The sets of groups met so far form a tree: adding a group to a set leads to a child. Going through the groups in order takes each id from
  // the empty set, node 0, to the set of all groups that want it. That node is its class.
  const parents = [-1];
  const added = [-1];
  const nodeOf = new Map<string, { node: number; lastGroup: number }>();
  for (const [g, { ranks, ids }] of groups.entries()) {
    const children = new Map<number, number>();
    const rank = ranks[0]!;
    for (const id of ids) {
      if (typeof id !== "string") {
        throw new PlanError(`dests[${rank}]: an id is a string, not ${show(id)}`, { place: `dests[${rank}]`, rank });
      }
      let at = nodeOf.get(id);
      if (at === undefined) nodeOf.set(id, at = { node: 0, lastGroup: -1 });
      if (at.lastGroup === g) {
        throw new PlanError(`dests[${rank}]: id ${show(id)} is named twice`, { place: `dests[${rank}]`, rank, id });
      }
      let child = children.get(at.node);
      if (child === undefined) {
        children.set(at.node, child = parents.length);
        parents.push(at.node);
        added.push(g);
      }
      at.node = child;
      at.lastGroup = g;
    }
  }

  const ids = sortCodePoints(nodeOf.keys());
  const groupsOf = new Array<number[] | undefined>(parents.length).fill(undefined);
  const wantedBy = new Array<number[] | undefined>(parents.length).fill(undefined);
  const classOf = new Int32Array(ids.length);
  for (const [i, id] of ids.entries()) {
    const { node } = nodeOf.get(id)!;
    classOf[i] = node;
    if (groupsOf[node] !== undefined) continue;
    const path: number[] = [];
    for (let at = node; at !== 0; at = parents[at]!) path.push(added[at]!);
    groupsOf[node] = path;
    wantedBy[node] = path.flatMap((g) => groups[g]!.ranks).sort((a, b) => a - b);
  }
  return { ids, destinations, groupOf, classOf, groupsOf, wantedBy };
}

/** How many earlier lists with the same first id a list is compared to. */
const MOST_COMPARISONS = 4;

/**
 * Puts ranks whose lists are equal, in the same order, into one group. Equal lists that are not recognized, because they are in another order
 * or because many lists begin alike, only cost time.
 */
function groupEqualLists(
  dests: ReadonlyMap<number, readonly string[]>,
  destinations: readonly number[],
): { groups: Group[]; groupOf: number[] } {
  const groups: Group[] = [];
  /** Groups by the first id of their list. */
  const byFirst = new Map<string, number[]>();
  const groupOf = destinations.map((rank) => {
    const ids = dests.get(rank)!;
    let candidates = byFirst.get(ids[0]!);
    if (candidates === undefined) byFirst.set(ids[0]!, candidates = []);
    let g = candidates.slice(-MOST_COMPARISONS).find((g) => equalLists(groups[g]!.ids, ids));
    if (g === undefined) candidates.push(g = groups.push({ ranks: [], ids }) - 1);
    groups[g]!.ranks.push(rank);
    return g;
  });
  return { groups, groupOf };
}

function equalLists(a: readonly string[], b: readonly string[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length || a.at(-1) !== b.at(-1)) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
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
