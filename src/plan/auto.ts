/**
 * The pattern "auto": whichever costs least.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import type { CostModel } from "./cluster_spec.ts";
import { secondsOf } from "./simulate.ts";
import type { RedistribStep } from "./step.ts";
import type { Traffic } from "./traffic.ts";

/** A way to derive a plan. */
export interface Candidate {
  /** Seconds that the plan takes at least, where that is known beforehand. */
  readonly atLeast?: () => number;
  /** Derives it; works its traffic out when asked. */
  readonly derive: () => { readonly plan: RedistribStep[]; readonly traffic: () => Traffic };
}

/**
 * Takes the plan that {@linkcode simulatePlan} finds the fastest; of equals, the one with the fewest steps, and of those the first.
 *
 * @param candidates Those that cannot derive a plan, because an (id, key) has no owner or the limit cannot be kept to, are left out; so are those that
 * take longer than the best so far in any case.
 * @param gpusPerNode Ranks on one node.
 * @param costs What links cost.
 * @throws {PlanError} the first one's, when none can.
 */
export function planCheapest(
  candidates: readonly Candidate[],
  gpusPerNode: number,
  costs: CostModel,
): RedistribStep[] {
  let best: { plan: RedistribStep[]; seconds: number } | undefined;
  let refusal: PlanError | undefined;
  for (const { derive, atLeast } of candidates) {
    if (best !== undefined && atLeast !== undefined && atLeast() > best.seconds) continue;
    try {
      const { plan, traffic } = derive();
      const seconds = secondsOf(traffic(), gpusPerNode, costs);
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
