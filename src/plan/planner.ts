/**
 * Deriving a plan.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { type Candidate, planCheapest } from "./auto.ts";
import { planBcast } from "./bcast.ts";
import { type ClusterSpec, requireCluster } from "./cluster_spec.ts";
import { costModelOf } from "./cost_model.ts";
import { arrangeDemand, type Demand } from "./demand.ts";
import { planDirect } from "./direct.ts";
import { planGatherScatter } from "./gather_scatter.ts";
import { itemSizes, type SizedMeta } from "./item_sizes.ts";
import { findLack } from "./lack.ts";
import { leastSecondsOfBcast, leastSecondsOfGatherScatter } from "./rooted_bounds.ts";
import type { RedistribStep } from "./step.ts";
import type { GlobalStorageTracker } from "./storage_tracker.ts";
import { busiestRanks, type Items, trafficOf } from "./traffic.ts";
import type { PlanMeta } from "./validate_plan.ts";

/**
 * How data travels: by way of a root ("gather-scatter"), from one holder to all that lack it ("bcast"), from owner to destination ("direct"), or
 * whichever costs least ("auto").
 */
export type Pattern = "gather-scatter" | "bcast" | "direct" | "auto";

const PATTERNS: readonly Pattern[] = ["gather-scatter", "bcast", "direct", "auto"];

/** The patterns that {@linkcode RedistribPlanner.derivePlan} has a planner for. */
export const AVAILABLE_PATTERNS: readonly Pattern[] = PATTERNS;

/** What {@linkcode RedistribPlanner.derivePlan} may be told beside who wants what. */
export interface DerivePlanOptions {
  /** The metadata of all samples. Ids and keys are then checked against it, and its lengths tell how large they are. */
  meta?: SizedMeta;
  /**
   * The most bytes that a rank may have under way in one step, coming and going together; units where sizes are unknown. The pattern "direct" splits
   * steps to keep to it; "auto" takes the cheapest plan that does; the reference's patterns are refused where they do not.
   */
  maxPeakBytes?: number;
}

/** Derives plans from what a tracker knows, which it does not change. Equal inputs give equal plans, byte for byte. */
export class RedistribPlanner {
  readonly #cluster: ClusterSpec;
  readonly #tracker: GlobalStorageTracker;

  /**
   * Plans for a cluster.
   *
   * @param cluster The machines.
   * @param tracker Who holds and owns what, looked up anew for each plan.
   * @throws {PlanError} when a field of `cluster` is not valid.
   */
  constructor(cluster: ClusterSpec, tracker: GlobalStorageTracker) {
    requireCluster(cluster);
    this.#cluster = cluster;
    this.#tracker = tracker;
  }

  /**
   * Derives the plan that brings each rank the ids that it is to have, with all `keys`. What a destination has already is left out where the
   * pattern allows. Without `meta` every (id, key) counts as one unit of size. An empty set of destinations gives an empty plan.
   *
   * @param dests By rank the ids that it is to have, in any order.
   * @param keys The fields that are to travel.
   * @param pattern How.
   * @param options The metadata, where it is known.
   * @throws {PlanError} that names what is at fault: an unknown pattern, a rank outside the tracker's world, an id that one rank names twice, an
   * (id, key) that no rank owns ("gather-scatter") or holds (the others), the rank and its bytes where `maxPeakBytes` cannot be kept to.
   */
  derivePlan(
    dests: ReadonlyMap<number, readonly string[]>,
    keys: readonly string[],
    pattern: Pattern,
    options: DerivePlanOptions = {},
  ): RedistribStep[] {
    if (!PATTERNS.includes(pattern)) {
      throw new PlanError(`pattern: it is one of ${PATTERNS.map(show).join(", ")}, not ${show(pattern)}`, {
        place: "pattern",
      });
    }
    if (!(dests instanceof Map)) {
      throw new PlanError(`dests: it is a Map of ids by rank, not ${show(dests)}`, { place: "dests" });
    }
    requireKeys(keys);
    const demand = arrangeDemand(dests, this.#tracker.worldSize);
    if (demand.ids.length === 0) return [];
    const { meta, maxPeakBytes } = options;
    if (maxPeakBytes !== undefined) requireLimit(maxPeakBytes);
    if (meta !== undefined) requireInMeta(demand.ids, keys, meta);
    return this.#derive(demand, keys, pattern, meta, maxPeakBytes);
  }

  #derive(
    demand: Demand,
    keys: readonly string[],
    pattern: Pattern,
    meta: SizedMeta | undefined,
    maxPeakBytes: number | undefined,
  ): RedistribStep[] {
    const tracker = this.#tracker;
    const { worldSize } = tracker;
    const { gpusPerNode } = this.#cluster;
    const distinctKeys = [...new Set(keys)];
    const { ids } = demand;
    const items: Items = { ids, keys: distinctKeys, sizes: itemSizes(ids, distinctKeys, meta) };
    const bcast = () => requireWithin(planBcast(demand, keys, tracker, gpusPerNode), items, maxPeakBytes);
    const gatherScatter = () => requireWithin(planGatherScatter(demand, keys, tracker), items, maxPeakBytes);
    if (pattern === "bcast") return bcast();
    if (pattern === "gather-scatter") return gatherScatter();
    const classes = findLack(demand, distinctKeys, tracker, gpusPerNode, items.sizes);
    const direct = () => planDirect(classes, items, { worldSize, gpusPerNode }, maxPeakBytes);
    if (pattern === "direct") return direct().plan;
    const costs = costModelOf(this.#cluster, items.sizes.known);
    const place = { worldSize, gpusPerNode, costs };
    const rooted = (derive: () => RedistribStep[], atLeast: () => number): Candidate => ({
      atLeast,
      derive: () => {
        const plan = derive();
        return { plan, traffic: () => trafficOf(plan, items, worldSize) };
      },
    });
    return planCheapest(
      [
        { derive: direct },
        rooted(bcast, () => leastSecondsOfBcast(classes, place)),
        rooted(gatherScatter, () => leastSecondsOfGatherScatter(classes, items.sizes, place)),
      ],
      gpusPerNode,
      costs,
    );
  }
}

function requireLimit(maxPeakBytes: unknown): void {
  if (typeof maxPeakBytes !== "number" || !(maxPeakBytes >= 0)) {
    throw new PlanError(`maxPeakBytes: it is a number from 0 up, not ${show(maxPeakBytes)}`, { place: "maxPeakBytes" });
  }
}

/** Gives the plan back, if no rank has more under way in a step than `maxPeakBytes`. */
function requireWithin(plan: RedistribStep[], items: Items, maxPeakBytes: number | undefined): RedistribStep[] {
  if (maxPeakBytes === undefined) return plan;
  for (const [i, { rank, bytes }] of busiestRanks(plan, items).entries()) {
    if (bytes <= maxPeakBytes) continue;
    throw new PlanError(
      `maxPeakBytes: rank ${rank} has ${bytes} bytes under way in step ${i}, a ${plan[i]!.commType}, ` +
        `and may have ${maxPeakBytes}; the pattern "direct" can split its steps`,
      { place: "maxPeakBytes", rank },
    );
  }
  return plan;
}

function requireKeys(keys: readonly string[]): void {
  if (!Array.isArray(keys)) throw new PlanError(`keys: it is a list, not ${show(keys)}`, { place: "keys" });
  for (const [i, key] of keys.entries()) {
    if (typeof key !== "string") {
      throw new PlanError(`keys[${i}]: a key is a string, not ${show(key)}`, { place: `keys[${i}]` });
    }
  }
}

function requireInMeta(ids: readonly string[], keys: readonly string[], meta: PlanMeta): void {
  const known = new Set(meta.ids);
  for (const id of ids) {
    if (!known.has(id)) throw new PlanError(`the metadata has no id ${show(id)}`, { place: "dests", id });
  }
  for (const key of keys) {
    if (!meta.keys.includes(key)) throw new PlanError(`the metadata has no key ${show(key)}`, { place: "keys", key });
  }
}
