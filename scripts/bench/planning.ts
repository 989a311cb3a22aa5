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
  /** The pattern and the case, or what else was measured. */
  readonly pattern: string;
  /** The shortest of all repeats, in seconds. */
  readonly seconds: number;
  /** How many steps the plan has. */
  readonly steps: number;
}

const WORLD = 512;
const GPUS_PER_NODE = 8;
const KEYS = ["input_ids", "packed_logprobs", "prompt_mask", "rewards", "values", "version"];
const PATTERNS: readonly Pattern[] = ["gather-scatter", "bcast", "direct", "auto"];
const REPEATS = 2;

/** Who has an id, the owner first, and who wants it. */
interface PlanningCase {
  readonly name: string;
  /** The ranks that have key `k` of id `i` of `count`. */
  readonly holders: (i: number, count: number, k: number) => readonly number[];
  /** The ranks that want id `i` of `count`. */
  readonly wants: (i: number, count: number) => readonly number[];
}

/** `size` ranks from `first` on. */
function stretch(first: number, size: number): number[] {
  return Array.from({ length: size }, (_, n) => first + n);
}

/** The tensor-parallel ranks of the data-parallel group that has id `i`, where ids are dealt out in `groups` blocks. */
function block(i: number, count: number, groups: number): number[] {
  const size = WORLD / groups;
  return stretch(Math.floor(i * groups / count) * size, size);
}

/** A number from 0 to `sides` - 1 that follows from the others. */
function roll(sides: number, ...of: readonly number[]): number {
  let bits = 0x9e3779b9;
  for (const n of of) {
    bits = Math.imul(bits ^ n, 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    bits ^= bits >>> 16;
  }
  return (bits >>> 0) % sides;
}

/** From `least` to `most` ranks. */
function scattered(i: number, salt: number, least: number, most: number): number[] {
  const size = least + roll(most - least + 1, i, salt);
  const ranks = new Set<number>();
  for (let n = 0; ranks.size < size; n++) ranks.add(roll(WORLD, i, salt, n));
  return [...ranks];
}

/** The data-parallel rank d of eight has its shards on all eight pipe stages. */
function pipeline(d: number): number[] {
  return stretch(0, 8).flatMap((stage) => stretch(stage * 64 + d * 8, 8));
}

const CASES: readonly PlanningCase[] = [
  {
    name: "dp512 to dp64,tp8",
    holders: (i) => [i % WORLD],
    wants: (i, count) => block(i, count, 64),
  },
  {
    name: "dp64,tp8 to dp512",
    holders: (i, count) => block(i, count, 64).slice(0, 1),
    wants: (i) => [i % WORLD],
  },
  {
    name: "dp64,tp8 with all replicas to dp512",
    holders: (i, count) => block(i, count, 64),
    wants: (i) => [i % WORLD],
  },
  {
    name: "dp64,tp8 to dp8,tp8,pp8",
    holders: (i, count) => block(i, count, 64).slice(0, 1),
    wants: (i) => pipeline(i % 8),
  },
  {
    name: "random owners to random groups of 8",
    holders: (i) => [roll(WORLD, i, 1)],
    wants: (i) => stretch(8 * roll(64, i, 2), 8),
  },
  {
    name: "random owners to 1 to 4 random ranks",
    holders: (i) => [roll(WORLD, i, 1)],
    wants: (i) => scattered(i, 2, 1, 4),
  },
  {
    name: "1 to 3 random holders to 0 to 8 random ranks",
    holders: (i) => scattered(i, 1, 1, 3),
    wants: (i) => scattered(i, 2, 0, 8),
  },
  {
    name: "random owners of each key to random groups of 8",
    holders: (i, _, k) => [roll(WORLD, i, 1, k)],
    wants: (i) => stretch(8 * roll(64, i, 2), 8),
  },
];

/**
 * Plans, validates and lowers moves of `count` ids with six keys between layouts and random sets of ranks; and fills one Map with all id-key pairs, which
 * tells how fast the machine is at this kind of work.
 */
export function measurePlanning(count: number): PlanningRow[] {
  const ids = Array.from({ length: count }, (_, i) => `prompt-${String(i).padStart(6, "0")}`);
  const meta = new SequenceSample({
    ids,
    keys: KEYS,
    dtypes: Object.fromEntries(KEYS.map((key) => [key, "float32"] as const)),
    trailingShapes: Object.fromEntries(KEYS.map((key) => [key, []])),
    seqlens: Object.fromEntries(KEYS.map((key) => [key, ids.map((_, i) => [100 + i % 50])])),
  });
  const [, fill] = shortest(() => {
    const map = new Map<string, number>();
    for (const id of ids) for (const key of KEYS) map.set(`${id}\n${key}`, 0);
    return map;
  });
  const rows: PlanningRow[] = [{ pattern: "filling one Map with all id-key pairs", seconds: fill, steps: 0 }];
  for (const one of CASES) {
    const { tracker, dests } = arrange(one, ids);
    const planner = new RedistribPlanner({ gpusPerNode: GPUS_PER_NODE }, tracker);
    for (const pattern of PATTERNS) {
      const [plan, seconds] = shortest(() => planner.derivePlan(dests, KEYS, pattern, { meta }));
      rows.push({ pattern: `${pattern}, ${one.name}`, seconds, steps: plan.length });
      const [, lowering] = shortest(() => {
        validatePlan(plan, { worldSize: WORLD, meta });
        return lowerPlan(plan, new Catalogue(meta), 0, { worldSize: WORLD });
      });
      rows.push({
        pattern: `validating and lowering ${pattern} for rank 0, ${one.name}`,
        seconds: lowering,
        steps: plan.length,
      });
    }
  }
  return rows;
}

function arrange({ holders, wants }: PlanningCase, ids: readonly string[]) {
  const tracker = new GlobalStorageTracker(WORLD);
  const dests = new Map<number, string[]>();
  for (const [i, id] of ids.entries()) {
    for (const [k, key] of KEYS.entries()) {
      for (const [n, rank] of holders(i, ids.length, k).entries()) tracker.addData(rank, [id], key, n === 0);
    }
    for (const rank of wants(i, ids.length)) {
      const wanted = dests.get(rank);
      if (wanted === undefined) dests.set(rank, [id]);
      else wanted.push(id);
    }
  }
  return { tracker, dests };
}

/** The shortest time of several runs, in seconds. */
function shortest<T>(run: () => T): [result: T, seconds: number] {
  let best: [T, number] | undefined;
  for (let n = 0; n < REPEATS; n++) {
    const started = performance.now();
    const result = run();
    const seconds = (performance.now() - started) / 1000;
    if (best === undefined || seconds < best[1]) best = [result, seconds];
  }
  return best!;
}
