/**
 * The terms of a transfer, so that ranks can see whether theirs are the same.
 *
 * @module
 */

import { idListsOf } from "../plan/movements.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import type { Scratch } from "../scratch.ts";
import type { Catalogue } from "../transfer/catalogue.ts";
import { type Fingerprint, fingerprint, hexOf } from "./fingerprint.ts";

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
 * The fingerprint of the terms, which two ranks have the same just when they have the same terms: that of two others, of the meta and of the positions that the
 * plan's ids have in it, and of all else as numbers.
 *
 * @param scratch What to work in.
 */
export function termsDigest(
  { meta, catalogue, plan, positions, replicaGroups, verify }: Terms,
  scratch: Scratch,
): Fingerprint {
  const numbers = [Number(verify)];
  for (const word of metaDigest(meta, catalogue)) numbers.push(word);
  for (const word of fingerprint(bytesOf(positions))) numbers.push(word);
  addLists(numbers, replicaGroups);
  for (const step of plan) addStep(numbers, step, catalogue);
  const all = scratch.int32(numbers.length);
  all.set(numbers);
  return fingerprint(bytesOf(all));
}

/** What stands where there is no list, and where there is no rank. */
const NONE = -1;
/** The kinds of step, by their numbers. */
const COMM_TYPES: readonly RedistribStep["commType"][] = ["bcast", "gather", "scatter", "exchange"];

/** A step as numbers, but for its ids: only how many there are. Each list behind its length. */
function addStep(numbers: number[], step: RedistribStep, catalogue: Catalogue): void {
  numbers.push(COMM_TYPES.indexOf(step.commType), step.root ?? NONE);
  addList(numbers, step.srcs);
  if (step.commType === "exchange") addLists(numbers, step.dsts);
  else addList(numbers, step.dsts);
  addList(numbers, step.keys.map((key) => catalogue.keyIndex(key)!));
  addList(numbers, idListsOf(step).map((list) => list.length));
}

function addLists(numbers: number[], lists: readonly (readonly number[])[]): void {
  numbers.push(lists.length);
  for (const list of lists) addList(numbers, list);
}

function addList(numbers: number[], list: readonly number[] | null): void {
  numbers.push(list?.length ?? NONE);
  for (const number of list ?? []) numbers.push(number);
}

const encoder = new TextEncoder();

const metaDigests = new WeakMap<Catalogue, Fingerprint>();

/** The fingerprint of a meta, made once. Lengths are numbers there, not text. */
function metaDigest({ metadata }: SequenceSample, catalogue: Catalogue): Fingerprint {
  let digest = metaDigests.get(catalogue);
  if (digest === undefined) {
    const keys = catalogue.keys.map(({ name, dtype, trailingShape }) => [name, dtype, trailingShape]);
    const lengths = [catalogue.lengths, severalLengths(catalogue)].map((numbers) =>
      hexOf(fingerprint(bytesOf(numbers)))
    );
    const text = JSON.stringify([catalogue.ids, keys, lengths]) + metadataText(metadata);
    metaDigests.set(catalogue, digest = fingerprint(encoder.encode(text)));
  }
  return digest;
}

/** Apart from the rest, for only metadata can hold what JSON cannot, and looking at every value is slow. */
function metadataText(metadata: SequenceSample["metadata"]): string {
  const named = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return named.length === 0 ? "" : JSON.stringify(named, (_, value) => distinct(value));
}

/** A value as JSON has it, or what stands for one that JSON has not: a text, which no string of the metadata is, for those get a quote before them. */
function distinct(value: unknown): unknown {
  if (typeof value === "string") return `'${value}`;
  if (typeof value === "bigint") return `${value}n`;
  if (value === undefined || typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (Object.is(value, -0)) return "-0";
  if (value instanceof Map || value instanceof Set) return { [value.constructor.name]: [...value] };
  return value;
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
