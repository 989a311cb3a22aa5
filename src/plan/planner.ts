/**
 * Deriving a plan.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { type Draft, planCheapest } from "./auto.ts";
import { bcastTraffic, bcastTransfers, planBcast } from "./bcast.ts";
import { requireStrings } from "./check_step.ts";
import { type ClusterSpec, requireCluster } from "./cluster_spec.ts";
import { costModelOf } from "./cost_model.ts";
import { arrangeDemand, type Demand } from "./demand.ts";
import { planDirect } from "./direct.ts";
import { planGatherScatter } from "./gather_scatter.ts";
import { type ItemSizes, itemSizes } from "./item_sizes.ts";
import { findLack, type LackClass, type SendLimits } from "./lack.ts";
import { type PlanMeta, requireMeta, type SizedMeta } from "./plan_meta.ts";
import { leastSecondsOfGatherScatter } from "./rooted_bound.ts";
import { countBytes } from "./simulate.ts";
import type { RedistribStep } from "./step.ts";
import type { GlobalStorageTracker } from "./storage_tracker.ts";
import { type Items, type Traffic, trafficOf } from "./traffic.ts";

/**
 * How data travels: by way of a root ("gather-scatter"), from one holder to all that lack it ("bcast"), from any holders to each destination ("direct"), or
 * whichever costs least ("auto"), broadcasts of replica groups left aside.
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
   * The most device bytes that the transfer may take on any rank beside what is stored; units where sizes are unknown. That is all that arrives there, which
   * stays until it is committed, and the packing of what leaves it in one phase: `peakBytes` of its `Program` and of `simulatePlan`. The pattern "direct"
   * splits steps to keep to it, and puts fences between the parts: exchanges without sources, behind which everything starts in a later phase. "auto" takes
   * the cheapest plan that keeps to it; the reference's patterns are refused where they do not. Beside it comes what each message is rounded up by, to 256 bytes;
   * and where `setupProcessGroups` has made replica groups, what their broadcasts have to pack, of which a planner knows nothing. "direct" makes none.
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
    this.#cluster = structuredClone(cluster);
    this.#tracker = tracker;
  }

  /**
   * Derives the plan that brings each rank the ids that it is to have, with all `keys`. What a destination has already is left out where the
   * pattern allows. Without `meta` every (id, key) counts as one unit of size. An empty set of destinations gives an empty plan.
   *
   * @param dests By rank the ids that it is to have, in any order.
   * @param keys The fields that are to travel. One that is named twice counts once; "gather-scatter" refuses it.
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
    requireStrings(keys, "keys", "key");
    const { meta, maxPeakBytes } = options;
    if (meta !== undefined) requireMeta(meta);
    if (maxPeakBytes !== undefined) requireLimit(maxPeakBytes);
    const demand = arrangeDemand(dests, this.#tracker.worldSize);
    if (demand.ids.length === 0) return [];
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
    const cluster = { worldSize, gpusPerNode };
    const within = (draft: Draft): Draft => requireWithin(draft, gpusPerNode, maxPeakBytes);
    const bcast = (): Draft => {
      const transfers = bcastTransfers(demand, keys, tracker, gpusPerNode);
      return {
        traffic: () => bcastTraffic(transfers, items, worldSize),
        steps: () => transfers.queueOf.length,
        plan: () => planBcast(transfers, ids, worldSize),
      };
    };
    const gatherScatter = (): Draft => {
      const plan = planGatherScatter(demand, keys, tracker);
      return { traffic: () => trafficOf(plan, items, worldSize), steps: () => plan.length, plan: () => plan };
    };
    if (pattern === "bcast") return within(bcast()).plan();
    if (pattern === "gather-scatter") return within(gatherScatter()).plan();
    const classes = findLack(demand, distinctKeys, tracker, gpusPerNode, items.sizes);
    const direct = (): Draft => {
      const draft = planDirect(classes, items, cluster);
      if (maxPeakBytes === undefined || busiest(draft.traffic(), gpusPerNode).bytes <= maxPeakBytes) return draft;
      const limits = sendLimits(classes, items.sizes, worldSize, maxPeakBytes);
      const lack = findLack(demand, distinctKeys, tracker, gpusPerNode, items.sizes, limits);
      return within(planDirect(lack, items, cluster, limits));
    };
    if (pattern === "direct") return direct().plan();
    const costs = costModelOf(this.#cluster, items.sizes.known);
    const place = { worldSize, gpusPerNode, costs };
    return planCheapest(
      [
        { draft: direct },
        { draft: () => within(bcast()) },
        {
          draft: () => within(gatherScatter()),
          atLeast: () => leastSecondsOfGatherScatter(classes, items.sizes, place),
        },
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

/** Gives the draft back, if no rank's peak is above `maxPeakBytes`. */
function requireWithin(draft: Draft, gpusPerNode: number, maxPeakBytes: number | undefined): Draft {
  if (maxPeakBytes === undefined) return draft;
  const { rank, bytes, received } = busiest(draft.traffic(), gpusPerNode);
  if (bytes <= maxPeakBytes) return draft;
  throw new PlanError(
    `maxPeakBytes: rank ${rank} would take ${bytes} bytes, of which ${received} arrive and ${
      bytes - received
    } leave in one phase, ` +
      `and may take ${maxPeakBytes}; the pattern "direct" can split its steps`,
    { place: "maxPeakBytes", rank },
  );
}

/** The rank with the highest peak, the lowest of equals. */
function busiest(traffic: Traffic, gpusPerNode: number): { rank: number; bytes: number; received: number } {
  const { peakBytes, bytesIntoRank } = countBytes(traffic, gpusPerNode);
  const rank = peakBytes.reduce((most, bytes, rank) => bytes > peakBytes[most]! ? rank : most, 0);
  return { rank, bytes: peakBytes[rank]!, received: bytesIntoRank[rank]! };
}

/**
 * What ranks can send under `maxPeakBytes` beside what they receive.
 *
 * @throws {PlanError} that names a rank which receives more than that.
 */
function sendLimits(
  classes: readonly LackClass[],
  sizes: ItemSizes,
  worldSize: number,
  maxPeakBytes: number,
): SendLimits {
  const room = new Float64Array(worldSize).fill(maxPeakBytes);
  let largest = 0;
  for (const { shape: { lacking }, keys, ids, begin, end, totalBytes } of classes) {
    for (const rank of lacking) room[rank]! -= totalBytes;
    for (const k of keys) for (let i = begin; i < end; i++) largest = Math.max(largest, sizes.byKey[k]![ids[i]!]!);
  }
  for (const [rank, bytes] of room.entries()) {
    if (bytes >= 0) continue;
    throw new PlanError(
      `maxPeakBytes: rank ${rank} is to receive ${
        maxPeakBytes - bytes
      } bytes, which stay until they are committed, and may take ${maxPeakBytes}`,
      { place: "maxPeakBytes", rank },
    );
  }
  return { room, relays: Uint8Array.from(room, (bytes) => bytes >= largest ? 1 : 0) };
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
