/** Random batches with sizes, and what a plan's steps carry, counted from the plan alone. */
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import { deliveriesOf, type RedistribStep } from "../../src/plan/step.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import fc from "fast-check";

const BYTES_PER_TOKEN: Record<string, number> = { tokens: 8, logprobs: 4, mask: 1 };

/** What a batch is made from. */
export interface BatchSpec {
  worldSize: number;
  gpusPerNode: number;
  /** Who has it and who wants it, roughly. */
  kind: "same-ranks" | "disjoint" | "shuffled" | "replicated" | "scattered";
  /** Ranks that want the same, where the kind is not "scattered". */
  replicas: number;
  idsPerRank: number;
  keys: number;
  /** Where random numbers begin. */
  seed: number;
}

/** A batch, who holds it and who wants it. */
export interface Batch {
  spec: BatchSpec;
  tracker: GlobalStorageTracker;
  dests: Map<number, string[]>;
  keys: string[];
  meta: SequenceSample;
  bytesOf: (id: string, key: string) => number;
}

/** Batches on up to `most` ranks, a power of two. */
export function batchSpec(most: number, idsPerRank: { min: number; max: number }): fc.Arbitrary<BatchSpec> {
  const power = (from: number, to: number) =>
    fc.integer({ min: Math.log2(from), max: Math.log2(to) }).map((n) => 2 ** n);
  return fc.record({
    worldSize: power(2, most),
    gpusPerNode: fc.oneof({ weight: 3, arbitrary: fc.constant(8) }, { weight: 1, arbitrary: power(1, 16) }),
    kind: fc.constantFrom("same-ranks", "disjoint", "shuffled", "replicated", "scattered"),
    replicas: power(1, 16),
    idsPerRank: fc.integer(idsPerRank),
    keys: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(),
  });
}

export function makeBatch(spec: BatchSpec): Batch {
  const { worldSize, kind } = spec;
  const random = randomFrom(spec.seed);
  const roll = (sides: number): number => Math.floor(random() * sides);
  const sources = kind === "disjoint" ? worldSize / 2 : worldSize;
  const replicas = Math.min(spec.replicas, sources);
  const groups = sources / replicas;
  const count = spec.idsPerRank * worldSize;
  const ids = Array.from({ length: count }, (_, i) => `prompt-${i}`);
  const keys = Object.keys(BYTES_PER_TOKEN).slice(0, spec.keys);
  const tracker = new GlobalStorageTracker(worldSize);
  const dests = new Map<number, string[]>(Array.from({ length: worldSize }, (_, rank) => [rank, []]));
  const orderly = kind === "same-ranks" || kind === "disjoint";
  for (const [i, id] of ids.entries()) {
    const owner = orderly ? Math.floor(i * sources / count) : roll(sources);
    const copies = kind === "replicated" ? Array.from({ length: roll(3) }, () => roll(worldSize)) : [];
    for (const key of keys) {
      tracker.addData(owner, [id], key, true);
      for (const rank of copies) tracker.addData(rank, [id], key, false);
    }
    if (kind === "scattered") {
      for (let n = roll(4); n > 0; n--) {
        const wanted = dests.get(roll(worldSize))!;
        if (wanted.at(-1) !== id) wanted.push(id);
      }
    } else {
      const group = roll(groups);
      for (let n = 0; n < replicas; n++) dests.get(worldSize - sources + group * replicas + n)!.push(id);
    }
  }
  const lengths = ids.map(() => 256 + roll(1024));
  const meta = new SequenceSample({
    ids,
    keys,
    dtypes: Object.fromEntries([["tokens", "int64"], ["logprobs", "float32"], ["mask", "bool"]].slice(0, spec.keys)),
    trailingShapes: Object.fromEntries(keys.map((key) => [key, []])),
    seqlens: Object.fromEntries(keys.map((key) => [key, lengths.map((n) => [n])])),
  });
  const lengthOf = new Map(ids.map((id, i) => [id, lengths[i]!]));
  return { spec, tracker, dests, keys, meta, bytesOf: (id, key) => lengthOf.get(id)! * BYTES_PER_TOKEN[key]! };
}

/** The busiest rank and node link when every step is taken by its word: each source sends a copy to each destination. */
export interface Busiest {
  intoRank: number;
  outOfRank: number;
  intoNode: number;
  outOfNode: number;
}

export function busiestLinks(
  plan: readonly RedistribStep[],
  { bytesOf, spec: { worldSize, gpusPerNode } }: Batch,
): Busiest {
  const zeros = (n: number) => new Array<number>(n).fill(0);
  const into = zeros(worldSize);
  const outOf = zeros(worldSize);
  const intoNode = zeros(worldSize);
  const outOfNode = zeros(worldSize);
  for (const step of plan) {
    for (const { src, dsts, ids } of deliveriesOf(step)) {
      let bytes = 0;
      for (const id of ids) for (const key of step.keys) bytes += bytesOf(id, key);
      for (const dst of dsts) {
        if (dst === src) continue;
        outOf[src]! += bytes;
        into[dst]! += bytes;
        const [source, destination] = [Math.floor(src / gpusPerNode), Math.floor(dst / gpusPerNode)];
        if (source === destination) continue;
        outOfNode[source]! += bytes;
        intoNode[destination]! += bytes;
      }
    }
  }
  return {
    intoRank: Math.max(...into),
    outOfRank: Math.max(...outOf),
    intoNode: Math.max(...intoNode),
    outOfNode: Math.max(...outOfNode),
  };
}

/** Numbers from 0 to 1 that follow from the seed alone. */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}
