/**
 * Streams and events.
 *
 * @module
 */

import {
  CUDA_IPC_HANDLE_SIZE,
  cudaErrorNotReady,
  cudaEventFlags,
  cudaMemcpyKind,
  cudaMemcpySrcAccessOrder,
  cudaStreamFlags,
  cudaSuccess,
} from "../../ffi/constants.ts";
import { cudaError } from "../../ffi/status.ts";
import { encodeMemcpyAttributes } from "../../ffi/structs.ts";
import { SeqferryError } from "../errors.ts";
import { type Deadline, pollUntil } from "../wait.ts";
import type { CopyBatch } from "./copy_batch.ts";
import { COPIES_PER_LAUNCH } from "./copy_kernel.ts";
import { type DeviceRuntime, deviceRuntime, type Runtime } from "./runtime.ts";

/** The sources of a batch are read when the stream gets there, and that holds from its first copy on. */
const IN_STREAM_ORDER = encodeMemcpyAttributes({ srcAccessOrder: cudaMemcpySrcAccessOrder.stream });
const FROM_THE_FIRST = new BigUint64Array([0n]);

/** A queue of work on a device. */
export class Stream implements Disposable {
  /** The `cudaStream_t`; 0 once disposed. */
  handle: bigint;
  readonly #runtime: DeviceRuntime;

  /** Creates a stream on the runtime's device. */
  constructor(runtime: Runtime) {
    this.#runtime = deviceRuntime(runtime);
    this.#runtime.makeCurrent();
    const { libraries } = this.#runtime;
    const out = new BigUint64Array(1);
    const code = libraries.cudart.symbols.cudaStreamCreateWithFlags(out, cudaStreamFlags.nonBlocking);
    if (code !== cudaSuccess) throw cudaError(libraries, "cudaStreamCreateWithFlags", code);
    this.handle = out[0]!;
  }

  /** Whether all work enqueued so far is done. Also what lets the stand-in's queue advance. */
  isIdle(): boolean {
    const code = this.#runtime.libraries.cudart.symbols.cudaStreamQuery(this.handle);
    if (code === cudaSuccess) return true;
    if (code === cudaErrorNotReady) return false;
    throw cudaError(this.#runtime.libraries, "cudaStreamQuery", code);
  }

  /** Lets work enqueued from now on wait, on the device, until `event` has completed. */
  waitFor(event: Event): void {
    const code = this.#runtime.libraries.cudart.symbols.cudaStreamWaitEvent(this.handle, event.handle, 0);
    if (code !== cudaSuccess) throw cudaError(this.#runtime.libraries, "cudaStreamWaitEvent", code);
  }

  /** Resolves when all work enqueued so far is done, without blocking. */
  async idle(deadline: Deadline): Promise<void> {
    await pollUntil("the device's stream", () => this.isIdle(), deadline);
  }

  /** Copies within the device. */
  copy(to: bigint, from: bigint, byteLength: number): void {
    const { libraries } = this.#runtime;
    const code = libraries.cudart.symbols.cudaMemcpyAsync(
      to,
      from,
      BigInt(byteLength),
      cudaMemcpyKind.deviceToDevice,
      this.handle,
    );
    if (code !== cudaSuccess) throw cudaError(libraries, "cudaMemcpyAsync", code);
  }

  /** How many commands of the stream it takes to make so many copies. */
  commandsFor(copies: number): number {
    return this.#runtime.copyKernel === null ? copies : Math.ceil(copies / COPIES_PER_LAUNCH);
  }

  /**
   * Makes many copies within the device, in any order: those of the batch from `begin` to before `end`. By a kernel where there can be one; else by one call where the
   * library has one for it (12.8 on), which takes microseconds for each copy, as copies one by one do.
   */
  copyBatch(batch: CopyBatch, begin = 0, end = batch.count): void {
    this.#runtime.makeCurrent();
    const kernel = this.#runtime.copyKernel;
    if (kernel !== null) {
      for (let first = begin; first < end; first += COPIES_PER_LAUNCH) {
        kernel.launch(batch, first, Math.min(end, first + COPIES_PER_LAUNCH), this.handle);
      }
      return;
    }
    const { libraries, cudaVersion } = this.#runtime;
    const { symbols } = libraries.cudart;
    const { to, from, bytes } = batch.part(begin, end);
    const count = BigInt(to.length);
    let code: number;
    if (cudaVersion >= 13000 && symbols.cudaMemcpyBatchAsync !== null) {
      code = symbols.cudaMemcpyBatchAsync(to, from, bytes, count, IN_STREAM_ORDER, FROM_THE_FIRST, 1n, this.handle);
    } else if (libraries.cudart.version < 13000 && cudaVersion >= 12080 && symbols.cudaMemcpyBatchAsync12 !== null) {
      const failed = new BigUint64Array(1);
      code = symbols.cudaMemcpyBatchAsync12(
        to,
        from,
        bytes,
        count,
        IN_STREAM_ORDER,
        FROM_THE_FIRST,
        1n,
        failed,
        this.handle,
      );
    } else {
      for (let i = 0; i < to.length; i++) this.copy(to[i]!, from[i]!, Number(bytes[i]));
      return;
    }
    if (code !== cudaSuccess) throw cudaError(libraries, "cudaMemcpyBatchAsync", code);
  }

  /**
   * Copies from the host. CUDA takes pageable bytes before it returns; pinned bytes must stay as they are until the stream has passed.
   */
  copyFromHost(to: bigint, from: Uint8Array): void {
    if (from.byteLength === 0) return;
    const { libraries } = this.#runtime;
    const code = libraries.cudart.symbols.cudaMemcpyAsyncFromHost(
      to,
      from,
      BigInt(from.byteLength),
      cudaMemcpyKind.hostToDevice,
      this.handle,
    );
    if (code !== cudaSuccess) throw cudaError(libraries, "cudaMemcpyAsync", code);
  }

  /** Copies to the host; `to` must stay referenced until the stream has passed. */
  copyToHost(to: Uint8Array, from: bigint): void {
    if (to.byteLength === 0) return;
    const { libraries } = this.#runtime;
    const code = libraries.cudart.symbols.cudaMemcpyAsyncToHost(
      to,
      from,
      BigInt(to.byteLength),
      cudaMemcpyKind.deviceToHost,
      this.handle,
    );
    if (code !== cudaSuccess) throw cudaError(libraries, "cudaMemcpyAsync", code);
  }

  /** Fills bytes on the device with one value. */
  fill(to: bigint, value: number, byteLength: number): void {
    const { libraries } = this.#runtime;
    const code = libraries.cudart.symbols.cudaMemsetAsync(to, value, BigInt(byteLength), this.handle);
    if (code !== cudaSuccess) throw cudaError(libraries, "cudaMemsetAsync", code);
  }

  /** Destroys the stream; CUDA finishes its work in the background. */
  [Symbol.dispose](): void {
    if (this.handle === 0n) return;
    const handle = this.handle;
    this.handle = 0n;
    this.#runtime.released("cudaStreamDestroy", this.#runtime.libraries.cudart.symbols.cudaStreamDestroy(handle));
  }
}

/** A mark in a stream. */
export class Event implements Disposable {
  /** The `cudaEvent_t`; 0 once disposed. */
  handle: bigint;
  readonly #runtime: DeviceRuntime;

  /**
   * Creates an event, complete until first recorded.
   *
   * @param runtime Whose device it is for.
   * @param kind "interprocess" for one that other processes on this machine can open.
   */
  constructor(runtime: Runtime, kind?: "interprocess");
  /** Opens another process's event by the 64 bytes of its {@linkcode ipcHandle}. */
  constructor(runtime: Runtime, handle: Uint8Array);
  constructor(runtime: Runtime, kind?: "interprocess" | Uint8Array) {
    this.#runtime = deviceRuntime(runtime);
    this.#runtime.makeCurrent();
    const { libraries } = this.#runtime;
    const { symbols } = libraries.cudart;
    const out = new BigUint64Array(1);
    if (kind instanceof Uint8Array) {
      if (kind.byteLength !== CUDA_IPC_HANDLE_SIZE) {
        throw new SeqferryError(`an event's handle has ${CUDA_IPC_HANDLE_SIZE} bytes, not ${kind.byteLength}`);
      }
      const code = symbols.cudaIpcOpenEventHandle(out, new Uint8Array(kind));
      if (code !== cudaSuccess) throw cudaError(libraries, "cudaIpcOpenEventHandle", code);
    } else {
      const flags = cudaEventFlags.disableTiming | (kind === undefined ? 0 : cudaEventFlags.interprocess);
      const code = symbols.cudaEventCreateWithFlags(out, flags);
      if (code !== cudaSuccess) throw cudaError(libraries, "cudaEventCreateWithFlags", code);
    }
    this.handle = out[0]!;
  }

  /** The 64 bytes by which another process opens an interprocess event. */
  ipcHandle(): Uint8Array {
    const handle = new Uint8Array(CUDA_IPC_HANDLE_SIZE);
    const code = this.#runtime.libraries.cudart.symbols.cudaIpcGetEventHandle(handle, this.handle);
    if (code !== cudaSuccess) throw cudaError(this.#runtime.libraries, "cudaIpcGetEventHandle", code);
    return handle;
  }

  /** Marks the present end of a stream. */
  record(stream: Stream): void {
    const code = this.#runtime.libraries.cudart.symbols.cudaEventRecord(this.handle, stream.handle);
    if (code !== cudaSuccess) throw cudaError(this.#runtime.libraries, "cudaEventRecord", code);
  }

  /** Whether the stream has passed the mark. */
  isDone(): boolean {
    const code = this.#runtime.libraries.cudart.symbols.cudaEventQuery(this.handle);
    if (code === cudaSuccess) return true;
    if (code === cudaErrorNotReady) return false;
    throw cudaError(this.#runtime.libraries, "cudaEventQuery", code);
  }

  /** Destroys the event. */
  [Symbol.dispose](): void {
    if (this.handle === 0n) return;
    const handle = this.handle;
    this.handle = 0n;
    this.#runtime.released("cudaEventDestroy", this.#runtime.libraries.cudart.symbols.cudaEventDestroy(handle));
  }
}
