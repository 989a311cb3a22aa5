/**
 * The items of a transfer, numbered.
 *
 * An *item* is one (id, key) of the meta sample. Items are numbered so that ascending numbers are the order of the bytes in every message:
 * keys with the largest element first (so that each tensor in a packed message stays aligned to its own elements without any padding),
 * then keys by code unit, then ids in the order of the meta. All ranks number alike because all have the same meta.
 *
 * Pure: knows no device.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { type DType, itemSize } from "../sample/dtype.ts";
import { rowBytes } from "../sample/tensor.ts";
import { sumOf } from "../sample/fields.ts";
import { forEachStretch } from "../plan/stretches.ts";
import { positionsOfIds } from "../plan/positions_of_ids.ts";
import { Scratch } from "../scratch.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";

/** One key of a catalogue. */
export interface CatalogueKey {
  /** The key's name. */
  readonly name: string;
  /** Its element type; null where the meta has none: such a key cannot be moved. */
  readonly dtype: DType | null;
  /** The shape of one element of a sequence; null as for the dtype. */
  readonly trailingShape: readonly number[] | null;
  /** Bytes of one element of a sequence: item size times the trailing shape; 0 where the dtype is null. */
  readonly bytesPerElement: number;
}

/** The numbered items of one meta sample. */
export class Catalogue {
  /** The ids, in the order of the meta. */
  readonly ids: readonly string[];
  /** The keys, in wire order. */
  readonly keys: readonly CatalogueKey[];
  /** Per item the number of sequence elements: the sum of the id's lengths under the key. */
  readonly lengths: Float64Array;
  /** Per item its size in bytes. */
  readonly bytes: Float64Array;
  /** By item 1 where the id has just one sequence: its length is the item's. */
  readonly isSingle: Uint8Array;
  /** By key, by id, the lengths of its sequences. */
  readonly seqlens: readonly (readonly (readonly number[])[])[];
  /** By item the sum of the sizes of all items before it; at last that of all. */
  readonly #bytesBefore: Float64Array;
  readonly #source: SequenceSample["seqlens"];
  #idIndex: Map<string, number> | undefined;
  readonly #keyIndex = new Map<string, number>();

  /** Numbers the items of `meta`. Its data, if any, is not looked at. Good until `memory` is reset. */
  constructor(meta: SequenceSample, memory: Scratch = new Scratch()) {
    this.#source = meta.seqlens;
    this.ids = meta.ids;
    this.keys = meta.keys.map((name) => keyOf(meta, name)).sort((a, b) =>
      elementSize(b) - elementSize(a) || (a.name < b.name ? -1 : 1)
    );
    for (const [index, key] of this.keys.entries()) this.#keyIndex.set(key.name, index);
    this.seqlens = this.keys.map(({ name }) => meta.seqlens[name]!);
    const size = this.ids.length * this.keys.length;
    this.lengths = memory.float64(size);
    this.bytes = memory.float64(size);
    this.isSingle = memory.uint8(size);
    this.#bytesBefore = memory.float64(size + 1);
    let item = 0;
    for (const [keyIndex, { bytesPerElement }] of this.keys.entries()) {
      const perId = this.seqlens[keyIndex]!;
      for (let idIndex = 0; idIndex < perId.length; idIndex++) {
        const sequences = perId[idIndex]!;
        const single = sequences.length === 1;
        const length = single ? sequences[0]! : sumOf(sequences);
        this.isSingle[item] = single ? 1 : 0;
        this.lengths[item] = length;
        this.bytes[item] = length * bytesPerElement;
        this.#bytesBefore[item + 1] = this.#bytesBefore[item]! + this.bytes[item]!;
        item++;
      }
    }
  }

  /** Whether this is still the catalogue of a sample that it was made from: what changes a sample gives it new lengths. */
  isOf(meta: SequenceSample): boolean {
    return this.#source === meta.seqlens;
  }

  /** How many items there are. */
  get size(): number {
    return this.lengths.length;
  }

  /** The positions of the ids. Made when first asked for: where ids come in order nobody asks, and it is most of the work. */
  get idIndices(): ReadonlyMap<string, number> {
    return this.#idIndex ??= positionsOfIds(this.ids);
  }

  /** The position of an id, or undefined. */
  idIndex(id: string): number | undefined {
    return this.idIndices.get(id);
  }

  /** The position of a key in wire order, or undefined. */
  keyIndex(key: string): number | undefined {
    return this.#keyIndex.get(key);
  }

  /** The number of the item at these positions. */
  item(keyIndex: number, idIndex: number): number {
    return keyIndex * this.ids.length + idIndex;
  }

  /** The id of an item. */
  idOf(item: number): string {
    return this.ids[item % this.ids.length]!;
  }

  /** The key of an item. */
  keyOf(item: number): CatalogueKey {
    return this.keys[Math.floor(item / this.ids.length)]!;
  }

  /** The lengths of an item's sequences. */
  seqlensOf(item: number): readonly number[] {
    const idIndex = item % this.ids.length;
    return this.seqlens[(item - idIndex) / this.ids.length]![idIndex]!;
  }

  /** The dtype and shape of an item's tensor. Throws a {@linkcode SampleError} for a key without dtype. */
  tensorOf(item: number): { dtype: DType; shape: number[] } {
    const { name, dtype, trailingShape } = this.keyOf(item);
    if (dtype === null || trailingShape === null) throw new SampleError(`key ${JSON.stringify(name)} has no dtype`);
    return { dtype, shape: [this.lengths[item]!, ...trailingShape] };
  }

  /** The sum of the sizes of some items, in bytes. Those that follow each other are added at once. */
  totalBytes(items: Uint32Array): number {
    let total = 0;
    forEachStretch(items, (begin, end) => total += this.bytesBetween(begin, end));
    return total;
  }

  /** The sum of the sizes of the items from `begin` to before `end`, in bytes. */
  bytesBetween(begin: number, end: number): number {
    return this.#bytesBefore[end]! - this.#bytesBefore[begin]!;
  }
}

/** The catalogue of the sample that is being moved: the same batch is moved several times, with one plan after another. */
export class LatestCatalogue {
  /** The catalogues of one batch after another are made in it. */
  readonly #memory = new Scratch();
  /** Of the last sample alone, and as long as somebody has that. */
  #bySample = new WeakMap<SequenceSample, Catalogue>();

  /** The catalogue of a sample, good until one is made of another. */
  of(meta: SequenceSample): Catalogue {
    const known = this.#bySample.get(meta);
    if (known?.isOf(meta)) return known;
    // The one before goes first, whatever becomes of this one.
    this.#bySample = new WeakMap();
    this.#memory.reset();
    const catalogue = new Catalogue(meta, this.#memory);
    this.#bySample.set(meta, catalogue);
    return catalogue;
  }
}

/** One key of a sample. */
export function keyOf({ dtypes, trailingShapes }: SequenceSample, name: string): CatalogueKey {
  const dtype = dtypes[name] ?? null;
  const trailingShape = trailingShapes[name] ?? null;
  return {
    name,
    dtype,
    trailingShape: trailingShape === null ? null : [...trailingShape],
    bytesPerElement: dtype === null || trailingShape === null ? 0 : rowBytes(dtype, trailingShape),
  };
}

/** Whether two keys have the same name, dtype and trailing shape. */
export function sameKey(a: CatalogueKey, b: CatalogueKey): boolean {
  return a.name === b.name && a.dtype === b.dtype && sameShape(a.trailingShape, b.trailingShape);
}

function sameShape(a: readonly number[] | null, b: readonly number[] | null): boolean {
  if (a === null || b === null) return a === b;
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

function elementSize(key: CatalogueKey): number {
  return key.dtype === null ? 0 : itemSize(key.dtype);
}
