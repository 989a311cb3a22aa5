/**
 * Many ranks in one process, on one device of the stand-in (on a GPU each: one): what most tests of the upper rooms need.
 *
 * @module
 */

import {
  type ClusterLayout,
  Communicator,
  DataManager,
  type DType,
  type HostTensor,
  openRuntime,
  type Runtime,
  SequenceSample,
} from "../mod.ts";
import { native } from "./native.ts";

/** Ranks 0 to n-1, each with a runtime of its own. */
export class Cluster implements AsyncDisposable {
  readonly runtimes: readonly Runtime[];
  readonly managers: DataManager[] = [];

  private constructor(runtimes: readonly Runtime[]) {
    this.runtimes = runtimes;
  }

  /** Opens the runtimes, and nothing else. */
  static async bare(worldSize: number): Promise<Cluster> {
    return new Cluster(
      await Promise.all(
        Array.from(
          { length: worldSize },
          (_, rank) => openRuntime({ backend: native.backend, device: native.backend === "cuda" ? rank : 0 }),
        ),
      ),
    );
  }

  /** Opens runtimes, joins a communicator, and makes the managers. */
  static async open(worldSize: number, layout?: ClusterLayout): Promise<Cluster> {
    const cluster = await Cluster.bare(worldSize);
    const communicators = await cluster.join();
    for (const communicator of communicators) {
      cluster.managers.push(
        await DataManager.create({ communicator, rehearse: false, ...(layout === undefined ? {} : { layout }) }),
      );
    }
    return cluster;
  }

  /** A unique id that no communicator has had. */
  uniqueId(): Uint8Array {
    return this.runtimes[0]!.createUniqueId();
  }

  /** All ranks join one communicator. */
  join(timeoutMs = 20_000): Promise<Communicator[]> {
    const uniqueId = this.uniqueId();
    const worldSize = this.runtimes.length;
    return Promise.all(
      this.runtimes.map((runtime, rank) => Communicator.init(runtime, { uniqueId, rank, worldSize, timeoutMs })),
    );
  }

  /** Calls on all managers at once. */
  all<T>(call: (manager: DataManager, rank: number) => Promise<T>): Promise<T[]> {
    return Promise.all(this.managers.map(call));
  }

  /** Calls on all managers at once, and answers how each call ended. */
  settle<T>(call: (manager: DataManager, rank: number) => Promise<T>): Promise<PromiseSettledResult<T>[]> {
    return Promise.allSettled(this.managers.map(call));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.managers.map((manager) => manager[Symbol.asyncDispose]()));
    for (const runtime of this.runtimes) runtime[Symbol.dispose]();
  }
}

/** A tensor whose bytes are a function of the seed: every bit pattern occurs, NaN payloads included (bool: 0 and 1). */
export function tensorOf(dtype: DType, shape: readonly number[], seed: number): HostTensor {
  const itemSize = ITEM_SIZES[dtype];
  const bytes = new Uint8Array(shape.reduce((product, dim) => product * dim, itemSize));
  let state = (seed + 1) * 2654435761 >>> 0;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = dtype === "bool" ? state >>> 31 : state >>> 24;
  }
  return { dtype, shape, bytes };
}

const ITEM_SIZES: Record<DType, number> = {
  bool: 1,
  uint8: 1,
  int8: 1,
  int16: 2,
  uint16: 2,
  int32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
  float16: 2,
  bfloat16: 2,
  float32: 4,
  float64: 8,
};

/** All element types. */
export const DTYPES: readonly DType[] = Object.keys(ITEM_SIZES) as DType[];

/** A batch with the given keys; each id has two sequences, their lengths a function of its position. */
export function batchOf(
  ids: readonly string[],
  keys: Readonly<Record<string, { dtype: DType; trailingShape: readonly number[] }>>,
  seed = 0,
): SequenceSample {
  const names = Object.keys(keys);
  const lengths = (key: number, id: number) => [(id * 7 + key * 3 + seed) % 23, 1 + (id + key) % 5];
  return new SequenceSample({
    ids,
    keys: names,
    dtypes: Object.fromEntries(names.map((name) => [name, keys[name]!.dtype])),
    trailingShapes: Object.fromEntries(names.map((name) => [name, keys[name]!.trailingShape])),
    seqlens: Object.fromEntries(names.map((name, k) => [name, ids.map((_, i) => lengths(k, i))])),
    data: Object.fromEntries(names.map((name, k) => {
      const total = ids.reduce((sum, _, i) => sum + lengths(k, i).reduce((a, b) => a + b), 0);
      return [name, tensorOf(keys[name]!.dtype, [total, ...keys[name]!.trailingShape], seed + k)];
    })),
    metadata: { prompt: ids.map((id) => `prompt of ${id}`), weight: ids.map((_, i) => i / 8) },
  });
}

/** Keys of every dtype, with several trailing shapes. */
export const EVERY_DTYPE: Readonly<Record<string, { dtype: DType; trailingShape: readonly number[] }>> = Object
  .fromEntries(
    DTYPES.map((dtype, i) => [`key_${dtype}`, { dtype, trailingShape: [[], [3], [2, 2], [1]][i % 4]! }]),
  );
