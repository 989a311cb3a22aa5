/**
 * Who wants what, arranged for planning.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { isRank } from "./check_step.ts";
import { sortCodePoints } from "./code_points.ts";
import { destinationClasses } from "./destination_classes.ts";

/** All that a plan has to deliver, by the groups and classes of {@linkcode destinationClasses}. */
export interface Demand {
  /** The wanted ids by code point, each once. */
  readonly ids: readonly string[];
  /** The ranks that want any, ascending. */
  readonly destinations: readonly number[];
  /** By position in `destinations`, the rank's group. */
  readonly groupOf: readonly number[];
  /** By position in `ids`, the id's class. */
  readonly classOf: Int32Array;
  /** By class, the groups that want its ids. */
  readonly groupsOf: readonly (readonly number[])[];
  /** By class, the ranks of those groups, ascending. */
  readonly wantedBy: readonly (readonly number[])[];
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
  const { classOf: byId, groupOf, groupsOf: pathOf, ranksOf } = destinationClasses(
    destinations.map((rank) => ({ rank, ids: dests.get(rank)! })),
    (rank, id, again) => {
      if (typeof id !== "string") {
        throw new PlanError(`dests[${rank}]: an id is a string, not ${show(id)}`, { place: `dests[${rank}]`, rank });
      }
      if (again) {
        throw new PlanError(`dests[${rank}]: id ${show(id)} is named twice`, { place: `dests[${rank}]`, rank, id });
      }
    },
  );
  const ids = sortCodePoints(byId.keys());
  const groupsOf: (readonly number[])[] = [];
  const wantedBy: (readonly number[])[] = [];
  // Classes are numbered anew, in the order in which the sorted ids show them.
  const numbers = new Map<number, number>();
  const classOf = new Int32Array(ids.length);
  for (const [i, id] of ids.entries()) {
    const { number } = byId.get(id)!;
    let known = numbers.get(number);
    if (known === undefined) {
      numbers.set(number, known = groupsOf.length);
      groupsOf.push(pathOf(number));
      wantedBy.push(ranksOf(number));
    }
    classOf[i] = known;
  }
  return { ids, destinations, groupOf, classOf, groupsOf, wantedBy };
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
