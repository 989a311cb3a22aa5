/** Random clusters and plans for the tests of planning. */
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import fc from "fast-check";

const KEYS = ["tokens", "mask", "rewards"];

/** A cluster, what its ranks hold and who wants what, as plain numbers. */
export interface ClusterCase {
  worldSize: number;
  gpusPerNode: number;
  /** The number of ids. */
  ids: number;
  /** The number of keys. */
  keys: number;
  /** Raw numbers that owners, replicas and wishes are taken from, one after another. */
  dice: number[];
}

/** Small clusters with a few owners, some replicas and arbitrary wishes. */
export const clusterCase: fc.Arbitrary<ClusterCase> = fc.record({
  worldSize: fc.integer({ min: 1, max: 9 }),
  gpusPerNode: fc.integer({ min: 1, max: 4 }),
  ids: fc.integer({ min: 1, max: 12 }),
  keys: fc.integer({ min: 1, max: KEYS.length }),
  dice: fc.array(fc.nat({ max: 999 }), { minLength: 40, maxLength: 80 }),
});

/** Gives every (id, key) an owner, some of them replicas, and some ranks wishes. */
export function buildCluster(
  spec: ClusterCase,
): { tracker: GlobalStorageTracker; dests: Map<number, string[]>; keys: string[] } {
  let thrown = 0;
  const roll = (sides: number): number => spec.dice[thrown++ % spec.dice.length]! % sides;
  const tracker = new GlobalStorageTracker(spec.worldSize);
  const ids = Array.from({ length: spec.ids }, (_, i) => `prompt-${i}`);
  const keys = KEYS.slice(0, spec.keys);
  for (const id of ids) {
    for (const key of keys) {
      tracker.addData(roll(spec.worldSize), [id], key, true);
      if (roll(4) === 0) tracker.addData(roll(spec.worldSize), [id], key, false);
    }
  }
  const dests = new Map<number, string[]>();
  for (let rank = 0; rank < spec.worldSize; rank++) dests.set(rank, ids.filter(() => roll(3) === 0));
  return { tracker, dests, keys };
}

const rank = fc.nat({ max: 11 });
const ranks = fc.uniqueArray(rank, { maxLength: 5 });
const ids = fc.uniqueArray(fc.string({ unit: "binary", maxLength: 3 }), { maxLength: 4 });
const keys = fc.uniqueArray(fc.string({ maxLength: 4 }), { minLength: 1, maxLength: 3 });

/** As many lists of ids as there are ranks. */
function withIds<T>(list: fc.Arbitrary<T[]>): fc.Arbitrary<[T[], string[][]]> {
  return list.chain((ranks) =>
    fc.tuple(fc.constant(ranks), fc.array(ids, { minLength: ranks.length, maxLength: ranks.length }))
  );
}

/** Any well-formed step on 12 ranks. */
export const anyStep: fc.Arbitrary<RedistribStep> = fc.oneof(
  fc.tuple(rank, ranks, ids, keys).map(([root, dsts, ids, keys]): RedistribStep => ({
    commType: "bcast",
    root,
    srcs: [root],
    dsts,
    ids,
    keys,
  })),
  fc.tuple(rank, withIds(ranks), keys).map(([root, [srcs, ids], keys]): RedistribStep => ({
    commType: "gather",
    root,
    srcs,
    dsts: null,
    ids,
    keys,
  })),
  fc.tuple(rank, withIds(ranks), keys).map(([root, [dsts, ids], keys]): RedistribStep => ({
    commType: "scatter",
    root,
    srcs: null,
    dsts,
    ids,
    keys,
  })),
  fc.tuple(withIds(fc.array(fc.tuple(rank, ranks), { maxLength: 4 })), keys).map((
    [[pairs, ids], keys],
  ): RedistribStep => ({
    commType: "exchange",
    root: null,
    srcs: pairs.map(([src]) => src),
    dsts: pairs.map(([, dsts]) => dsts),
    ids,
    keys,
  })),
);
