/**
 * The pattern "gather-scatter": for each key its owners send what is wanted to the lowest of them, the root, which sends each destination its
 * share. Keys with the same steps share them. The plan is the reference's, step for step.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import type { Demand } from "./demand.ts";
import { sameList } from "./same_list.ts";
import type { GatherStep, RedistribStep, ScatterStep } from "./step.ts";
import { type GlobalStorageTracker, type Holding, includesRank } from "./storage_tracker.ts";

/**
 * Derives the plan: all gathers, then all scatters. A gather of what the root has is left out, and both steps of a key that all destinations
 * have. Every owner sends whatever it holds of the wanted ids, replicas of other owners' included.
 *
 * @param demand Who wants what; at least one id.
 * @param keys The fields, each once.
 * @param tracker Who holds and owns what.
 * @throws {PlanError} that names the id and the key for which there is no owner, or a key that is given twice.
 */
export function planGatherScatter(
  demand: Demand,
  keys: readonly string[],
  tracker: GlobalStorageTracker,
): RedistribStep[] {
  if (new Set(keys).size !== keys.length) {
    const key = keys.find((key, i) => keys.indexOf(key) !== i)!;
    throw new PlanError(`keys: ${show(key)} is given twice`, { place: "keys", key });
  }
  const holdings = demand.ids.map((id) => tracker.holdingsOf(id));
  const gathers: GatherStep[] = [];
  const scatters: ScatterStep[] = [];
  for (const key of keys) {
    const ofKey = demand.ids.map((id, i) => requireOwned(holdings[i]?.get(key), id, key));
    if (allDelivered(demand, ofKey)) continue;
    const { owners, ids } = whatOwnersHold(demand, ofKey, tracker.worldSize);
    const root = owners[0]!;
    const atRoot = ids[0]!.length === demand.ids.length;
    if (!atRoot) {
      const same = gathers.find((step) =>
        step.root === root && sameList(step.srcs, owners) && sameLists(step.ids, ids)
      );
      if (same !== undefined) same.keys.push(key);
      else gathers.push({ commType: "gather", root, srcs: owners, dsts: null, ids, keys: [key] });
    }
    // Destinations and their ids are the same for all keys, so the root alone tells scatters apart.
    const same = scatters.find((step) => step.root === root);
    if (same !== undefined) {
      same.keys.push(key);
    } else {
      const dsts = [...demand.destinations];
      scatters.push({ commType: "scatter", root, srcs: null, dsts, ids: idsByDestination(demand), keys: [key] });
    }
  }
  return [...gathers, ...scatters];
}

function requireOwned(holding: Holding | undefined, id: string, key: string): Holding {
  if (holding?.owner === undefined) {
    throw new PlanError(`no rank owns key ${show(key)} of id ${show(id)}`, { id, key });
  }
  return holding;
}

/** Whether every rank has what it wants. */
function allDelivered(demand: Demand, holdings: readonly Holding[]): boolean {
  return holdings.every(({ holders }, i) =>
    demand.wantedBy[demand.classOf[i]!]!.every((rank) => includesRank(holders, rank))
  );
}

/** The owners, ascending, and what each of them holds of the wanted ids. */
function whatOwnersHold(
  demand: Demand,
  holdings: readonly Holding[],
  worldSize: number,
): { owners: number[]; ids: string[][] } {
  const placeOf = new Int32Array(worldSize).fill(-1);
  for (const { owner } of holdings) placeOf[owner!] = 0;
  const owners: number[] = [];
  for (const [rank, place] of placeOf.entries()) {
    if (place === 0) placeOf[rank] = owners.push(rank) - 1;
  }
  const ids = owners.map((): string[] => []);
  for (const [i, { holders }] of holdings.entries()) {
    for (const rank of holders) {
      const place = placeOf[rank]!;
      if (place >= 0) ids[place]!.push(demand.ids[i]!);
    }
  }
  return { owners, ids };
}

/** For each destination the ids that it wants. */
function idsByDestination(demand: Demand): string[][] {
  const byGroup: string[][] = [];
  for (const group of demand.groupOf) byGroup[group] ??= [];
  for (const [i, id] of demand.ids.entries()) {
    for (const group of demand.groupsOf[demand.classOf[i]!]!) byGroup[group]!.push(id);
  }
  return demand.groupOf.map((group) => byGroup[group]!.slice());
}

function sameLists(a: readonly (readonly unknown[])[], b: readonly (readonly unknown[])[]): boolean {
  return a.length === b.length && a.every((list, i) => sameList(list, b[i]!));
}
