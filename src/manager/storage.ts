/**
 * What a rank holds: samples of one id each, their tensors in device memory.
 *
 * @module
 */

import type { DeviceRuntime } from "../device/runtime.ts";
import type { Region, SlabPool } from "../device/slab.ts";
import type { Stream } from "../device/stream.ts";
import { SampleError } from "../errors.ts";
import { itemSize } from "../sample/dtype.ts";
import { copyMetadata, distinctNames, totalLength } from "../sample/fields.ts";
import { entryOf } from "../sample/path.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import { type HostTensor, isHostTensor, requireBytes, type TensorHandle } from "../sample/tensor.ts";
import { type CatalogueKey, keyOf, sameKey } from "../transfer/catalogue.ts";
import { DeviceTensor } from "../transfer/device_tensor.ts";
import { lengthsOf, SampleTable, type StoredSample, type TableHead } from "./stored_sample.ts";

/** Samples by id, their tensors on the device. */
export class Storage {
  readonly #device: DeviceRuntime;
  readonly #pool: SlabPool;
  readonly #copies: () => Pick<Stream, "copy">;
  readonly #samples = new Map<string, StoredSample>();
  #lastFields: readonly CatalogueKey[] = [];
  /** What was stored last is in it, and what is like that comes to it. */
  #table: SampleTable | undefined;

  /** An empty storage on one device. What is left of its memory is brought together on the stream of uploads, unless another is given. */
  constructor(
    device: DeviceRuntime,
    pool: SlabPool,
    copies: () => Pick<Stream, "copy"> = () => device.copier.stream,
  ) {
    this.#device = device;
    this.#pool = pool;
    this.#copies = copies;
  }

  /** How many ids there are. */
  get size(): number {
    return this.#samples.size;
  }

  /** The ids, in the order in which they came. */
  ids(): string[] {
    return [...this.#samples.keys()];
  }

  /** Whether an id is there. */
  has(id: string): boolean {
    return this.#samples.has(id);
  }

  /**
   * What is stored under an id, to be looked at only, and how far the ids behind it in the list follow it in its table too; undefined where nothing is.
   *
   * @param ids The ids.
   * @param rows Positions among them: the list.
   * @param begin The place in the list to begin at.
   */
  peek(
    ids: readonly string[],
    rows: Int32Array,
    begin: number,
  ): { sample: StoredSample; end: number } | undefined {
    const sample = this.#samples.get(ids[rows[begin]!]!);
    if (sample === undefined) return undefined;
    let end = begin + 1;
    for (let last = sample; end < rows.length; end++) {
      const { next } = last;
      if (next === undefined || next.id !== ids[rows[end]!]) break;
      last = next;
    }
    return { sample, end };
  }

  /** A sample of its own over the tensors that are stored. */
  get(id: string): SequenceSample {
    const sample = this.#samples.get(id);
    if (sample === undefined) throw new SampleError(`no sample with id ${JSON.stringify(id)} is stored`);
    return sample.toSample();
  }

  /** Takes a sample of one new id; its host tensors are copied to the device. All or nothing. */
  store(sample: SequenceSample): void {
    const id = onlyId(sample);
    if (this.#samples.has(id)) throw new SampleError(`a sample with id ${JSON.stringify(id)} is stored already`);
    this.#samples.set(id, this.#upload(sample));
  }

  /** Replaces keys of an id that is there. All or nothing. */
  update(sample: SequenceSample): void {
    const id = onlyId(sample);
    if (!this.#samples.has(id)) throw new SampleError(`no sample with id ${JSON.stringify(id)} is stored`);
    this.install([this.#upload(sample)]);
  }

  /** Merges samples: new ids are added, ids that are there get the keys replaced. All or nothing. */
  install(incoming: readonly StoredSample[]): void {
    this.#compact(merge(this.#samples, incoming));
  }

  /** Lets ids go; unknown ones are passed over. Throws a {@linkcode SampleError} for what is no array of strings. */
  remove(ids: readonly string[]): void {
    const given = distinctNames(ids, "ids");
    const touched = new Set<SampleTable>();
    for (const id of given) {
      const sample = this.#samples.get(id);
      if (sample === undefined) continue;
      this.#samples.delete(id);
      touched.add(sample.table);
      sample.release();
    }
    this.#compact(touched);
  }

  /** Lets everything go. */
  clear(): void {
    for (const sample of this.#samples.values()) sample.release();
    this.#samples.clear();
    this.#compact([]);
  }

  #compact(touched: Iterable<SampleTable>): void {
    for (const table of touched) table.thin();
    this.#pool.compact(this.#copies);
  }

  /** The sample with its tensors on this device. */
  #upload(sample: SequenceSample): StoredSample {
    const { ids, keys, dtypes, trailingShapes, seqlens, data, metadata } = sample;
    const regions: (Region | null)[] = [];
    try {
      for (const key of keys) {
        const tensor = data?.[key] ?? null;
        if (tensor !== null) {
          const shape = [totalLength(seqlens[key]!), ...trailingShapes[key] ?? []];
          requireBytes(tensor, dtypes[key]!, shape, entryOf("data", key));
        }
        regions.push(this.#place(key, tensor));
      }
    } catch (error) {
      for (const region of regions) region?.release();
      throw error;
    }
    const head: TableHead = {
      fields: this.#fieldsOf(sample),
      names: Object.keys(metadata),
      hasData: data !== null,
    };
    const lots = regions.map((region) => region?.lot ?? null);
    if (this.#table?.takes(head, lots) !== true) this.#table = SampleTable.empty(head, lots);
    const values = copyMetadata(metadata);
    return this.#table.add(
      ids[0]!,
      (k) => regions[k]?.piece ?? 0,
      (k) => lengthsOf(seqlens[keys[k]!]![0]!),
      (name) => values[name]![0],
    );
  }

  /** The sample's keys; the list of the one before where it has the same. */
  #fieldsOf(sample: SequenceSample): readonly CatalogueKey[] {
    const fields = sample.keys.map((key) => keyOf(sample, key));
    const last = this.#lastFields;
    if (fields.length === last.length && fields.every((field, k) => sameKey(field, last[k]!))) return last;
    return this.#lastFields = fields;
  }

  #place(key: string, tensor: HostTensor | TensorHandle | null): Region | null {
    if (tensor === null) return null;
    if (isHostTensor(tensor)) {
      const elementBytes = itemSize(tensor.dtype);
      const region = this.#pool.place(tensor.bytes.byteLength, `${elementBytes} ${key}`, elementBytes);
      try {
        // From pageable memory CUDA has taken the bytes when the call returns, so the caller's array is free at once.
        this.#device.copier.stream.copyFromHost(region.address, tensor.bytes);
      } catch (error) {
        region.release();
        throw error;
      }
      return region;
    }
    if (tensor instanceof DeviceTensor && tensor.region.slab.runtime === this.#device && !tensor.region.released) {
      return tensor.region.retain();
    }
    throw new SampleError(
      `the tensor of key ${
        JSON.stringify(key)
      } is neither on the host nor on this rank's device: bring it over with toHost`,
    );
  }
}

/**
 * Adds samples to those that are there; returns the tables that lost rows by it. A function of its own: the engine compiles a long loop while it runs, and
 * would have to give that code up at each call for what comes behind the loop.
 */
function merge(samples: Map<string, StoredSample>, incoming: readonly StoredSample[]): Set<SampleTable> {
  const touched = new Set<SampleTable>();
  for (const sample of incoming) {
    const before = samples.get(sample.id);
    if (before === undefined) {
      samples.set(sample.id, sample);
    } else {
      touched.add(before.table).add(sample.table);
      samples.set(sample.id, before.mergedWith(sample));
    }
  }
  return touched;
}

/** The id of a sample that must have just one. */
function onlyId(sample: SequenceSample): string {
  if (!(sample instanceof SequenceSample)) throw new SampleError("a SequenceSample is stored, nothing else");
  if (sample.ids.length !== 1) {
    throw new SampleError(`a sample with one id is stored; this one has ${sample.ids.length}: unpack() it first`);
  }
  return sample.ids[0]!;
}
