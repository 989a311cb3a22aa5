/**
 * What is moved while faults happen: every kind of step on four ranks, who holds what before, and who is to hold what afterwards.
 *
 * @module
 */

import { deliveriesOf, parseLayouts, type RedistribStep, type SequenceSample } from "../../mod.ts";
import { batchOf } from "../cluster.ts";

/** One plan on four ranks. */
export interface Scene {
  readonly name: string;
  readonly plan: RedistribStep[];
  /** By rank, the ids stored before. */
  readonly before: readonly (readonly string[])[];
  /** Makes the managers set up replica groups by this layout. */
  readonly layout?: string;
  readonly verify?: boolean;
}

/** How many ranks a scene has. */
export const WORLD_SIZE = 4;
const IDS = ["a", "b", "c", "d"];
const keys = ["hidden", "reward", "empty"];

/** What every rank knows of the samples: `elements` numbers for each of a dozen sequence elements of an id. */
export function sceneBatch(elements = 16): SequenceSample {
  return batchOf(IDS, {
    hidden: { dtype: "bfloat16", trailingShape: [elements] },
    reward: { dtype: "float64", trailingShape: [] },
    empty: { dtype: "uint8", trailingShape: [0] },
  });
}

/** Every kind of step; the last rank has no part in most of them. */
export const SCENES: readonly Scene[] = [
  {
    name: "gather",
    plan: [{ commType: "gather", root: 0, srcs: [1, 2], dsts: null, ids: [["a", "b"], ["c"]], keys }],
    before: [["d"], ["a", "b"], ["c"], []],
  },
  {
    name: "scatter",
    plan: [{ commType: "scatter", root: 0, srcs: null, dsts: [2, 1], ids: [["a"], ["c", "b"]], keys }],
    before: [IDS, [], [], []],
  },
  {
    name: "bcast to one",
    plan: [{ commType: "bcast", root: 1, srcs: [1], dsts: [2], ids: IDS, keys }],
    before: [[], IDS, [], []],
  },
  {
    name: "bcast to many",
    plan: [{ commType: "bcast", root: 0, srcs: [0], dsts: [1, 2, 3], ids: ["a", "c"], keys }],
    before: [["a", "c"], ["b"], [], []],
    verify: true,
  },
  {
    name: "bcast to a replica group",
    plan: [{ commType: "bcast", root: 0, srcs: [0], dsts: [1, 2, 3], ids: IDS, keys }],
    before: [IDS, [], [], []],
    layout: "actor=pp1,dp1,tp1 critic@1=pp1,dp1,tp3",
  },
  {
    name: "exchange",
    plan: [{
      commType: "exchange",
      root: null,
      srcs: [0, 1, 0],
      dsts: [[1], [2, 0], [2]],
      ids: [["a"], ["b", "c"], ["d"]],
      keys,
    }],
    before: [["a", "d"], ["b", "c"], [], []],
  },
  {
    name: "gather and scatter",
    plan: [
      { commType: "gather", root: 0, srcs: [1, 2], dsts: null, ids: [["a", "b"], ["c"]], keys },
      { commType: "scatter", root: 0, srcs: null, dsts: [2, 3], ids: [["a"], ["b", "c"]], keys },
    ],
    before: [[], ["a", "b"], ["c"], []],
  },
];

/** By rank, the ids stored once the plan has run; sorted. */
export function after({ plan, before }: Scene): string[][] {
  const held = before.map((ids) => new Set(ids));
  for (const step of plan) {
    for (const { dsts, ids } of deliveriesOf(step)) for (const dst of dsts) for (const id of ids) held[dst]!.add(id);
  }
  return held.map((ids) => [...ids].sort());
}

/** The layout of a scene, where it has one. */
export function layoutOf({ layout }: Scene) {
  return layout === undefined ? {} : { layout: parseLayouts(layout) };
}
