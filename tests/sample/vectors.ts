/** The reference's outputs, and samples in their form. */
import { type DType, fromTorchName } from "../../src/sample/dtype.ts";
import type { SequenceSample, SequenceSampleInit } from "../../src/sample/sequence_sample.ts";
import { type HostTensor, isHostTensor } from "../../src/sample/tensor.ts";
import { readFixture } from "../fixtures/read_fixture.ts";

/** A tensor as the vectors have it. */
export interface VectorTensor {
  dtype: string;
  shape: number[];
  data: unknown;
}

/** A sample as the vectors have it; its keys are sorted. */
export interface VectorSample {
  keys: string[];
  ids: string[];
  seqlens: Record<string, number[][]>;
  trailing_shapes: Record<string, number[] | null>;
  dtypes: Record<string, string | null>;
  data: Record<string, VectorTensor | null> | null;
  metadata: Record<string, unknown[]>;
}

/** One call of the reference: what it returned, or that it raised. A note says that it is wrong there. */
export interface Case {
  op: string;
  inputs: unknown;
  ok?: unknown;
  error?: true;
  note?: string;
}

const vectors = await readFixture<{
  first_fit_decreasing: { values: number[]; capacity: number; min_groups: number; ok?: number[][]; error?: true }[];
  cases: Case[];
}>("sample/sequence_sample.json.gz");

/** Calls of `ffd_allocate`. */
export const allocations = vectors.first_fit_decreasing;

const cases = new Map(vectors.cases.map((vector) => [vector.op, vector]));
const used = new Set<string>();

/** The call with this name. */
export function vector(op: string): Case {
  const found = cases.get(op);
  if (found === undefined) throw new Error(`no vector ${op}`);
  used.add(op);
  return found;
}

/** All calls whose name begins so. */
export function vectorsOf(prefix: string): Case[] {
  return [...cases.keys()].filter((op) => op.startsWith(prefix)).map(vector);
}

/** The calls that no test has asked for. */
export function unusedVectors(): string[] {
  return [...cases.keys()].filter((op) => !used.has(op));
}

/** A tensor of the vectors, from nested arrays. */
export function tensorOf({ dtype, shape, data }: VectorTensor): HostTensor {
  const items = [data].flat(Infinity);
  const name = fromTorchName(dtype)!;
  return { dtype: name, shape, bytes: bytesOf(name, items) };
}

/** Elements of the types that the vectors use. */
export function bytesOf(dtype: DType, items: unknown[]): Uint8Array {
  switch (dtype) {
    case "bool":
      return Uint8Array.from(items as boolean[], Number);
    case "int64":
      return new Uint8Array(BigInt64Array.from(items as number[], BigInt).buffer);
    case "float32":
      return new Uint8Array(Float32Array.from(items as number[]).buffer);
    case "float64":
      return new Uint8Array(Float64Array.from(items as number[]).buffer);
    default:
      throw new Error(`the vectors have no ${dtype}`);
  }
}

/** What a sample of the vectors is made from. */
export function initOf(sample: VectorSample): SequenceSampleInit {
  const map = <T, U>(record: Record<string, T>, f: (value: T) => U): Record<string, U> =>
    Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]));
  return {
    ids: sample.ids,
    keys: sample.keys,
    dtypes: map(sample.dtypes, (name) => name === null ? null : fromTorchName(name)!),
    trailingShapes: sample.trailing_shapes,
    seqlens: sample.seqlens,
    data: sample.data === null ? null : map(sample.data, (tensor) => tensor === null ? null : tensorOf(tensor)),
    metadata: sample.metadata,
  };
}

/** A sample to compare: keys sorted, all else as it is. */
export function plain(sample: SequenceSample | SequenceSampleInit): unknown {
  const { ids, keys, dtypes, trailingShapes, seqlens, data, metadata } = sample;
  if (data) {
    for (const tensor of Object.values(data)) {
      if (tensor !== null && !isHostTensor(tensor)) throw new Error("a handle has nothing to compare");
    }
  }
  return { ids, keys: [...keys].sort(), dtypes, trailingShapes, seqlens, data: data ?? null, metadata: metadata ?? {} };
}
