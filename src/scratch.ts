/**
 * Memory to work in, used again and again.
 *
 * A batch of tens of thousands of tensors takes some megabytes of tables while it is being moved. Fresh memory costs more than what is done in it: each page
 * of it has to be brought in by the system when it is first touched.
 *
 * @module
 */

/** What every array begins at a multiple of, in bytes. */
const ALIGNMENT = 8;
/** Memory is given up when so many times in a row a quarter of it would have done. */
const PATIENCE = 16;

/** Arrays of numbers, all zero, that last until the next {@linkcode Scratch.reset}. */
export class Scratch {
  #memory = new ArrayBuffer(0);
  /** Bytes that were asked for since the reset; more than there are where the memory did not do. */
  #wanted = 0;
  #spacious = 0;

  /** How much memory is kept, in bytes. */
  get byteLength(): number {
    return this.#memory.byteLength;
  }

  /** All arrays that were given out are done with. */
  reset(): void {
    const enough = this.#memory.byteLength;
    this.#spacious = this.#wanted * 4 < enough ? this.#spacious + 1 : 0;
    if (this.#wanted > enough || this.#spacious === PATIENCE) {
      this.#memory = new ArrayBuffer(Math.ceil(this.#wanted * 1.25 / ALIGNMENT) * ALIGNMENT);
      this.#spacious = 0;
    }
    this.#wanted = 0;
  }

  /** So many bytes. */
  uint8(length: number): Uint8Array<ArrayBuffer> {
    const offset = this.#take(length);
    return offset < 0 ? new Uint8Array(length) : new Uint8Array(this.#memory, offset, length).fill(0);
  }

  /** So many numbers. */
  int32(length: number): Int32Array<ArrayBuffer> {
    const offset = this.#take(Int32Array.BYTES_PER_ELEMENT * length);
    return offset < 0 ? new Int32Array(length) : new Int32Array(this.#memory, offset, length).fill(0);
  }

  /** So many numbers. */
  uint32(length: number): Uint32Array<ArrayBuffer> {
    const offset = this.#take(Uint32Array.BYTES_PER_ELEMENT * length);
    return offset < 0 ? new Uint32Array(length) : new Uint32Array(this.#memory, offset, length).fill(0);
  }

  /** So many numbers. */
  float64(length: number): Float64Array<ArrayBuffer> {
    const offset = this.#take(Float64Array.BYTES_PER_ELEMENT * length);
    return offset < 0 ? new Float64Array(length) : new Float64Array(this.#memory, offset, length).fill(0);
  }

  /** Where so many bytes begin, or -1 where there are not that many left. */
  #take(byteLength: number): number {
    const offset = this.#wanted;
    this.#wanted += Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT;
    return this.#wanted > this.#memory.byteLength ? -1 : offset;
  }
}
