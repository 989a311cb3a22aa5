/**
 * The pattern "auto": whichever costs least.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import type { ClusterSpec } from "./cluster_spec.ts";
import { costModelOf } from "./cost_model.ts";
import { secondsOf } from "./simulate.ts";
import type { RedistribStep } from "./step.ts";
import { type Items, trafficOf } from "./traffic.ts";

/**
 * Takes the plan that {@linkcode simulatePlan} finds the fastest; of equals, the one with the fewest steps, and of those the first.
 *
 * @param candidates Each derives a plan. Those that cannot, because an (id, key) has no owner or the limit cannot be kept to, are left out.
 * @param items What they move.
 * @param worldSize The number of ranks.
 * @param cluster The machines.
 * @throws {PlanError} the first one's, when none can.
 */
export function planCheapest(
  candidates: readonly (() => RedistribStep[])[],
  items: Items,
  worldSize: number,
  cluster: ClusterSpec,
): RedistribStep[] {
  const costs = costModelOf(cluster, items.sizes.known);
  let best: { plan: RedistribStep[]; seconds: number } | undefined;
  let refusal: PlanError | undefined;
  for (const derive of candidates) {
    try {
      const plan = derive();
      const seconds = secondsOf(trafficOf(plan, items, worldSize), cluster.gpusPerNode, costs);
      if (
        best === undefined || seconds < best.seconds || (seconds === best.seconds && plan.length < best.plan.length)
      ) best = { plan, seconds };
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      refusal ??= error;
    }
  }
  if (best === undefined) throw refusal!;
  return best.plan;
}
