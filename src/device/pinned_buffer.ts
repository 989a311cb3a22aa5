/**
 * Host memory that the device reads and writes without a detour.
 *
 * @module
 */

import { cudaSuccess } from "../../ffi/constants.ts";
import { cudaError } from "../../ffi/status.ts";
import type { DeviceRuntime } from "./runtime.ts";

/** All that is pinned: memory that the collector gave to something else would be pinned still, whoever forgot to dispose of it. */
const pinned = new Set<Uint8Array>();

/**
 * A JavaScript ArrayBuffer, page-locked by `cudaHostRegister`. The owner keeps it until the last copy from or to it has passed; given up while a group is
 * outstanding, it stays pinned until none is.
 */
export class PinnedBuffer implements Disposable {
  /** The memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #runtime: DeviceRuntime;
  #registered: boolean;

  /** Allocates and registers `byteLength` bytes. */
  constructor(runtime: DeviceRuntime, byteLength: number) {
    this.#runtime = runtime;
    this.bytes = new Uint8Array(new ArrayBuffer(byteLength));
    runtime.makeCurrent();
    const code = runtime.libraries.cudart.symbols.cudaHostRegister(this.bytes, BigInt(byteLength), 0);
    if (code !== cudaSuccess) throw cudaError(runtime.libraries, "cudaHostRegister", code);
    this.#registered = true;
    pinned.add(this.bytes);
  }

  [Symbol.dispose](): void {
    if (!this.#registered) return;
    this.#registered = false;
    // What is outstanding may still be read from it or written to it.
    this.#runtime.whenNoGroup(() => {
      const code = this.#runtime.libraries.cudart.symbols.cudaHostUnregister(this.bytes);
      this.#runtime.released("cudaHostUnregister", code);
      // Otherwise it may be pinned still.
      if (code === cudaSuccess) pinned.delete(this.bytes);
    });
  }
}
