/**
 * Planning for 512 ranks.
 *
 * @module
 */

import {
  Catalogue,
  GlobalStorageTracker,
  lowerPlan,
  type Pattern,
  RedistribPlanner,
  SequenceSample,
  validatePlan,
} from "../../mod.ts";

/** What planning took. */
export interface PlanningRow {
  /** The pattern, or what else was measured. */
  readonly pattern: string;
  /** In seconds. */
  readonly seconds: number;
  /** How many steps the plan has. */
  readonly steps: number;
}

const WORLD = 512;
const KEYS = ["input_ids", "packed_logprobs", "prompt_mask", "rewards", "values", "version"];

/** Plans, validates and lowers the move of `count` ids with six keys from dp512 to dp64,tp8; and fills one Map with all id-key pairs. */
export function measurePlanning(count: number): PlanningRow[] {
  const ids = Array.from({ length: count }, (_, i) => `prompt-${String(i).padStart(6, "0")}`);
  const meta = new SequenceSample({
    ids,
    keys: KEYS,
    dtypes: Object.fromEntries(KEYS.map((key) => [key, "float32"] as const)),
    trailingShapes: Object.fromEntries(KEYS.map((key) => [key, []])),
    seqlens: Object.fromEntries(KEYS.map((key) => [key, ids.map((_, i) => [100 + i % 50])])),
  });
  const tracker = new GlobalStorageTracker(WORLD);
  for (let rank = 0; rank < WORLD; rank++) {
    const mine = ids.filter((_, i) => i % WORLD === rank);
    for (const key of KEYS) tracker.addData(rank, mine, key, true);
  }
  const dests = new Map<number, string[]>();
  for (let data = 0; data < WORLD / 8; data++) {
    const mine = ids.filter((_, i) => Math.floor(i * (WORLD / 8) / count) === data);
    for (let replica = 0; replica < 8; replica++) dests.set(data * 8 + replica, mine);
  }
  const rows: PlanningRow[] = [];
  const timed = <T>(run: () => T): [T, number] => {
    const started = performance.now();
    const result = run();
    return [result, (performance.now() - started) / 1000];
  };
  const [, fill] = timed(() => {
    const map = new Map<string, number>();
    for (const id of ids) for (const key of KEYS) map.set(`${id}\n${key}`, 0);
    return map;
  });
  rows.push({ pattern: "filling one Map with all id-key pairs", seconds: fill, steps: 0 });
  for (const pattern of ["gather-scatter", "bcast", "direct", "auto"] as Pattern[]) {
    const [plan, seconds] = timed(() =>
      new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, KEYS, pattern, { meta })
    );
    rows.push({ pattern, seconds, steps: plan.length });
    const [, lowering] = timed(() => {
      validatePlan(plan, { worldSize: WORLD, meta });
      return lowerPlan(plan, new Catalogue(meta), 0, { worldSize: WORLD });
    });
    rows.push({ pattern: `validating and lowering ${pattern} for one rank`, seconds: lowering, steps: plan.length });
  }
  return rows;
}
