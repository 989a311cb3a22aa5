/**
 * The batches that a rehearsal moves.
 *
 * @module
 */

import type { DType } from "../sample/dtype.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import type { HostTensor, TensorHandle } from "../sample/tensor.ts";

const DTYPES: Readonly<Record<string, DType>> = {
  tokens: "int64",
  logprobs: "float32",
  mask: "bool",
  reward: "float32",
};
/** The keys of a rollout; a batch has all of them, or some. */
export const ALL_KEYS: readonly string[] = Object.keys(DTYPES);

/** What a batch is like. */
export interface BatchShape {
  /** How many ids. */
  readonly ids: number;
  /** How many sequences each id has. */
  readonly sequences: number;
  /** The least elements of a sequence; rewards have one. */
  readonly length: number;
  /** By how many elements sequences differ, at the most. */
  readonly spread: number;
  /** Some of {@linkcode ALL_KEYS}. */
  readonly keys: readonly string[];
}

/** A batch without data. `name` tells its ids from those of others. */
export function batchOf({ ids, sequences, length, spread, keys }: BatchShape, name: string): SequenceSample {
  const lengths = (key: string) =>
    Array.from(
      { length: ids },
      (_, i) =>
        Array.from({ length: sequences }, (_, k) => key === "reward" ? 1 : length + (i * 31 + k * 7) % (spread + 1)),
    );
  return new SequenceSample({
    ids: Array.from({ length: ids }, (_, i) => `${name}-${i}`),
    keys,
    dtypes: Object.fromEntries(keys.map((key) => [key, DTYPES[key]!])),
    trailingShapes: Object.fromEntries(keys.map((key) => [key, []])),
    seqlens: Object.fromEntries(keys.map((key) => [key, lengths(key)])),
  });
}

/** The sample of one id, with tensors that `make` makes. */
export function partOf(
  batch: SequenceSample,
  id: string,
  make: (dtype: DType, elements: number, key: string) => HostTensor | TensorHandle,
): SequenceSample {
  const { keys, dtypes, trailingShapes, seqlens } = batch;
  const index = batch.indexOf(id)!;
  return new SequenceSample({
    ids: [id],
    keys,
    dtypes,
    trailingShapes,
    seqlens: Object.fromEntries(keys.map((key) => [key, [seqlens[key]![index]!]])),
    data: Object.fromEntries(keys.map((key) => [key, make(dtypes[key]!, batch.lengthOf(key, index), key)])),
  });
}
