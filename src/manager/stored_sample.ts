/**
 * One id as it is stored.
 *
 * A batch brings tens of thousands of tensors at once, so that what is kept for each is no more than a piece of a slab and its lengths. What an id has in
 * common with the others that came with it, they share.
 *
 * @module
 */

import { type Lot, Region } from "../device/slab.ts";
import { OwnedFields } from "../sample/fields.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import type { CatalogueKey } from "../transfer/catalogue.ts";
import { DeviceTensor } from "../transfer/device_tensor.ts";

/** The lengths of an id's sequences under one key; where there is just one, it alone. */
export type Lengths = number | readonly number[];

/** Lengths as they are kept: a copy. */
export function lengthsOf(sequences: readonly number[]): Lengths {
  return sequences.length === 1 ? sequences[0]! : sequences.slice();
}

/** An id with its tensors. The lists go by the position of the key in `fields`. */
export class StoredSample {
  /** Its name. */
  readonly id: string;
  /** Its keys. Samples that came together share the list. */
  readonly fields: readonly CatalogueKey[];
  /** The lots that its tensors are pieces of; null where a key has no data. */
  readonly lots: readonly (Lot | null)[];
  /** The numbers of the pieces. */
  readonly pieces: readonly number[];
  /** The lengths of its sequences. */
  readonly lengths: readonly Lengths[];
  /** Per name a list of one value. */
  readonly metadata: Readonly<Record<string, unknown[]>>;
  /** Whether it has data at all: else it is metadata-only. */
  readonly hasData: boolean;

  /** Takes over one ownership of each piece. */
  constructor(
    id: string,
    fields: readonly CatalogueKey[],
    lots: readonly (Lot | null)[],
    pieces: readonly number[],
    lengths: readonly Lengths[],
    metadata: Readonly<Record<string, unknown[]>>,
    hasData = true,
  ) {
    this.id = id;
    this.fields = fields;
    this.lots = lots;
    this.pieces = pieces;
    this.lengths = lengths;
    this.metadata = metadata;
    this.hasData = hasData;
  }

  /** The position of a key, or -1. */
  positionOf(key: string): number {
    return this.fields.findIndex(({ name }) => name === key);
  }

  /** A sample of its own over the stored tensors. */
  toSample(): SequenceSample {
    const fields = new OwnedFields([this.id], this.fields.map(({ name }) => name));
    if (this.hasData) fields.data = {};
    this.fields.forEach(({ name, dtype, trailingShape }, k) => {
      const lengths = this.lengths[k]!;
      const sequences = typeof lengths === "number" ? [lengths] : [...lengths];
      fields.dtypes[name] = dtype;
      fields.trailingShapes[name] = trailingShape === null ? null : [...trailingShape];
      fields.seqlens[name] = [sequences];
      if (fields.data === null) return;
      const lot = this.lots[k]!;
      if (lot === null || dtype === null || trailingShape === null) {
        fields.data[name] = null;
        return;
      }
      const elements = sequences.reduce((sum, length) => sum + length, 0);
      fields.data[name] = new DeviceTensor(new Region(lot, this.pieces[k]!), dtype, [elements, ...trailingShape]);
    });
    fields.metadata = { ...this.metadata };
    const sample = new SequenceSample(fields);
    // Shares no list or value with what is stored.
    return sample.select(sample.keys);
  }

  /** Gives up its tensors. */
  release(): void {
    this.lots.forEach((lot, k) => lot?.release(this.pieces[k]!));
  }

  /** This sample with what has come: keys that it has are replaced, others are added. Neither is changed; the replaced tensors stay owned. */
  mergedWith(incoming: StoredSample): StoredSample {
    // The order of keys is that of this sample, then that of what has come.
    const order = [
      ...this.fields.map(({ name }) => name),
      ...incoming.fields.map(({ name }) => name).filter((name) => this.positionOf(name) < 0),
    ];
    const from = order.map((name) => {
      const k = incoming.positionOf(name);
      return k >= 0 ? { sample: incoming, k } : { sample: this as StoredSample, k: this.positionOf(name) };
    });
    return new StoredSample(
      this.id,
      from.map(({ sample, k }) => sample.fields[k]!),
      from.map(({ sample, k }) => sample.lots[k]!),
      from.map(({ sample, k }) => sample.pieces[k]!),
      from.map(({ sample, k }) => sample.lengths[k]!),
      { ...this.metadata, ...incoming.metadata },
      this.hasData || incoming.hasData,
    );
  }

  /** Gives up the tensors of the keys that `incoming` replaces. */
  releaseReplacedBy(incoming: StoredSample): void {
    this.fields.forEach(({ name }, k) => {
      if (incoming.positionOf(name) >= 0) this.lots[k]?.release(this.pieces[k]!);
    });
  }
}
