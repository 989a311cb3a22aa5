/**
 * Comparing what ranks hold with the source, byte by byte.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { type HostTensor, SampleError, type SequenceSample } from "../../mod.ts";
import { show } from "../show.ts";

/** One difference. */
export interface Difference {
  /** The rank that holds it, or should. */
  readonly rank: number;
  /** The sample. */
  readonly id: string;
  /** The key, where it is about one. */
  readonly key?: string;
  /** What is different. */
  readonly what: string;
}

/** The outcome of comparisons. A tensor is one key of one id on one rank. */
export interface Comparison {
  /** Tensors compared. */
  readonly tensors: number;
  /** Their bytes. */
  readonly bytes: number;
  /** Tensors, or whole samples, that are not as in the source, missing, or too many. */
  readonly wrong: number;
  /** The first differences, {@linkcode MOST_DIFFERENCES} at most. */
  readonly differences: readonly Difference[];
}

/** Differences beyond these are counted only. */
export const MOST_DIFFERENCES = 20;

/** The outcome of no comparison. */
export const nothingCompared: Comparison = { tensors: 0, bytes: 0, wrong: 0, differences: [] };

/** Both outcomes in one. */
export function addComparisons(a: Comparison, b: Comparison): Comparison {
  return {
    tensors: a.tensors + b.tensors,
    bytes: a.bytes + b.bytes,
    wrong: a.wrong + b.wrong,
    differences: [...a.differences, ...b.differences].slice(0, MOST_DIFFERENCES),
  };
}

/** The source of truth, split by id. */
export class Source {
  readonly #samples: ReadonlyMap<string, SequenceSample>;

  /** Takes a batch whose data is on the host. */
  constructor(batch: SequenceSample) {
    this.#samples = new Map(batch.unpack().map((sample) => [sample.ids[0]!, sample]));
  }

  /** The sample of an id. */
  sample(id: string): SequenceSample {
    const sample = this.#samples.get(id);
    if (sample === undefined) throw new SampleError(`the source has no id ${show(id)}`);
    return sample;
  }

  /** Bytes of all keys, by id. */
  bytesOf(): Map<string, number> {
    return new Map(Array.from(this.#samples, ([id, sample]) => [id, byteLength(sample)]));
  }

  /** Which ids a rank holds that it should not, and which it lacks. Compares no tensor. */
  compareIds(rank: number, expected: ReadonlySet<string>, held: ReadonlySet<string>): Comparison {
    const differences: Difference[] = [];
    for (const id of expected.difference(held)) differences.push({ rank, id, what: "it should be there, and is not" });
    for (const id of held.difference(expected)) differences.push({ rank, id, what: "it is there, and should not be" });
    return { tensors: 0, bytes: 0, wrong: differences.length, differences: differences.slice(0, MOST_DIFFERENCES) };
  }

  /** Compares a batch that a rank holds, all keys of each id, metadata included. */
  compare(rank: number, batch: SequenceSample): Comparison {
    let total = nothingCompared;
    for (const sample of batch.unpack()) total = addComparisons(total, this.#compareSample(rank, sample));
    return total;
  }

  #compareSample(rank: number, sample: SequenceSample): Comparison {
    const id = sample.ids[0]!;
    const truth = this.sample(id);
    const differences: Difference[] = [];
    let bytes = 0;
    for (const key of truth.keys) {
      const expected = hostTensor(truth, key);
      bytes += expected.bytes.byteLength;
      const what = difference(truth, sample, key, expected);
      if (what !== null) differences.push({ rank, id, key, what });
    }
    for (const key of sample.keys) {
      if (!truth.keys.includes(key)) differences.push({ rank, id, key, what: "the source has no such key" });
    }
    if (JSON.stringify(sorted(sample.metadata)) !== JSON.stringify(sorted(truth.metadata))) {
      differences.push({
        rank,
        id,
        what: `its metadata is ${show(sample.metadata)}, and ${show(truth.metadata)} in the source`,
      });
    }
    return { tensors: truth.keys.length, bytes, wrong: differences.length, differences };
  }
}

/** What is different about a key, or null. */
function difference(truth: SequenceSample, sample: SequenceSample, key: string, expected: HostTensor): string | null {
  if (!sample.keys.includes(key)) return "the key is missing";
  const actual = hostTensor(sample, key);
  if (actual.dtype !== expected.dtype) return `its dtype is ${actual.dtype}, and ${expected.dtype} in the source`;
  if (actual.shape.join() !== expected.shape.join()) {
    return `its shape is ${show(actual.shape)}, and ${show(expected.shape)} in the source`;
  }
  if (JSON.stringify(sample.seqlens[key]) !== JSON.stringify(truth.seqlens[key])) {
    return `its lengths are ${show(sample.seqlens[key])}, and ${show(truth.seqlens[key])} in the source`;
  }
  if (Buffer.compare(actual.bytes, expected.bytes) === 0) return null;
  const at = actual.bytes.findIndex((byte, i) => byte !== expected.bytes[i]);
  return `its bytes differ from the source's at byte ${at} of ${expected.bytes.byteLength}`;
}

function byteLength(sample: SequenceSample): number {
  return sample.keys.reduce((bytes, key) => bytes + hostTensor(sample, key).bytes.byteLength, 0);
}

function hostTensor(sample: SequenceSample, key: string): HostTensor {
  const tensor = sample.data?.[key];
  if (tensor === undefined || tensor === null || !("bytes" in tensor)) {
    throw new SampleError(`the data of ${show(key)} of ${show(sample.ids[0])} is not on the host`);
  }
  return tensor;
}

function sorted(metadata: Readonly<Record<string, readonly unknown[]>>): [string, readonly unknown[]][] {
  return Object.entries(metadata).sort(([a], [b]) => a < b ? -1 : 1);
}
