/**
 * The terms of a transfer, so that ranks can see whether theirs are the same.
 *
 * @module
 */

import { idListsOf } from "../plan/movements.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import type { Catalogue } from "../transfer/catalogue.ts";
import { fingerprint } from "./fingerprint.ts";

/** Everything about a transfer that must be the same on all ranks. */
export interface Terms {
  /** What moves. */
  readonly meta: SequenceSample;
  /** Its items. */
  readonly catalogue: Catalogue;
  /** The steps. */
  readonly plan: readonly RedistribStep[];
  /** The positions of all its ids in the meta, one after another. */
  readonly positions: Int32Array;
  /** The members of each replica group that is used. */
  readonly replicaGroups: readonly (readonly number[])[];
  /** Whether what arrives is verified. */
  readonly verify: boolean;
}

/**
 * The fingerprint of the terms: that of a text which two ranks have the same just when they have the same terms. Ids stand there by their positions in the
 * meta; for those, and for the meta, stand fingerprints of their own.
 */
export function termsDigest({ meta, catalogue, plan, positions, replicaGroups, verify }: Terms): string {
  const steps = plan.map((step) => {
    const { commType, root, srcs, dsts, keys } = step;
    return [commType, root, srcs, dsts, keys, idListsOf(step).map((list) => list.length)];
  });
  const ids = fingerprint(bytesOf(positions));
  const text = JSON.stringify([metaDigest(meta, catalogue), ids, steps, replicaGroups, verify]);
  return fingerprint(encoder.encode(text));
}

const encoder = new TextEncoder();

const metaDigests = new WeakMap<Catalogue, string>();

/** The fingerprint of a meta, made once. Lengths are numbers there, not text. */
function metaDigest({ metadata }: SequenceSample, catalogue: Catalogue): string {
  let digest = metaDigests.get(catalogue);
  if (digest === undefined) {
    const keys = catalogue.keys.map(({ name, dtype, trailingShape }) => [name, dtype, trailingShape]);
    const lengths = [catalogue.lengths, severalLengths(catalogue)].map((numbers) => fingerprint(bytesOf(numbers)));
    const text = JSON.stringify([catalogue.ids, keys, lengths]) + metadataText(metadata);
    metaDigests.set(catalogue, digest = fingerprint(encoder.encode(text)));
  }
  return digest;
}

/** Apart from the rest, for only metadata can hold what JSON cannot, and looking at every value is slow. */
function metadataText(metadata: SequenceSample["metadata"]): string {
  const named = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return named.length === 0 ? "" : JSON.stringify(named, (_, value) => typeof value === "bigint" ? `${value}n` : value);
}

/** Of items with no or several sequences: item, how many, their lengths. The others' length is their item's. */
function severalLengths(catalogue: Catalogue): Float64Array {
  const { isSingle } = catalogue;
  const all: number[] = [];
  for (let item = isSingle.indexOf(0); item >= 0; item = isSingle.indexOf(0, item + 1)) {
    const lengths = catalogue.seqlensOf(item);
    all.push(item, lengths.length);
    for (const length of lengths) all.push(length);
  }
  return Float64Array.from(all);
}

function bytesOf(numbers: Int32Array | Float64Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(numbers.buffer as ArrayBuffer, numbers.byteOffset, numbers.byteLength);
}
