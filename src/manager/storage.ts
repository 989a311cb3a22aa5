/**
 * What a rank holds: samples of one id each, their tensors in device memory.
 *
 * @module
 */

import type { DeviceRuntime } from "../device/runtime.ts";
import type { SlabPool } from "../device/slab.ts";
import { SampleError } from "../errors.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import { type HostTensor, isHostTensor, type TensorHandle } from "../sample/tensor.ts";
import { DeviceTensor } from "../transfer/device_tensor.ts";

/** Samples by id, their tensors on the device. */
export class Storage {
  readonly #device: DeviceRuntime;
  readonly #pool: SlabPool;
  readonly #samples = new Map<string, SequenceSample>();

  /** An empty storage on one device. */
  constructor(device: DeviceRuntime, pool: SlabPool) {
    this.#device = device;
    this.#pool = pool;
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

  /** What is stored under an id, to be looked at only. */
  peek(id: string): SequenceSample | undefined {
    return this.#samples.get(id);
  }

  /** The tensor of an id and key, or null where there is none. */
  tensor(id: string, key: string): DeviceTensor | null {
    const tensor = this.#samples.get(id)?.data?.[key] ?? null;
    return tensor instanceof DeviceTensor ? tensor : null;
  }

  /** A sample of its own over the tensors that are stored. */
  get(id: string): SequenceSample {
    const sample = this.#samples.get(id);
    if (sample === undefined) throw new SampleError(`no sample with id ${JSON.stringify(id)} is stored`);
    return sample.select(sample.keys);
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

  /** Merges samples whose tensors are on the device: new ids are added, ids that are there get the keys replaced. All or nothing. */
  install(incoming: readonly SequenceSample[]): void {
    const merged = incoming.map((sample) => merge(this.#samples.get(sample.ids[0]!), sample));
    const replaced: DeviceTensor[] = [];
    incoming.forEach((sample, i) => {
      const id = sample.ids[0]!;
      const before = this.#samples.get(id);
      for (const key of sample.keys) {
        const tensor = before?.data?.[key] ?? null;
        if (tensor instanceof DeviceTensor) replaced.push(tensor);
      }
      this.#samples.set(id, merged[i]!);
    });
    for (const tensor of replaced) tensor.region.release();
    this.#compact();
  }

  /** Lets ids go; unknown ones are passed over. */
  remove(ids: readonly string[]): void {
    for (const id of ids) {
      const sample = this.#samples.get(id);
      if (sample === undefined) continue;
      this.#samples.delete(id);
      releaseTensors(sample);
    }
    this.#compact();
  }

  /** Lets everything go. */
  clear(): void {
    for (const sample of this.#samples.values()) releaseTensors(sample);
    this.#samples.clear();
  }

  #compact(): void {
    this.#pool.compact(this.#device.copier.stream);
  }

  /** The sample with its tensors on this device. */
  #upload(sample: SequenceSample): SequenceSample {
    const { ids, keys, dtypes, trailingShapes, seqlens, metadata } = sample;
    if (sample.data === null) return sample.select(keys);
    const data: Record<string, DeviceTensor | null> = {};
    try {
      for (const key of keys) data[key] = this.#place(key, sample.data[key] ?? null);
      return new SequenceSample({ ids, keys, dtypes, trailingShapes, seqlens, data, metadata });
    } catch (error) {
      for (const tensor of Object.values(data)) tensor?.region.release();
      throw error;
    }
  }

  #place(key: string, tensor: HostTensor | TensorHandle | null): DeviceTensor | null {
    if (tensor === null) return null;
    if (isHostTensor(tensor)) {
      const region = this.#pool.place(tensor.bytes.byteLength);
      try {
        // From pageable memory CUDA has taken the bytes when the call returns, so the caller's array is free at once.
        this.#device.copier.stream.copyFromHost(region.address, tensor.bytes);
      } catch (error) {
        region.release();
        throw error;
      }
      return new DeviceTensor(region, tensor.dtype, [...tensor.shape]);
    }
    if (tensor instanceof DeviceTensor && tensor.region.slab.runtime === this.#device && !tensor.region.released) {
      return new DeviceTensor(tensor.region.retain(), tensor.dtype, tensor.shape);
    }
    throw new SampleError(
      `the tensor of key ${
        JSON.stringify(key)
      } is neither on the host nor on this rank's device: bring it over with toHost`,
    );
  }
}

/** The id of a sample that must have just one. */
function onlyId(sample: SequenceSample): string {
  if (!(sample instanceof SequenceSample)) throw new SampleError("a SequenceSample is stored, nothing else");
  if (sample.ids.length !== 1) {
    throw new SampleError(`a sample with one id is stored; this one has ${sample.ids.length}: unpack() it first`);
  }
  return sample.ids[0]!;
}

function merge(before: SequenceSample | undefined, incoming: SequenceSample): SequenceSample {
  if (before === undefined) return incoming;
  const keys = [...before.keys, ...incoming.keys.filter((key) => !before.keys.includes(key))];
  const data: Record<string, HostTensor | TensorHandle | null> = {};
  for (const key of keys) {
    const source = incoming.keys.includes(key) ? incoming : before;
    data[key] = source.data?.[key] ?? null;
  }
  return new SequenceSample({
    ids: before.ids,
    keys,
    dtypes: { ...before.dtypes, ...incoming.dtypes },
    trailingShapes: { ...before.trailingShapes, ...incoming.trailingShapes },
    seqlens: { ...before.seqlens, ...incoming.seqlens },
    data,
    metadata: { ...before.metadata, ...incoming.metadata },
  });
}

/** Gives up the device memory of a sample's tensors. */
export function releaseTensors(sample: SequenceSample): void {
  for (const tensor of Object.values(sample.data ?? {})) if (tensor instanceof DeviceTensor) tensor.region.release();
}
