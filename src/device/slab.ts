/**
 * Slabs: device allocations that hold many tensors each.
 *
 * A *lot* is a table of pieces of one slab, which came together: each has an offset, a size and a count of owners. A batch has tens of thousands of tensors, so
 * that they are rows of a table, and not objects; a {@linkcode Region} names one row where an object is wanted. A sealed slab is freed when its last piece
 * is released. A pool hands out slabs for transfers and places for single tensors, and compacts slabs of which less than half is still in use, so that a
 * tensor that stays never keeps a whole batch alive.
 *
 * @module
 */

import { type AddressWords, wordsOf } from "./copy_batch.ts";
import { NO_NUMBERS, NumberColumn, type Numbers } from "./number_column.ts";
import { type DeviceRuntime, isOutOfMemory } from "./runtime.ts";
import type { Stream } from "./stream.ts";

/** Where what has memory of its own begins: enough for every vector load and for a copy engine's burst. */
export const ALIGNMENT = 256;
/** What compaction keeps of a tensor's alignment: enough for the widest load. */
const KEPT_ALIGNMENT = 16;
/** Bytes of the first slab of a lane, see {@linkcode SlabPool.place}; a tensor as large as that has a slab of its own. */
const SMALLEST_ARENA_BYTES = 256 << 10;
/** Each further one is larger by a quarter: what is not in use yet is at most a fifth of the lane, and a batch lies in few pieces. */
const ARENA_GROWTH = 1.25;
/** Bytes of the largest slab of a lane. */
const LARGEST_ARENA_BYTES = 64 << 20;

/** Rounds up to the alignment of what has memory of its own. */
export function aligned(byteLength: number): number {
  return Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT;
}

/** Pieces of one slab. They may move to another slab together when the pool compacts; their bytes never change by that. */
export class Lot {
  #slab: Slab;
  /** By piece where it begins in the slab, in bytes. */
  readonly #offsets: Column;
  /** By piece its size in bytes. */
  readonly #sizes: Column;
  /** By piece how many own it. */
  readonly #owners: Column;
  #readers: Map<number, number> | undefined;
  #live = 0;
  #liveBytes = 0;

  /** Made by {@linkcode Slab.lot}. */
  constructor(slab: Slab, offsets: Numbers, sizes: Numbers) {
    this.#slab = slab;
    this.#offsets = new Column(offsets);
    this.#sizes = new Column(sizes);
    this.#owners = new Column(new Uint8Array(offsets.length).fill(1));
    this.#live = offsets.length;
    this.#liveBytes = sumOf(sizes);
    if (this.#live > 0) slab.adopt(this);
  }

  /** The slab that the pieces lie in at this moment. */
  get slab(): Slab {
    return this.#slab;
  }

  /** How many pieces are in use. */
  get live(): number {
    return this.#live;
  }

  /** Bytes of the pieces that are in use. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Whether any piece is being read: then none of them moves. */
  get beingRead(): boolean {
    return this.#readers !== undefined && this.#readers.size > 0;
  }

  /** One more piece, with one owner. Returns its number. */
  add(offset: number, byteLength: number): number {
    if (this.#live === 0) this.#slab.adopt(this);
    this.#live++;
    this.#liveBytes += byteLength;
    this.#offsets.push(offset);
    this.#sizes.push(byteLength);
    return this.#owners.push(1);
  }

  /** Where a piece begins in the slab at this moment, in bytes. */
  offsetOf(piece: number): number {
    return this.#offsets.at(piece);
  }

  /** The size of a piece, in bytes. */
  byteLengthOf(piece: number): number {
    return this.#sizes.at(piece);
  }

  /** Whether nobody owns a piece any more. */
  isReleased(piece: number): boolean {
    return this.#owners.at(piece) === 0;
  }

  /** One more owner of a piece. */
  retain(piece: number): void {
    const owners = this.#owners.at(piece);
    if (owners === 0) throw new Error("a piece of a slab was retained after its release");
    this.#owners.set(piece, owners + 1);
  }

  /** One owner less; with the last one the piece goes, as soon as nobody reads it. */
  release(piece: number): void {
    const owners = this.#owners.at(piece);
    if (owners === 0) throw new Error("a piece of a slab was released more often than it was owned");
    this.#owners.set(piece, owners - 1);
    if (owners === 1 && !this.#isRead(piece)) this.#drop(piece);
  }

  /** Takes one owner from every piece: for a lot that did not come into use. */
  releaseAll(): void {
    for (const piece of this.#owners.positions()) this.release(piece);
  }

  /** Holds a piece where it is while `read` runs, even when its last owner goes meanwhile. */
  async whileReading<T>(piece: number, read: (address: bigint) => Promise<T>): Promise<T> {
    const readers = this.#readers ??= new Map();
    readers.set(piece, (readers.get(piece) ?? 0) + 1);
    try {
      return await read(this.#slab.address + BigInt(this.offsetOf(piece)));
    } finally {
      const left = readers.get(piece)! - 1;
      if (left > 0) {
        readers.set(piece, left);
      } else {
        readers.delete(piece);
        if (this.isReleased(piece)) this.#drop(piece);
      }
    }
  }

  /** Where in another slab what is in use would lie from `start` on. Neighbours stay neighbours, and every tensor stays aligned to its elements. */
  layOut(start: number): LotLayout {
    const layout: LotLayout = { end: start, pieces: [], offsets: [], runs: [] };
    let run: Run | undefined;
    for (const piece of this.#owners.positions()) {
      if (this.isReleased(piece)) continue;
      const [offset, byteLength] = [this.offsetOf(piece), this.byteLengthOf(piece)];
      if (run !== undefined && run.from + run.byteLength === offset) {
        run.byteLength += byteLength;
      } else {
        // The first tensor of a run has the largest elements, and the lowest bit of its size is a multiple of theirs.
        const alignment = byteLength % KEPT_ALIGNMENT === 0 ? KEPT_ALIGNMENT : byteLength & -byteLength;
        layout.end = Math.ceil(layout.end / alignment) * alignment;
        layout.runs.push(run = { from: offset, to: layout.end, byteLength });
      }
      layout.pieces.push(piece);
      layout.offsets.push(layout.end);
      layout.end += byteLength;
    }
    return layout;
  }

  /** Moves what is in use to another slab; enqueues the copies. */
  move(target: Slab, { pieces, offsets, runs }: LotLayout, stream: Pick<Stream, "copy">): void {
    const left = this.#slab;
    for (const { from, to, byteLength } of runs) {
      if (byteLength > 0) stream.copy(target.address + BigInt(to), left.address + BigInt(from), byteLength);
    }
    this.#sizes.keep(pieces);
    this.#owners.keep(pieces);
    this.#offsets.keep(pieces);
    pieces.forEach((piece, i) => this.#offsets.set(piece, offsets[i]!));
    this.#slab = target;
    target.adopt(this);
    left.drop(this);
  }

  #isRead(piece: number): boolean {
    return this.#readers !== undefined && this.#readers.has(piece);
  }

  #drop(piece: number): void {
    this.#live--;
    this.#liveBytes -= this.byteLengthOf(piece);
    if (this.#live === 0) this.#slab.drop(this);
  }
}

/** Where the pieces of a lot are to lie. */
export interface LotLayout {
  /** Behind the last of them. */
  end: number;
  /** Those in use, ascending. */
  readonly pieces: number[];
  /** By position in `pieces` where each begins. */
  readonly offsets: number[];
  /** The copies that bring them there. */
  readonly runs: Run[];
}

/** Bytes that move together. */
interface Run {
  readonly from: number;
  readonly to: number;
  byteLength: number;
}

/** Numbers by piece: an array, or a map of the pieces in use once the lot has moved. */
class Column {
  #dense: NumberColumn;
  #sparse: Map<number, number> | undefined;

  constructor(values: Numbers) {
    this.#dense = new NumberColumn(values);
  }

  /** The number of a piece; 0 for one that is not kept. */
  at(piece: number): number {
    return this.#sparse === undefined ? this.#dense.at(piece) : this.#sparse.get(piece) ?? 0;
  }

  set(piece: number, value: number): void {
    if (this.#sparse === undefined) this.#dense.set(piece, value);
    else this.#sparse.set(piece, value);
  }

  /** Appends to the array; returns the piece. */
  push(value: number): number {
    return this.#dense.push(value);
  }

  /** The pieces, ascending. */
  *positions(): Iterable<number> {
    if (this.#sparse !== undefined) yield* this.#sparse.keys();
    else for (let piece = 0; piece < this.#dense.length; piece++) yield piece;
  }

  /** Forgets all other pieces. Nothing is appended after that. */
  keep(pieces: readonly number[]): void {
    this.#sparse = new Map(pieces.map((piece) => [piece, this.at(piece)]));
    this.#dense = new NumberColumn();
  }
}

function sumOf(numbers: Numbers): number {
  let sum = 0;
  for (let i = 0; i < numbers.length; i++) sum += numbers[i]!;
  return sum;
}

/** One piece of a lot, where an object is wanted. Two regions that name the same piece are the same thing. */
export class Region {
  readonly #lot: Lot;
  readonly #piece: number;

  /** Names a piece; owns nothing by that. */
  constructor(lot: Lot, piece: number) {
    this.#lot = lot;
    this.#piece = piece;
  }

  /** The lot that it is a piece of. */
  get lot(): Lot {
    return this.#lot;
  }

  /** Its number in the lot. */
  get piece(): number {
    return this.#piece;
  }

  /** Size in bytes. */
  get byteLength(): number {
    return this.#lot.byteLengthOf(this.#piece);
  }

  /** The device address at this moment. */
  get address(): bigint {
    return this.#lot.slab.address + BigInt(this.#lot.offsetOf(this.#piece));
  }

  /** The slab it lies in at this moment. */
  get slab(): Slab {
    return this.#lot.slab;
  }

  /** Whether nobody owns it any more. */
  get released(): boolean {
    return this.#lot.isReleased(this.#piece);
  }

  /** One more owner. */
  retain(): this {
    this.#lot.retain(this.#piece);
    return this;
  }

  /** One owner less; with the last one the piece goes. */
  release(): void {
    this.#lot.release(this.#piece);
  }

  /** Holds the bytes where they are while `read` runs, even when the last owner goes meanwhile. */
  whileReading<T>(read: (address: bigint) => Promise<T>): Promise<T> {
    return this.#lot.whileReading(this.#piece, read);
  }
}

/** Memory that is there already. */
export interface SlabMemory {
  /** The device address of its first byte. */
  readonly address: bigint;
  /** Called when it is not needed any more. */
  readonly giveBack: () => void;
}

/** One device allocation. */
export class Slab {
  /** The runtime whose memory it is. */
  readonly runtime: DeviceRuntime;
  /** The device address of its first byte. */
  readonly address: bigint;
  /** The same as halves of 32 bits: low, high. */
  readonly addressWords: AddressWords;
  /** Size in bytes. */
  readonly byteLength: number;
  readonly #lots = new Set<Lot>();
  readonly #giveBack: () => void;
  #sealed = false;
  #freed = false;

  /** Allocates the memory, unless it is there already. Throws a {@linkcode CudaError} when there is not enough. */
  constructor(runtime: DeviceRuntime, byteLength: number, memory?: SlabMemory) {
    this.runtime = runtime;
    this.byteLength = byteLength;
    const address = memory?.address ?? runtime.allocate(byteLength);
    this.address = address;
    this.addressWords = wordsOf(address);
    this.#giveBack = memory?.giveBack ?? (() => runtime.free(address, byteLength));
  }

  /** Bytes of the pieces that are still in use. */
  get liveBytes(): number {
    let total = 0;
    for (const lot of this.#lots) total += lot.liveBytes;
    return total;
  }

  /** The lots with pieces in use. */
  get lots(): ReadonlySet<Lot> {
    return this.#lots;
  }

  /** Whether the memory was given back. */
  get freed(): boolean {
    return this.#freed;
  }

  /** Whether it is freed as soon as its last piece goes. */
  get sealed(): boolean {
    return this.#sealed;
  }

  /** A new lot. Its first pieces have these offsets and sizes, and one owner each; it keeps the arrays. */
  lot(offsets: Numbers = NO_NUMBERS, sizes: Numbers = NO_NUMBERS): Lot {
    return new Lot(this, offsets, sizes);
  }

  /** A piece in a lot of its own, with one owner. */
  region(offset: number, byteLength: number): Region {
    const lot = this.lot();
    return new Region(lot, lot.add(offset, byteLength));
  }

  /** Counts a lot in. */
  adopt(lot: Lot): void {
    this.#lots.add(lot);
  }

  /** Counts a lot out. */
  drop(lot: Lot): void {
    if (this.#lots.delete(lot)) this.#freeIfUnused();
  }

  /** No more pieces will be made: from now on the slab goes with its last one. */
  seal(): void {
    this.#sealed = true;
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (!this.#sealed || this.#freed || this.#lots.size > 0) return;
    this.#freed = true;
    this.#giveBack();
  }
}

/** Where the tensors of one key are placed one behind the other. */
interface Arena {
  readonly slab: Slab;
  lot: Lot;
  used: number;
}

/** The slabs of one manager. */
export class SlabPool implements Disposable {
  readonly #runtime: DeviceRuntime;
  readonly #memory: SlabMemory | undefined;
  readonly #slabs = new Set<Slab>();
  readonly #lanes = new Map<string, Arena>();

  /** An empty pool. Where `memory` is given, all slabs are said to lie there. */
  constructor(runtime: DeviceRuntime, memory?: SlabMemory) {
    this.#runtime = runtime;
    this.#memory = memory;
  }

  /** Bytes that the pool's slabs take on the device. */
  get byteLength(): number {
    let total = 0;
    for (const slab of this.#live()) total += slab.byteLength;
    return total;
  }

  /** A new slab; its taker makes the pieces and seals it. Throws as {@linkcode Slab} does, and what went wrong on the device in letting something go. */
  allocate(byteLength: number): Slab {
    this.#runtime.throwFailedRelease();
    return this.#add(byteLength);
  }

  #add(byteLength: number): Slab {
    const slab = new Slab(this.#runtime, byteLength, this.#memory);
    this.#slabs.add(slab);
    return slab;
  }

  /**
   * A region for one tensor. Tensors of one lane lie one behind the other, so that those that come together can leave together without being packed.
   *
   * @param byteLength Its size.
   * @param lane Tensors with the same lane are of the same kind: a key's.
   * @param elementBytes What its address is a multiple of.
   */
  place(byteLength: number, lane: string, elementBytes: number): Region {
    if (byteLength >= SMALLEST_ARENA_BYTES) return this.#placeAlone(byteLength);
    let arena = this.#lanes.get(lane);
    if (arena !== undefined && arena.lot.live === 0) {
      arena.used = 0;
      arena.lot = arena.slab.lot();
    }
    let start = arena === undefined ? 0 : Math.ceil(arena.used / elementBytes) * elementBytes;
    if (arena === undefined || start + byteLength > arena.slab.byteLength) {
      const larger = Math.ceil((arena?.slab.byteLength ?? 0) * ARENA_GROWTH);
      let slab: Slab;
      try {
        slab = this.allocate(aligned(Math.min(LARGEST_ARENA_BYTES, Math.max(SMALLEST_ARENA_BYTES, larger))));
      } catch (error) {
        // On a device that is all but full there may still be room for the tensor itself.
        if (isOutOfMemory(error)) return this.#placeAlone(byteLength);
        throw error;
      }
      arena?.slab.seal();
      this.#lanes.set(lane, arena = { slab, lot: slab.lot(), used: 0 });
      start = 0;
    }
    arena.used = start + byteLength;
    return new Region(arena.lot, arena.lot.add(start, byteLength));
  }

  #placeAlone(byteLength: number): Region {
    const slab = this.allocate(byteLength);
    const region = slab.region(0, byteLength);
    slab.seal();
    return region;
  }

  /**
   * Moves what is left of slabs of which less than half is in use into one new slab. The copies are enqueued on `stream`, which is asked for where there
   * are any. Does nothing where there is no memory for it, or where the device fails: that is tried again the next time.
   */
  compact(stream: () => Pick<Stream, "copy">): void {
    for (const [lane, { slab, lot }] of this.#lanes) {
      const isSmallest = slab.byteLength === SMALLEST_ARENA_BYTES && lot.live > 0;
      if (isSmallest || slab.liveBytes * 2 >= slab.byteLength) continue;
      this.#lanes.delete(lane);
      slab.seal();
    }
    const lots: Lot[] = [];
    for (const slab of this.#live()) {
      if (!slab.sealed || slab.liveBytes * 2 >= slab.byteLength || slab.byteLength <= ALIGNMENT) continue;
      const inSlab = [...slab.lots];
      if (!inSlab.some((lot) => lot.beingRead)) lots.push(...inSlab);
    }
    if (lots.length === 0) return;
    let end = 0;
    const layouts = lots.map((lot) => {
      const layout = lot.layOut(end);
      end = layout.end;
      return layout;
    });
    let target: Slab;
    try {
      target = this.#add(end);
    } catch {
      return;
    }
    try {
      const copying = stream();
      lots.forEach((lot, i) => lot.move(target, layouts[i]!, copying));
    } catch {
      // What could not be copied stays where it is. Whoever lets data go, or installs it, has done so: this is only about room.
    } finally {
      target.seal();
    }
  }

  #live(): Set<Slab> {
    for (const slab of this.#slabs) if (slab.freed) this.#slabs.delete(slab);
    return this.#slabs;
  }

  /** Seals what is still open. Slabs go with their last pieces. */
  [Symbol.dispose](): void {
    for (const { slab } of this.#lanes.values()) slab.seal();
    this.#lanes.clear();
  }
}
