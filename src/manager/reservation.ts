/**
 * What a rank checks and reserves for a transfer before it agrees to it.
 *
 * Everything that can be refused is refused here: a plan that is not valid, an (id, key) that the rank is to send and has not, or not as the meta says,
 * memory that is not there. From the agreement on nothing is allocated.
 *
 * @module
 */

import { type Numbers, numbersUpTo } from "../device/number_column.ts";
import { type DeviceRuntime, isOutOfMemory } from "../device/runtime.ts";
import { aligned, type Lot, type Slab, type SlabPool } from "../device/slab.ts";
import { SeqferryError } from "../errors.ts";
import type { RedistribStep } from "../plan/step.ts";
import { membersOf, stretchOf } from "../plan/stretches.ts";
import { resolvePlan } from "../plan/validate_plan.ts";
import { copyMetadata } from "../sample/fields.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import type { Scratch } from "../scratch.ts";
import { show } from "../show.ts";
import { type Catalogue, type CatalogueKey, type LatestCatalogue, sameKey } from "../transfer/catalogue.ts";
import { lowerResolved } from "../transfer/lower.ts";
import { outgoingOf, type OutgoingPhase, packingBytes } from "../transfer/outgoing.ts";
import { Places } from "../transfer/places.ts";
import type { Message, Program } from "../transfer/program.ts";
import type { ReplicaGroup } from "../transfer/run.ts";
import type { Fingerprint } from "./fingerprint.ts";
import type { Storage } from "./storage.ts";
import { KeyColumn, SampleTable, type StoredSample } from "./stored_sample.ts";
import { termsDigest } from "./terms.ts";
import type { Reason } from "./words.ts";

/** What a rank has to reserve from. All are made with their fields in this order: the engine compiles for the shape that a rehearsal has shown it. */
export interface Holdings {
  /** This rank. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly worldSize: number;
  /** This rank's device. */
  readonly device: DeviceRuntime;
  /** What this rank holds. */
  readonly storage: Storage;
  /** Where memory comes from. */
  readonly pool: SlabPool;
  /** The replica groups with communicators of their own. */
  readonly replicaGroups: readonly ReplicaGroup[];
  /** The catalogue of what is moved. */
  readonly catalogues: LatestCatalogue;
  /** What one transfer after another works in. */
  readonly scratch: Scratch;
}

/** A program with its memory. */
export interface Reserved {
  /** The positions of all ids of the plan, one after another. */
  readonly positions: Int32Array;
  /** The items. */
  readonly catalogue: Catalogue;
  /** What this rank does. */
  readonly program: Program;
  /** Where the items lie, or will. */
  readonly places: Places;
  /** What leaves this rank, cut into operations. */
  readonly outgoing: readonly OutgoingPhase[];
  /** Where messages are packed; null where none is. */
  readonly staging: Slab | null;
  /** What will be installed. */
  readonly incoming: readonly StoredSample[];
}

/** What a rank has to say to a transfer, and what it has reserved for it. */
export interface Preparation {
  /** The fingerprint of its terms; empty where it could not be made. */
  readonly digest: Fingerprint;
  /** Null where it refuses. */
  readonly reserved: Reserved | null;
  /** Why it refuses. */
  readonly refusals: Reason[];
}

/** How many refusals one rank spells out. */
const MOST_REFUSALS = 256;

/** Everything that one rank can check and reserve for itself. Finds reasons to refuse; throws nothing. */
export function prepare(
  holdings: Holdings,
  meta: SequenceSample,
  plan: readonly RedistribStep[],
  verify: boolean,
): Preparation {
  const { rank, worldSize, catalogues, scratch } = holdings;
  scratch.reset();
  const replicaGroups = holdings.replicaGroups.map(({ members }) => members);
  let digest: Fingerprint = [];
  try {
    if (!(meta instanceof SequenceSample)) throw new SeqferryError("meta is not a SequenceSample");
    const catalogue = catalogues.of(meta);
    const positions = resolvePlan(plan, { worldSize, meta, positions: () => catalogue.idIndices }, scratch);
    digest = termsDigest({ meta, catalogue, plan, positions, replicaGroups, verify }, scratch);
    const program = lowerResolved(plan, positions, catalogue, rank, { worldSize, replicaGroups }, scratch);
    const places = new Places(catalogue.size, scratch);
    const refusals = findRequired(holdings.storage, catalogue, program, places, scratch);
    if (refusals.length > 0) return { digest, reserved: null, refusals };
    if (verify) holdings.device.copier.reserve();
    return { digest, reserved: { positions, ...reserve(holdings, meta, catalogue, program, places) }, refusals: [] };
  } catch (error) {
    const reason = isOutOfMemory(error)
      ? `there is not enough device memory: ${error.message}`
      : error instanceof Error
      ? error.message
      : String(error);
    return { digest, reserved: null, refusals: [{ reason }] };
  }
}

/** Finds the places of what the plan takes this rank to have. Returns what it has not, or not as the meta says. */
function findRequired(
  storage: Storage,
  catalogue: Catalogue,
  program: Program,
  places: Places,
  scratch: Scratch,
): Reason[] {
  const refusals: Reason[] = [];
  for (const { keyIndices, rows } of rowsByKeys(catalogue, program.required, scratch)) {
    /** The keys of the last samples, and where among them those are that are required. */
    let fields: readonly CatalogueKey[] | undefined;
    let positions: number[] = [];
    for (let begin = 0, end = 0; begin < rows.length; begin = end) {
      const found = storage.peek(catalogue.ids, rows, begin);
      end = found?.end ?? begin + 1;
      if (found !== undefined && found.sample.fields !== fields) {
        fields = found.sample.fields;
        positions = keyIndices.map((k) => fields!.findIndex((field) => sameKey(field, catalogue.keys[k]!)));
      }
      for (const [i, keyIndex] of keyIndices.entries()) {
        const column = found?.sample.table.columns[positions[i]!];
        for (let at = begin; at < end; at++) {
          if (column !== undefined && column.lot !== null) {
            at = column.place(found!.sample.row + at - begin, catalogue, keyIndex, rows, at, end, places);
          }
          if (at === end) break;
          if (refusals.length === MOST_REFUSALS) {
            refusals.push({ reason: `there are more than ${MOST_REFUSALS} reasons; the others are left out` });
            return refusals;
          }
          const sample = storage.peek(catalogue.ids, rows.subarray(at, at + 1), 0)?.sample;
          refusals.push(refusalOf(sample, catalogue, catalogue.item(keyIndex, rows[at]!)));
        }
      }
    }
  }
  return refusals;
}

/** Why an item cannot be sent from here. */
function refusalOf(sample: StoredSample | undefined, catalogue: Catalogue, item: number): Reason {
  const id = catalogue.idOf(item);
  const { name: key, dtype, trailingShape } = catalogue.keyOf(item);
  const refusal = (why: string) => ({
    reason: `id ${JSON.stringify(id)}, key ${JSON.stringify(key)}: ${why}`,
    id,
    key,
  });
  if (sample === undefined) return refusal("the id is not stored here, and the plan sends it from here");
  const position = sample.positionOf(key);
  if (position < 0 || sample.lotAt(position) === null) {
    return refusal("there is no data under the key, and the plan sends it from here");
  }
  const lengths = sample.lengthsAt(position);
  const found = { ...sample.fields[position]!, seqlens: typeof lengths === "number" ? [lengths] : lengths };
  const expected = { dtype, trailingShape, seqlens: catalogue.seqlensOf(item) };
  const field = (["dtype", "trailingShape", "seqlens"] as const).find((name) => !same(found[name], expected[name]))!;
  return refusal(`${field} is ${show(found[field])} here and ${show(expected[field])} in the meta`);
}

/** Whether two names, or two lists of numbers, are the same. */
function same(a: string | readonly number[] | null, b: string | readonly number[] | null): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** Reserves memory for what arrives and for packing, and lays out what arrives. */
function reserve(
  holdings: Holdings,
  meta: SequenceSample,
  catalogue: Catalogue,
  program: Program,
  places: Places,
): Omit<Reserved, "positions"> {
  const { rank, worldSize, device, pool, scratch } = holdings;
  const arriving = program.phases.flatMap(({ receives, broadcasts }) => [
    ...receives,
    ...broadcasts.filter(({ root }) => root !== rank),
  ]);
  let slab: Slab | null = null;
  let lot: Lot | null = null;
  let staging: Slab | null = null;
  try {
    if (program.received.length > 0) {
      slab = pool.allocate(arriving.reduce((total, { bytes }) => total + aligned(bytes), 0));
      lot = layOut(slab, arriving, catalogue, program.received, places, scratch);
      slab.seal();
    }
    const outgoing = outgoingOf(program, catalogue, places, worldSize, device);
    const bytes = packingBytes(outgoing);
    if (bytes > 0) staging = pool.allocate(bytes);
    const incoming = incomingSamples(meta, catalogue, program, places, scratch);
    return { catalogue, program, places, outgoing, staging, incoming };
  } catch (error) {
    staging?.seal();
    lot?.releaseAll();
    slab?.seal();
    throw error;
  }
}

/** What arrives in one piece. */
type Arriving = Pick<Message, "items" | "bytes">;

/** Gives what arrives its places: each message in one piece. The pieces are numbered in the order of the items. */
function layOut(
  slab: Slab,
  messages: readonly Arriving[],
  catalogue: Catalogue,
  received: Uint32Array,
  places: Places,
  scratch: Scratch,
): Lot {
  const largest = slab.byteLength;
  const sizes = valuesAt(catalogue.bytes, received, largest);
  const offsets = messages.length === 1 && messages[0]!.items.length === received.length
    ? endToEnd(sizes, largest)
    : valuesAt(offsetsOf(messages, catalogue, scratch), received, largest);
  const lot = slab.lot(offsets, sizes);
  placeAll(received, lot, places);
  return lot;
}

/** Where pieces of these sizes begin that lie one behind the other: in one message that has all that arrives. */
function endToEnd(sizes: Numbers, largest: number): Numbers {
  const offsets = numbersUpTo(largest, sizes.length);
  let offset = 0;
  for (let piece = 0; piece < sizes.length; piece++) {
    offsets[piece] = offset;
    offset += sizes[piece]!;
  }
  return offsets;
}

/** By item where it begins: in its message, one of which lies behind the other. Items without bytes travel in no message, and lie anywhere. */
function offsetsOf(messages: readonly Arriving[], catalogue: Catalogue, scratch: Scratch): Float64Array {
  const offsetOf = scratch.float64(catalogue.size);
  let start = 0;
  for (const { items, bytes } of messages) {
    lineUp(items, catalogue.bytes, start, offsetOf);
    start += aligned(bytes);
  }
  return offsetOf;
}

/** Notes where items begin that lie one behind the other. */
function lineUp(items: Uint32Array, bytes: Float64Array, start: number, offsetOf: Float64Array): void {
  let offset = start;
  for (let i = 0; i < items.length; i++) {
    offsetOf[items[i]!] = offset;
    offset += bytes[items[i]!]!;
  }
}

function valuesAt(values: Float64Array, items: Uint32Array, largest: number): Numbers {
  const found = numbersUpTo(largest, items.length);
  for (let i = 0; i < items.length; i++) found[i] = values[items[i]!]!;
  return found;
}

function placeAll(items: Uint32Array, lot: Lot, places: Places): void {
  for (let piece = 0; piece < items.length; piece++) places.put(items[piece]!, lot, piece);
}

/** The samples that will be installed: one for each id, with the keys received in the order of the meta, and the meta's metadata. */
function incomingSamples(
  meta: SequenceSample,
  catalogue: Catalogue,
  program: Program,
  places: Places,
  scratch: Scratch,
): readonly StoredSample[] {
  const { received } = program;
  if (received.length === 0) return [];
  const lot = places.lotOf(received[0]!);
  const samples: (readonly StoredSample[])[] = [];
  for (const { keyIndices, rows } of rowsByKeys(catalogue, received, scratch)) {
    const own = meta.keys.map((key) => catalogue.keyIndex(key)!).filter((k) => keyIndices.includes(k));
    const values = copyMetadata(meta.metadata);
    const names = Object.keys(values);
    for (const name of names) values[name] = elementsAt(values[name]!, rows);
    const head = { fields: own.map((k) => catalogue.keys[k]!), names, hasData: true };
    const table = SampleTable.of(
      head,
      elementsAt(catalogue.ids, rows),
      own.map((k) => KeyColumn.of(lot, catalogue, k, rows, places)),
      values,
    );
    samples.push(table.samples!);
  }
  return samples.length === 1 ? samples[0]! : samples.flat();
}

function elementsAt<T>(list: readonly T[], positions: Int32Array): T[] {
  const elements: T[] = [];
  for (let i = 0; i < positions.length; i++) elements.push(list[positions[i]!]!);
  return elements;
}

/** Sets of keys, and the positions, ascending, of the ids of which the items have just these; good until `scratch` is reset. Mostly there is one. */
function rowsByKeys(
  catalogue: Catalogue,
  items: Uint32Array,
  scratch: Scratch,
): { keyIndices: readonly number[]; rows: Int32Array }[] {
  const count = catalogue.ids.length;
  /** By id the number of its set: 0 is the empty one. */
  const setOf = scratch.int32(count);
  const sets: { keyIndices: readonly number[]; with: Map<number, number> }[] = [{ keyIndices: [], with: new Map() }];
  /** Ids come in stretches that go from one set to the same other. */
  let before = 0, after = 0, lastKey = -1;
  for (let i = 0, keyIndex = 0, firstItem = 0; i < items.length; i++) {
    while (items[i]! >= firstItem + count) {
      keyIndex++;
      firstItem += count;
    }
    const row = items[i]! - firstItem;
    if (setOf[row] !== before || keyIndex !== lastKey || after === 0) {
      before = setOf[row]!;
      lastKey = keyIndex;
      const known = sets[before]!.with.get(keyIndex);
      after = known ??
        sets.push({ keyIndices: [...sets[before]!.keyIndices, keyIndex], with: new Map() }) - 1;
      sets[before]!.with.set(keyIndex, after);
    }
    setOf[row] = after;
  }
  const { all, ends } = membersOf(setOf, sets.length, scratch);
  return sets.map(({ keyIndices }, set) => ({ keyIndices, rows: stretchOf(all, ends[set - 1] ?? 0, ends[set]!) }))
    .filter(({ rows }) => rows.length > 0);
}

/** Lets everything go that was reserved. */
export function discard(reserved: Reserved | null): void {
  if (reserved === null) return;
  releaseStaging(reserved);
  for (const sample of reserved.incoming) sample.release();
}

/** Lets go what was needed for the move alone. */
export function releaseStaging({ staging }: Reserved): void {
  staging?.seal();
}
