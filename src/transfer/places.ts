/**
 * Where the items of a transfer lie on one rank.
 *
 * @module
 */

import { type Lot, Region, type Slab } from "../device/slab.ts";

/** By item a piece of a slab, for those that this rank sends or receives. */
export class Places {
  readonly #lots: (Lot | undefined)[];
  readonly #pieces: Int32Array;

  /** Of so many items none has a place yet. */
  constructor(items: number) {
    this.#lots = new Array<Lot | undefined>(items).fill(undefined);
    this.#pieces = new Int32Array(items);
  }

  /** Gives an item its place. */
  put(item: number, lot: Lot, piece: number): void {
    this.#lots[item] = lot;
    this.#pieces[item] = piece;
  }

  /** Whether an item has a place. */
  has(item: number): boolean {
    return this.#lots[item] !== undefined;
  }

  /** The lot that an item is a piece of. */
  lotOf(item: number): Lot {
    return this.#lots[item]!;
  }

  /** The number of the piece. */
  pieceOf(item: number): number {
    return this.#pieces[item]!;
  }

  /** The slab that an item lies in. */
  slabOf(item: number): Slab {
    return this.lotOf(item).slab;
  }

  /** Where in its slab an item begins, in bytes. */
  offsetOf(item: number): number {
    return this.lotOf(item).offsetOf(this.#pieces[item]!);
  }

  /** The device address of an item. */
  addressOf(item: number): bigint {
    return this.slabOf(item).address + BigInt(this.offsetOf(item));
  }

  /** The place as an object. */
  regionOf(item: number): Region {
    return new Region(this.lotOf(item), this.#pieces[item]!);
  }
}
