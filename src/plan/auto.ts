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

/** A plan of which it is known what it comes to. */
export interface Draft {
  /** What it makes travel. */
  readonly traffic: () => Traffic;
  /** How many steps it has. */
  readonly steps: () => number;
  /** Writes it down. */
  readonly plan: () => RedistribStep[];
}

/** A way to derive a plan. */
export interface Candidate {
  /** Seconds that the plan takes at least, where that is known beforehand. */
  readonly atLeast?: () => number;
  /** Derives it. */
  readonly draft: () => Draft;
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
  let best: { draft: Draft; seconds: number } | undefined;
  let refusal: PlanError | undefined;
  for (const { draft: derive, atLeast } of candidates) {
    if (best !== undefined && atLeast !== undefined && atLeast() > best.seconds) continue;
    try {
      const draft = derive();
      const seconds = secondsOf(draft.traffic(), gpusPerNode, costs);
      if (
        best === undefined || seconds < best.seconds || (seconds === best.seconds && draft.steps() < best.draft.steps())
      ) best = { draft, seconds };
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      refusal ??= error;
    }
  }
  if (best === undefined) throw refusal!;
  return best.draft.plan();
}
