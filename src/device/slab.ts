/**
 * Slabs: device allocations that hold many tensors each.
 *
 * A *region* is a piece of a slab. Regions are counted; a sealed slab is freed when its last region is released. A pool hands out slabs for
 * transfers and places for single tensors, and compacts slabs of which less than half is still in use, so that a tensor that stays never keeps
 * a whole batch alive.
 *
 * @module
 */

import type { DeviceRuntime } from "./runtime.ts";
import type { Stream } from "./stream.ts";

/** Where a tensor may begin: enough for every vector load and for a copy engine's burst. */
export const ALIGNMENT = 256;
/** Bytes of the slab that single tensors are placed in. */
const ARENA_BYTES = 1 << 20;

/** Rounds up to the alignment of tensors. */
export function aligned(byteLength: number): number {
  return Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT;
}

/** A piece of a slab. Its place may change when the pool compacts; its bytes never do. */
export class Region {
  /** Size in bytes. */
  readonly byteLength: number;
  #slab: Slab;
  #offset: number;
  #owners = 1;
  #readers = 0;

  /** Made by {@linkcode Slab.region}. */
  constructor(slab: Slab, offset: number, byteLength: number) {
    this.#slab = slab;
    this.#offset = offset;
    this.byteLength = byteLength;
  }

  /** The device address at this moment. */
  get address(): bigint {
    return this.#slab.address + BigInt(this.#offset);
  }

  /** The slab it lies in at this moment. */
  get slab(): Slab {
    return this.#slab;
  }

  /** Whether nobody owns it any more. */
  get released(): boolean {
    return this.#owners === 0;
  }

  /** Whether someone is reading it: then it neither moves nor goes. */
  get beingRead(): boolean {
    return this.#readers > 0;
  }

  /** One more owner. */
  retain(): this {
    if (this.#owners === 0) throw new Error("a region was retained after its release");
    this.#owners++;
    return this;
  }

  /** One owner less; with the last one the region goes. */
  release(): void {
    if (this.#owners === 0) throw new Error("a region was released more often than it was owned");
    this.#owners--;
    if (this.#owners === 0 && this.#readers === 0) this.#slab.drop(this);
  }

  /** Holds the bytes where they are while `read` runs, even when the last owner goes meanwhile. */
  async whileReading<T>(read: (address: bigint) => Promise<T>): Promise<T> {
    this.#readers++;
    try {
      return await read(this.address);
    } finally {
      this.#readers--;
      if (this.#readers === 0 && this.#owners === 0) this.#slab.drop(this);
    }
  }

  /** Moves to another place, which holds the same bytes. */
  relocate(slab: Slab, offset: number): void {
    const left = this.#slab;
    this.#slab = slab;
    this.#offset = offset;
    slab.adopt(this);
    left.drop(this);
  }
}

/** One device allocation. */
export class Slab {
  /** The runtime whose memory it is. */
  readonly runtime: DeviceRuntime;
  /** The device address of its first byte. */
  readonly address: bigint;
  /** Size in bytes. */
  readonly byteLength: number;
  readonly #regions = new Set<Region>();
  #liveBytes = 0;
  readonly #giveBack: () => void;
  #sealed = false;
  #freed = false;

  /** Allocates the memory, unless it is there already. Throws a {@linkcode CudaError} when there is not enough. */
  constructor(runtime: DeviceRuntime, byteLength: number, memory?: { address: bigint; giveBack: () => void }) {
    this.runtime = runtime;
    this.byteLength = byteLength;
    const address = memory?.address ?? runtime.allocate(byteLength);
    this.address = address;
    this.#giveBack = memory?.giveBack ?? (() => runtime.free(address, byteLength));
  }

  /** Bytes of the regions that are still in use, each rounded up to the alignment. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** The regions still in use. */
  get regions(): ReadonlySet<Region> {
    return this.#regions;
  }

  /** Whether the memory was given back. */
  get freed(): boolean {
    return this.#freed;
  }

  /** Whether it is freed as soon as its last region goes. */
  get sealed(): boolean {
    return this.#sealed;
  }

  /** A new region of this slab, with one owner. */
  region(offset: number, byteLength: number): Region {
    const region = new Region(this, offset, byteLength);
    this.adopt(region);
    return region;
  }

  /** Counts a region in. */
  adopt(region: Region): void {
    this.#regions.add(region);
    this.#liveBytes += aligned(region.byteLength);
  }

  /** Counts a region out. */
  drop(region: Region): void {
    if (!this.#regions.delete(region)) return;
    this.#liveBytes -= aligned(region.byteLength);
    this.#freeIfUnused();
  }

  /** No more regions will be made: from now on the slab goes with its last one. */
  seal(): void {
    this.#sealed = true;
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (!this.#sealed || this.#freed || this.#regions.size > 0) return;
    this.#freed = true;
    this.#giveBack();
  }
}

/** The slabs of one manager. */
export class SlabPool implements Disposable {
  readonly #runtime: DeviceRuntime;
  readonly #slabs = new Set<Slab>();
  #arena: { slab: Slab; used: number } | undefined;

  /** An empty pool. */
  constructor(runtime: DeviceRuntime) {
    this.#runtime = runtime;
  }

  /** Bytes that the pool's slabs take on the device. */
  get byteLength(): number {
    let total = 0;
    for (const slab of this.#live()) total += slab.byteLength;
    return total;
  }

  /** A new slab; its taker makes the regions and seals it. */
  allocate(byteLength: number): Slab {
    const slab = new Slab(this.#runtime, byteLength);
    this.#slabs.add(slab);
    return slab;
  }

  /** A region for one tensor, in a slab shared with others. */
  place(byteLength: number): Region {
    const size = aligned(byteLength);
    let arena = this.#arena;
    if (arena !== undefined && arena.slab.regions.size === 0) arena.used = 0;
    if (arena === undefined || arena.used + size > arena.slab.byteLength) {
      if (size > ARENA_BYTES / 4) {
        const slab = this.allocate(byteLength);
        const region = slab.region(0, byteLength);
        slab.seal();
        return region;
      }
      const slab = this.allocate(ARENA_BYTES);
      arena?.slab.seal();
      this.#arena = arena = { slab, used: 0 };
    }
    const region = arena.slab.region(arena.used, byteLength);
    arena.used += size;
    return region;
  }

  /**
   * Moves what is left of slabs of which less than half is in use into one new slab. The copies are enqueued on `stream`. Does nothing where there
   * is no memory for it: that is tried again the next time.
   */
  compact(stream: Stream): void {
    const sparse = [...this.#live()].filter((slab) =>
      slab.sealed && slab.liveBytes * 2 < slab.byteLength && slab.byteLength > ALIGNMENT &&
      ![...slab.regions].some((region) => region.beingRead)
    );
    const regions = sparse.flatMap((slab) => [...slab.regions]);
    if (regions.length === 0) return;
    let target: Slab;
    try {
      target = this.allocate(regions.reduce((total, region) => total + aligned(region.byteLength), 0));
    } catch {
      return;
    }
    let offset = 0;
    for (const region of regions) {
      if (region.byteLength > 0) stream.copy(target.address + BigInt(offset), region.address, region.byteLength);
      region.relocate(target, offset);
      offset += aligned(region.byteLength);
    }
    target.seal();
  }

  #live(): Set<Slab> {
    for (const slab of this.#slabs) if (slab.freed) this.#slabs.delete(slab);
    return this.#slabs;
  }

  /** Seals what is still open. Slabs go with their last regions. */
  [Symbol.dispose](): void {
    this.#arena?.slab.seal();
    this.#arena = undefined;
  }
}
