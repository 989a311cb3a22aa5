/**
 * The terms of a transfer as bytes, so that ranks can see whether theirs are the same.
 *
 * @module
 */

import type { IdPositions } from "../plan/movements.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import type { Catalogue } from "../transfer/catalogue.ts";

/** Everything about a transfer that must be the same on all ranks. */
export interface Terms {
  /** What moves. */
  readonly meta: SequenceSample;
  /** Its items. */
  readonly catalogue: Catalogue;
  /** The steps. */
  readonly plan: readonly RedistribStep[];
  /** By step the positions of its ids. */
  readonly positions: readonly IdPositions[];
  /** The members of each replica group that is used. */
  readonly replicaGroups: readonly (readonly number[])[];
  /** Whether what arrives is verified. */
  readonly verify: boolean;
}

/**
 * The terms as bytes: two ranks have the same bytes just when they have the same terms. The ids stand there once, and then their positions; lengths are numbers,
 * not text.
 */
export function canonicalBytes(
  { meta, catalogue, plan, positions, replicaGroups, verify }: Terms,
): Uint8Array<ArrayBuffer> {
  const steps = plan.map(({ commType, root, srcs, dsts, keys }, i) => [
    commType,
    root,
    srcs,
    dsts,
    keys,
    positions[i]!.map((list) => list.length),
  ]);
  const keys = catalogue.keys.map(({ name, dtype, trailingShape }) => [name, dtype, trailingShape]);
  const text = JSON.stringify([steps, catalogue.ids, keys, replicaGroups, verify]) + metadataText(meta.metadata);
  return joined([
    new TextEncoder().encode(text),
    ...positions.flat().map(bytesOf),
    bytesOf(catalogue.lengths),
    bytesOf(severalLengths(catalogue)),
  ]);
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

function bytesOf(numbers: Int32Array | Float64Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((total, { byteLength }) => total + byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.byteLength;
  }
  return whole;
}
