/**
 * Where the items of a transfer lie on one rank.
 *
 * @module
 */

import { type Lot, Region, type Slab } from "../device/slab.ts";
import { Scratch } from "../scratch.ts";

/** By item a piece of a slab, for those that this rank sends or receives. What is noted of them holds until a slab is compacted. */
export class Places {
  /** The lots that there are, from 1 on, and the numbers of their slabs. */
  readonly #lots: (Lot | undefined)[] = [undefined];
  readonly #slabNumbers: number[] = [-1];
  readonly #numbers = new Map<Lot, number>();
  readonly #slabs = new Map<Slab, number>();
  /** By item the number of its lot; 0 where it has no place. */
  readonly #lotNumbers: Uint32Array;
  readonly #pieces: Uint32Array;
  /** By item where in its slab it begins, in bytes. */
  readonly #offsets: Float64Array;
  #lastLot: Lot | undefined;
  #lastNumber = 0;

  /** Of so many items none has a place yet. Good until `memory` is reset. */
  constructor(items: number, memory: Scratch = new Scratch()) {
    this.#lotNumbers = memory.uint32(items);
    this.#pieces = memory.uint32(items);
    this.#offsets = memory.float64(items);
  }

  /** Gives an item its place. */
  put(item: number, lot: Lot, piece: number): void {
    if (lot !== this.#lastLot) {
      this.#lastLot = lot;
      this.#lastNumber = this.#numberOf(lot);
    }
    this.#lotNumbers[item] = this.#lastNumber;
    this.#pieces[item] = piece;
    this.#offsets[item] = lot.offsetOf(piece);
  }

  /** The lot that an item is a piece of. */
  lotOf(item: number): Lot {
    return this.#lots[this.#lotNumbers[item]!]!;
  }

  /** The number of the piece. */
  pieceOf(item: number): number {
    return this.#pieces[item]!;
  }

  /** The slab that an item lies in. */
  slabOf(item: number): Slab {
    return this.lotOf(item).slab;
  }

  /** A number that tells slabs apart. */
  slabNumberOf(item: number): number {
    return this.#slabNumbers[this.#lotNumbers[item]!]!;
  }

  /** Where in its slab an item begins, in bytes. */
  offsetOf(item: number): number {
    return this.#offsets[item]!;
  }

  /** The device address of an item. */
  addressOf(item: number): bigint {
    return this.slabOf(item).address + BigInt(this.offsetOf(item));
  }

  /** The place as an object. */
  regionOf(item: number): Region {
    return new Region(this.lotOf(item), this.#pieces[item]!);
  }

  #numberOf(lot: Lot): number {
    let number = this.#numbers.get(lot);
    if (number === undefined) {
      number = this.#lots.push(lot) - 1;
      this.#numbers.set(lot, number);
      if (!this.#slabs.has(lot.slab)) this.#slabs.set(lot.slab, this.#slabs.size);
      this.#slabNumbers.push(this.#slabs.get(lot.slab)!);
    }
    return number;
  }
}
