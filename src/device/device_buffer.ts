/**
 * Plain device memory, for users who bring their own transfers.
 *
 * @module
 */

import { ClosedError, SeqferryError } from "../errors.ts";
import { Deadline, type WaitOptions } from "../wait.ts";
import { type DeviceRuntime, deviceRuntime, type Runtime } from "./runtime.ts";

/** One device allocation, byte-addressed. */
export class DeviceBuffer implements Disposable {
  /** Size in bytes. */
  readonly byteLength: number;
  readonly #runtime: DeviceRuntime;
  readonly #address: bigint;
  #disposed = false;
  #copies = 0;

  private constructor(runtime: DeviceRuntime, byteLength: number) {
    this.#runtime = runtime;
    this.byteLength = byteLength;
    this.#address = runtime.allocate(byteLength);
  }

  /**
   * Allocates `byteLength` bytes, uninitialized.
   *
   * @throws {CudaError} where the device has not enough memory.
   */
  static allocate(runtime: Runtime, byteLength: number): DeviceBuffer {
    if (!Number.isSafeInteger(byteLength) || byteLength < 0) {
      throw new SeqferryError(`byteLength is a number of bytes from 0 up, not ${byteLength}`);
    }
    return new DeviceBuffer(deviceRuntime(runtime), byteLength);
  }

  /** The device address, for calls into the libraries. Throws once disposed. */
  get address(): bigint {
    if (this.#disposed) throw new ClosedError("the device buffer was disposed");
    return this.#address;
  }

  /** Copies `bytes` to `offset`. They must not change before the promise settles. */
  write(bytes: Uint8Array, offset = 0, options: WaitOptions = {}): Promise<void> {
    return this.#copy(offset, bytes.byteLength, (at) => this.#runtime.copier.write(at, bytes, new Deadline(options)));
  }

  /** Copies `byteLength` bytes from `offset`; all from there on, unless given. */
  read(offset = 0, byteLength = this.byteLength - offset, options: WaitOptions = {}): Promise<Uint8Array> {
    return this.#copy(offset, byteLength, (at) => this.#runtime.copier.read(at, byteLength, new Deadline(options)));
  }

  async #copy<T>(offset: number, byteLength: number, copy: (address: bigint) => Promise<T>): Promise<T> {
    if (
      !Number.isSafeInteger(offset) || !Number.isSafeInteger(byteLength) || offset < 0 || byteLength < 0 ||
      offset + byteLength > this.byteLength
    ) {
      throw new SeqferryError(
        `bytes ${offset} to ${offset + byteLength} are not in a buffer of ${this.byteLength} bytes`,
      );
    }
    const address = this.address + BigInt(offset);
    this.#copies++;
    try {
      return await copy(address);
    } finally {
      this.#copies--;
      if (this.#copies === 0 && this.#disposed) this.#free();
    }
  }

  #free(): void {
    this.#runtime.free(this.#address, this.byteLength);
  }

  /** Frees the memory; copies under way end first. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#copies === 0) this.#free();
  }
}
