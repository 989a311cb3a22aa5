/**
 * Deriving a plan.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { planBcast } from "./bcast.ts";
import { type ClusterSpec, requireCluster } from "./cluster_spec.ts";
import { arrangeDemand } from "./demand.ts";
import { planGatherScatter } from "./gather_scatter.ts";
import type { RedistribStep } from "./step.ts";
import type { GlobalStorageTracker } from "./storage_tracker.ts";
import type { PlanMeta } from "./validate_plan.ts";

/**
 * How data travels: by way of a root ("gather-scatter"), from one holder to all that lack it ("bcast"), from owner to destination ("direct"), or
 * whichever costs least ("auto").
 */
export type Pattern = "gather-scatter" | "bcast" | "direct" | "auto";

const PATTERNS: readonly Pattern[] = ["gather-scatter", "bcast", "direct", "auto"];

/** The patterns that {@linkcode RedistribPlanner.derivePlan} has a planner for. */
export const AVAILABLE_PATTERNS: readonly Pattern[] = ["gather-scatter", "bcast"];

/** What {@linkcode RedistribPlanner.derivePlan} may be told beside who wants what. */
export interface DerivePlanOptions {
  /** The metadata of all samples. Ids and keys are then checked against it. */
  meta?: PlanMeta;
  /** The most bytes that a rank may hold for the transfer at one time. No available pattern can keep to it, so it is refused. */
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
   * @throws {PlanError} that names what is at fault: an unknown or unavailable pattern, a rank outside the tracker's world, an id that one rank
   * names twice, an (id, key) that no rank owns (for "bcast": holds).
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
    if (!AVAILABLE_PATTERNS.includes(pattern)) {
      throw new PlanError(
        `pattern: there is no planner for ${show(pattern)}; there are planners for ${
          AVAILABLE_PATTERNS.map(show).join(" and ")
        }`,
        { place: "pattern" },
      );
    }
    if (options.maxPeakBytes !== undefined) {
      throw new PlanError(`maxPeakBytes: a plan of the pattern ${show(pattern)} cannot keep to it`, {
        place: "maxPeakBytes",
      });
    }
    if (options.meta !== undefined) requireInMeta(demand.ids, keys, options.meta);
    return pattern === "bcast"
      ? planBcast(demand, keys, this.#tracker, this.#cluster.gpusPerNode)
      : planGatherScatter(demand, keys, this.#tracker);
  }
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
