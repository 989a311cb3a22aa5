/**
 * Random transfers between two random layouts, as a planner makes them.
 *
 * @module
 */

import { type ClusterLayout, parseLayouts, type Pattern, type SequenceSample } from "../../mod.ts";
import { planStages } from "../../src/commands/stages.ts";
import { randomBatch, type Roll, type Transfer } from "../properties/random_plan.ts";

const PATTERNS: readonly Pattern[] = ["gather-scatter", "bcast", "direct", "auto"];
const DIMS = [[1, 1, 1], [1, 2, 1], [1, 1, 2], [2, 1, 1], [1, 1, 3], [1, 3, 1], [1, 2, 2], [2, 1, 2], [1, 4, 1]];

/** Two models on as many ranks as they need: `actor` from rank 0 on, `critic` on some of the same ranks or on others. */
export function randomLayout(roll: Roll): ClusterLayout {
  const [a, c] = [DIMS[roll(DIMS.length)]!, DIMS[roll(DIMS.length)]!];
  const text = ([pipe, data, tensor]: number[]) => `pp${pipe},dp${data},tp${tensor}`;
  return parseLayouts(`actor=${text(a)} critic@${roll(3)}=${text(c)}`);
}

/** What brings the actor's samples to the critic. */
export function plannedTransfer(roll: Roll, layout: ClusterLayout, size: number): Transfer {
  const ids = Array.from({ length: 2 + roll(8) }, (_, i) => `id-${i}`);
  const keys = Array.from({ length: 1 + roll(3) }, (_, i) => `key-${i}`);
  const batch: SequenceSample = randomBatch(roll, ids, keys, size);
  const pattern = PATTERNS[roll(PATTERNS.length)]!;
  const { shares, stages: [stage] } = planStages(layout, { ids, keys, meta: batch.meta() }, pattern);
  return {
    worldSize: layout.worldSize,
    batch,
    before: Array.from(
      { length: layout.worldSize },
      (_, rank) => new Map((shares.get(rank) ?? []).map((id) => [id, keys])),
    ),
    plan: [...stage!.plan],
    after: stage!.holds.map((held) => new Map([...held].map((id) => [id, new Set(keys)]))),
  };
}
