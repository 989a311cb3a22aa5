/**
 * A runtime: one rank's hold on one device and on the two libraries.
 *
 * @module
 */

import { cudaSuccess } from "../../ffi/constants.ts";
import { thisMachine } from "../../ffi/find.ts";
import { type Libraries, openLibraries } from "../../ffi/open.ts";
import { cudaError, ncclError } from "../../ffi/status.ts";
import { CopyKernel } from "./copy_kernel.ts";
import { HostCopier } from "./host_copier.ts";
import { ClosedError, CudaError, SeqferryError } from "../errors.ts";

/** How {@linkcode openRuntime} chooses libraries and device. */
export interface RuntimeOptions {
  /**
   * `"auto"` (the default): CUDA where an NVIDIA device is present (and an error if its libraries are not), else the CPU stand-in, which is built
   * on first use and cached.
   */
  backend?: "auto" | "cuda" | "cpu";
  /** The device's ordinal, from 0. Any number of ranks may share a device of the stand-in. */
  device?: number;
}

/** One rank's hold on one device. Open one for each rank; one thread may drive many. */
export interface Runtime extends Disposable {
  /** Which libraries are behind it. */
  readonly backend: "cuda" | "cpu";
  /** The device's ordinal. */
  readonly device: number;
  /** The CUDA runtime in use; `version` as `cudaRuntimeGetVersion` gives it (13000 is 13.0). */
  readonly cudart: { path: string; version: number };
  /** The NCCL in use; `version` as `ncclGetVersion` gives it (23007 is 2.30.7). */
  readonly nccl: { path: string; version: number };
  /** A new unique id for a communicator: 128 bytes. The process that made it must live until all ranks have joined. */
  createUniqueId(): Uint8Array;
  /** Free and total memory of the device, in bytes. */
  memoryInfo(): { freeBytes: number; totalBytes: number };
}

/**
 * Opens the libraries (once per process) and a device.
 *
 * @throws {LibraryNotFoundError} where a library, or the compiler that builds the stand-in, is missing.
 * @throws {CudaError} where the device does not exist or its driver does not answer.
 * @throws {SeqferryError} for options that cannot be, and where NCCL_COMM_BLOCKING is 1.
 */
export async function openRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  const { backend = "auto", device = 0 } = options;
  if (!["auto", "cuda", "cpu"].includes(backend)) {
    throw new SeqferryError(`backend is "auto", "cuda" or "cpu", not ${JSON.stringify(backend)}`);
  }
  if (!Number.isSafeInteger(device) || device < 0 || device >= 1 << INSTANCE_SHIFT) {
    throw new SeqferryError(
      `device is an ordinal from 0 to ${(1 << INSTANCE_SHIFT) - 1}, not ${JSON.stringify(device)}`,
    );
  }
  const libraries = await openLibraries({ backend });
  if (libraries.backend === "cuda") requireNonblocking(thisMachine.env("NCCL_COMM_BLOCKING"));
  return new DeviceRuntime(libraries, device);
}

/** Refuses the variable by which a person has NCCL's calls block, whatever a communicator is told: the event loop would stand still with them. */
export function requireNonblocking(variable: string | undefined): void {
  if (variable !== "1") return;
  throw new SeqferryError(
    "NCCL_COMM_BLOCKING is 1, by which NCCL's calls wait for the peers in any case: unset it, or set it to 0",
  );
}

/**
 * On the stand-in every runtime drives an instance of its own of the physical device (as with MIG): ranks that share a process and a device are
 * told apart, and one rank's synchronizing call does not count as another's.
 */
let nextInstance = 0;
const INSTANCE_SHIFT = 16;
const INSTANCES = 1 << 14;

/** The groups of NCCL calls that are outstanding on a device, whichever rank of this process issued them: what synchronizes a device waits for all of them. */
class OutstandingGroups {
  count = 0;
  deferred: (() => void)[] = [];

  /** By ordinal. */
  static readonly #ofDevices = new Map<number, OutstandingGroups>();

  static of(ordinal: number): OutstandingGroups {
    let groups = OutstandingGroups.#ofDevices.get(ordinal);
    if (groups === undefined) OutstandingGroups.#ofDevices.set(ordinal, groups = new OutstandingGroups());
    return groups;
  }
}

/** The runtime as the rooms above use it. */
export class DeviceRuntime implements Runtime {
  readonly backend: "cuda" | "cpu";
  readonly device: number;
  readonly cudart: { path: string; version: number };
  readonly nccl: { path: string; version: number };
  /** The libraries' functions. */
  readonly libraries: Libraries;
  /** What both libcudart and the driver can do: an older driver runs a newer libcudart, and refuses what came later. */
  readonly cudaVersion: number;
  /** Copies by a kernel; null on the stand-in, which runs none, and where CUDA cannot. */
  readonly copyKernel: CopyKernel | null;
  /** Device memory that this runtime holds, in bytes: what seqferry itself accounts for. */
  liveBytes = 0;
  /** What {@linkcode makeCurrent} sets. */
  readonly #ordinal: number;
  readonly #addressOut = new BigUint64Array(1);
  #copier: HostCopier | undefined;
  readonly #groups: OutstandingGroups;
  #failedRelease: CudaError | undefined;
  #closed = false;

  /** Takes open libraries; checks that the device is there. */
  constructor(libraries: Libraries, device: number) {
    this.backend = libraries.backend;
    this.device = device;
    this.libraries = libraries;
    this.cudart = { path: libraries.cudart.path, version: libraries.cudart.version };
    this.nccl = { path: libraries.nccl.path, version: libraries.nccl.version };
    this.#ordinal = this.backend === "cpu" ? device | (nextInstance++ % INSTANCES) << INSTANCE_SHIFT : device;
    this.#groups = OutstandingGroups.of(this.#ordinal);
    this.makeCurrent();
    this.memoryInfo();
    this.cudaVersion = Math.min(this.cudart.version, this.#driverVersion());
    this.copyKernel = this.backend === "cuda" ? CopyKernel.load(libraries) : null;
  }

  /**
   * Makes this device the calling thread's current one. Precedes, in the same synchronous stretch, every call that works on "the current device":
   * the thread's other ranks change it too.
   */
  makeCurrent(): void {
    const code = this.libraries.cudart.symbols.cudaSetDevice(this.#ordinal);
    if (code !== cudaSuccess) throw cudaError(this.libraries, "cudaSetDevice", code);
  }

  createUniqueId(): Uint8Array {
    this.#mustBeOpen();
    this.makeCurrent();
    const id = new Uint8Array(128);
    const code = this.libraries.nccl.symbols.ncclGetUniqueId(id);
    if (code !== 0) throw ncclError(this.libraries, "ncclGetUniqueId", code);
    return id;
  }

  memoryInfo(): { freeBytes: number; totalBytes: number } {
    this.makeCurrent();
    const free = new BigUint64Array(1);
    const total = new BigUint64Array(1);
    const code = this.libraries.cudart.symbols.cudaMemGetInfo(free, total);
    if (code !== cudaSuccess) throw cudaError(this.libraries, "cudaMemGetInfo", code);
    return { freeBytes: Number(free[0]), totalBytes: Number(total[0]) };
  }

  /** A group of NCCL calls was issued: until {@linkcode groupFinished} nothing that synchronizes the device implicitly may be called. */
  groupStarted(): void {
    this.#groups.count++;
  }

  /** The stream has passed the group, or its communicator was aborted. What waited for that is done now. */
  groupFinished(): void {
    const groups = this.#groups;
    groups.count--;
    if (groups.count > 0) return;
    const { deferred } = groups;
    groups.deferred = [];
    for (const action of deferred) action();
  }

  /** Allocates device memory, at least one byte. Returns its address. */
  allocate(byteLength: number): bigint {
    this.#mustBeOpen();
    this.makeCurrent();
    if (this.#groups.count > 0) {
      throw new SeqferryError(
        `${byteLength} bytes of device memory were asked for while a group of NCCL calls is outstanding: cudaMalloc could wait for a peer`,
      );
    }
    const out = this.#addressOut;
    const code = this.libraries.cudart.symbols.cudaMalloc(out, BigInt(Math.max(1, byteLength)));
    if (code !== cudaSuccess) throw cudaError(this.libraries, "cudaMalloc", code);
    this.liveBytes += byteLength;
    return out[0]!;
  }

  /** Frees what {@linkcode allocate} gave, at once or as soon as no group is outstanding. */
  free(address: bigint, byteLength: number): void {
    this.liveBytes -= byteLength;
    this.whenNoGroup(() => {
      const { cudaSetDevice, cudaFree } = this.libraries.cudart.symbols;
      this.released("cudaSetDevice", cudaSetDevice(this.#ordinal));
      this.released("cudaFree", cudaFree(address));
    });
  }

  /**
   * Takes what a call answered that lets something go. Such calls also answer errors of earlier work, and whoever makes them is in the middle of
   * something that is to be done whole: nothing is thrown here. An error is kept for {@linkcode throwFailedRelease}.
   */
  released(call: string, code: number): void {
    if (code !== cudaSuccess) this.#failedRelease ??= cudaError(this.libraries, call, code);
  }

  /** Throws, once, what went wrong in letting something go; for where a failure can still be refused. */
  throwFailedRelease(): void {
    const failed = this.#failedRelease;
    this.#failedRelease = undefined;
    if (failed !== undefined) throw failed;
  }

  /** Copies between host and device, on a stream of its own; made on first use. */
  get copier(): HostCopier {
    this.#mustBeOpen();
    this.#copier ??= new HostCopier(this);
    return this.#copier;
  }

  #driverVersion(): number {
    const version = new Int32Array(1);
    const code = this.libraries.cudart.symbols.cudaDriverGetVersion(version);
    if (code !== cudaSuccess) throw cudaError(this.libraries, "cudaDriverGetVersion", code);
    return version[0]!;
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new ClosedError("the runtime was disposed");
  }

  /** Does what synchronizes the device, at once or as soon as no group is outstanding. */
  whenNoGroup(action: () => void): void {
    if (this.#groups.count > 0) this.#groups.deferred.push(action);
    else action();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#copier?.[Symbol.dispose]();
    this.#copier = undefined;
  }
}

/** The runtime behind the public interface. Throws for an object that `openRuntime` did not make. */
export function deviceRuntime(runtime: Runtime): DeviceRuntime {
  if (!(runtime instanceof DeviceRuntime)) {
    throw new SeqferryError("the runtime was not opened with openRuntime");
  }
  return runtime;
}

/** Whether an error says that the device's memory is used up. */
export function isOutOfMemory(error: unknown): error is CudaError {
  return error instanceof CudaError && error.codeName === "cudaErrorMemoryAllocation";
}
