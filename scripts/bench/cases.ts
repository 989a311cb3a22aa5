/**
 * What the benchmark moves, and between which layouts.
 *
 * @module
 */

import {
  type ClusterLayout,
  type DType,
  GlobalStorageTracker,
  parseLayouts,
  type Pattern,
  RedistribPlanner,
  type RedistribStep,
  SequenceSample,
} from "../../mod.ts";

/** A pair of layouts. */
export interface Case {
  /** As in the table. */
  readonly name: string;
  /** How many ranks. */
  readonly worldSize: number;
  /** As `parseLayouts` takes them: from, to. */
  readonly layouts: string;
}

/** The rows of the table. */
export const CASES: readonly Case[] = [
  { name: "4: dp4 -> dp2,tp2, same ranks", worldSize: 4, layouts: "from=pp1,dp4,tp1 to=pp1,dp2,tp2" },
  { name: "4: dp2 -> tp2, disjoint", worldSize: 4, layouts: "from=pp1,dp2,tp1 to@2=pp1,dp1,tp2" },
  { name: "8: dp8 -> dp4,tp2, same ranks", worldSize: 8, layouts: "from=pp1,dp8,tp1 to=pp1,dp4,tp2" },
  { name: "8: dp4 -> dp2,tp2, disjoint", worldSize: 8, layouts: "from=pp1,dp4,tp1 to@4=pp1,dp2,tp2" },
];

/** The sizes of the table. */
export type Size = "S" | "M" | "L";

const TOKEN_KEYS: Readonly<Record<string, DType>> = { input_ids: "int64" };
const ROLLOUT_KEYS: Readonly<Record<string, DType>> = {
  input_ids: "int64",
  packed_logprobs: "float32",
  prompt_mask: "bool",
  rewards: "float32",
};

/** Ids, keys, dtypes and lengths of a payload: S 64 samples of about 512 tokens, M 512 of about 2048, L as M with twenty times as many. */
export function payload(size: Size): SequenceSample {
  const [samples, tokens, keys] = size === "S"
    ? [64, 512, TOKEN_KEYS] as const
    : [size === "M" ? 512 : 10_112, 2048, ROLLOUT_KEYS] as const;
  const ids = Array.from({ length: samples }, (_, i) => `prompt-${String(i).padStart(6, "0")}`);
  const length = (i: number) => tokens - tokens / 8 + (i * 7919) % Math.round(tokens / 4);
  return new SequenceSample({
    ids,
    keys: Object.keys(keys),
    dtypes: keys,
    trailingShapes: Object.fromEntries(Object.keys(keys).map((key) => [key, []])),
    seqlens: Object.fromEntries(
      Object.keys(keys).map((key) => [key, ids.map((_, i) => [key === "rewards" ? 1 : length(i)])]),
    ),
  });
}

/** A transfer, ready to run. */
export interface Prepared {
  /** What moves. */
  readonly meta: SequenceSample;
  /** How. */
  readonly plan: readonly RedistribStep[];
  /** By rank the ids that it has before. */
  readonly before: readonly (readonly string[])[];
  /** Bytes that must be delivered: every (id, key) to every rank that is to have it and has it not. */
  readonly delivered: number;
}

/** Lays a payload out under the first layout, and plans the move to the second. Planning is deterministic: every rank does it for itself. */
export function prepare({ worldSize, layouts }: Case, size: Size, pattern: Pattern): Prepared {
  const layout: ClusterLayout = parseLayouts(layouts, { worldSize });
  const [from, to] = layout.models;
  const meta = payload(size);
  const heads = layout.dpHeads(from!.name);
  const share = (count: number, index: number) =>
    meta.ids.slice(Math.floor(meta.ids.length * index / count), Math.floor(meta.ids.length * (index + 1) / count));
  const before: string[][] = Array.from({ length: worldSize }, () => []);
  const tracker = new GlobalStorageTracker(worldSize);
  heads.forEach((rank, i) => {
    before[rank] = share(heads.length, i) as string[];
    for (const key of meta.keys) tracker.addData(rank, before[rank]!, key, true);
  });
  const dests = new Map<number, readonly string[]>();
  const dataSize = to!.topology.getDim("data");
  for (let data = 0; data < dataSize; data++) {
    for (const rank of layout.ranksOf(to!.name, { data })) dests.set(rank, share(dataSize, data));
  }
  const bytesOf = new Map(meta.unpack().map((sample) => [sample.ids[0]!, bytes(sample)]));
  let delivered = 0;
  for (const [rank, ids] of dests) {
    const has = new Set(before[rank]);
    for (const id of ids) if (!has.has(id)) delivered += bytesOf.get(id)!;
  }
  const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, meta.keys, pattern, { meta });
  return { meta, plan, before, delivered };
}

function bytes(sample: SequenceSample): number {
  const sizes: Partial<Record<DType, number>> = { int64: 8, float32: 4, bool: 1 };
  return sample.keys.reduce((total, key) => total + sample.seqlens[key]![0]![0]! * sizes[sample.dtypes[key]!]!, 0);
}
