/**
 * Copies in device memory that go into one call.
 *
 * @module
 */

/** An address as halves of 32 bits: low, high. */
export type AddressWords = readonly [low: number, high: number];

/** The halves of an address. */
export function wordsOf(address: bigint): AddressWords {
  return [Number(address & 0xffff_ffffn), Number(address >> 32n)];
}

/** Values of an unsigned 32-bit number. */
const WORD = 2 ** 32;

/**
 * Copies within device memory, in any order, as `cudaMemcpyBatchAsync` takes them. Addresses are put together from halves of 32 bits: a bigint for each would
 * cost more than the copy of a small tensor.
 */
export class CopyBatch {
  /** By copy where its bytes go. */
  readonly to: BigUint64Array<ArrayBuffer>;
  /** By copy where its bytes come from. */
  readonly from: BigUint64Array<ArrayBuffer>;
  /** By copy how many bytes it has. */
  readonly bytes: BigUint64Array<ArrayBuffer>;
  readonly #words: { readonly [name in "to" | "from" | "bytes"]: Uint32Array };
  #used = 0;

  /** Has room for `count` copies, all of which must be added. */
  constructor(count: number) {
    this.to = new BigUint64Array(count);
    this.from = new BigUint64Array(count);
    this.bytes = new BigUint64Array(count);
    this.#words = {
      to: new Uint32Array(this.to.buffer),
      from: new Uint32Array(this.from.buffer),
      bytes: new Uint32Array(this.bytes.buffer),
    };
  }

  /** How many copies there is room for. */
  get count(): number {
    return this.to.length;
  }

  /** Lists of the copies from `begin` to before `end`, in place. */
  part(begin: number, end: number): Pick<CopyBatch, "to" | "from" | "bytes"> {
    if (begin === 0 && end === this.count) return this;
    const { to, from, bytes } = this;
    return { to: to.subarray(begin, end), from: from.subarray(begin, end), bytes: bytes.subarray(begin, end) };
  }

  /** How many bytes the largest of the copies from `begin` to before `end` has. */
  largest(begin: number, end: number): number {
    const { bytes } = this.#words;
    let largest = 0;
    for (let i = begin; i < end; i++) largest = Math.max(largest, bytes[2 * i]! + WORD * bytes[2 * i + 1]!);
    return largest;
  }

  /** Adds a copy of at least one byte, from an offset behind one address to an offset behind another. Offsets and size are in bytes. */
  add(to: AddressWords, toOffset: number, from: AddressWords, fromOffset: number, byteLength: number): void {
    const at = 2 * this.#used++;
    writeSum(this.#words.to, at, to, toOffset);
    writeSum(this.#words.from, at, from, fromOffset);
    this.#words.bytes[at] = byteLength % WORD;
    this.#words.bytes[at + 1] = Math.floor(byteLength / WORD);
  }
}

/** Writes the 64-bit sum of an address, low half first, and an offset. */
function writeSum(words: Uint32Array, at: number, [low, high]: AddressWords, offset: number): void {
  const sum = low + offset % WORD;
  words[at] = sum % WORD;
  words[at + 1] = high + Math.floor(offset / WORD) + (sum >= WORD ? 1 : 0);
}
