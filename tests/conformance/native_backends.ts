/**
 * The backends that the native conformance tests run on: the CPU stand-in, and NVIDIA's libraries where there is a GPU; with SEQFERRY_TEST_BACKEND=cuda the
 * latter alone. Each test is written once.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { encodeNcclConfig } from "../../ffi/structs.ts";
import { cudaErrorNotReady, ncclInProgress } from "../../ffi/constants.ts";
import { defaultBackend, type Libraries, openLibraries } from "../../ffi/open.ts";
import { Deadline, pollUntil } from "../../src/wait.ts";
import { native } from "../native.ts";

/** One backend, and how many ranks of one communicator this process can have on it. */
export interface Backend {
  /** What stands before the names of its tests. */
  readonly name: "cpu" | "cuda";
  /** Its libraries. */
  readonly libraries: Libraries;
  /** Device ordinals, one for each rank; one only where ranks cannot share a device and there is but one. */
  readonly devices: readonly number[];
}

/** On the stand-in an ordinal's upper bits name an instance of the device, so that ranks of one process are told apart. */
const INSTANCE = 1 << 16;

async function cuda(): Promise<Backend | string> {
  // Who asks for it has it, or an error.
  if (native.backend !== "cuda" && defaultBackend() !== "cuda") return "there is no GPU";
  const libraries = await openLibraries({ backend: "cuda" });
  const count = new Int32Array(1);
  if (libraries.cudart.symbols.cudaGetDeviceCount(count) !== 0) return "the driver does not answer";
  const devices = Array.from({ length: count[0]! }, (_, i) => i);
  // NCCL lets ranks share a device from 2.30.3 on, where it is told to.
  if (devices.length === 1 && Deno.env.get("NCCL_MULTI_RANK_GPU_ENABLE") === "1") devices.push(0);
  return { name: "cuda", libraries, devices };
}

const cpu: Backend | null = native.backend === "cpu"
  ? { name: "cpu", libraries: native, devices: [100 * INSTANCE, 101 * INSTANCE, 102 * INSTANCE] }
  : null;
const real: Backend | string = await cuda();

/** A test on each backend; where there is no GPU, or where it needs more ranks than that backend can have, its name says why it was ignored. */
export function conformance(name: string, fn: (backend: Backend) => void | Promise<void>, ranks = 1): void {
  if (cpu !== null) Deno.test(`cpu: ${name}`, () => fn(cpu));
  const why = typeof real === "string"
    ? real
    : real.devices.length < ranks
    ? `it takes ${ranks} devices and there are ${real.devices.length}`
    : undefined;
  Deno.test({
    name: `cuda: ${name}${why === undefined ? "" : ` (ignored: ${why})`}`,
    ignore: why !== undefined,
    fn: () => fn(real as Backend),
  });
}

/** A test of what the stand-in refuses and NVIDIA's libraries leave undefined. */
export function stricter(name: string, fn: (backend: Backend) => void | Promise<void>): void {
  if (cpu !== null) Deno.test(`cpu, stricter than NVIDIA's libraries: ${name}`, () => fn(cpu));
}

/** Makes a rank's device the current one. */
export function use({ libraries, devices }: Backend, rank = 0): void {
  assertEquals(libraries.cudart.symbols.cudaSetDevice(devices[rank]!), 0);
}

/** Device memory, from the current device. */
export function allocate({ libraries }: Backend, bytes: number): bigint {
  const out = new BigUint64Array(1);
  assertEquals(libraries.cudart.symbols.cudaMalloc(out, BigInt(bytes)), 0);
  return out[0]!;
}

/** A stream that does not synchronize with stream 0, on the current device. */
export function newStream({ libraries }: Backend): bigint {
  const out = new BigUint64Array(1);
  assertEquals(libraries.cudart.symbols.cudaStreamCreateWithFlags(out, 1), 0);
  return out[0]!;
}

/** Writes bytes to the device; blocks. */
export function write({ libraries }: Backend, to: bigint, bytes: Uint8Array<ArrayBuffer>): void {
  assertEquals(libraries.cudart.symbols.cudaMemcpyFromHost(to, bytes, BigInt(bytes.byteLength), 1), 0);
  // It may return before the last bytes are there, and other streams do not wait for it.
  assertEquals(libraries.cudart.symbols.cudaStreamSynchronize(0n), 0);
}

/** Reads bytes from the device; blocks. */
export function read({ libraries }: Backend, from: bigint, byteLength: number): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  assertEquals(libraries.cudart.symbols.cudaMemcpyToHost(bytes, from, BigInt(byteLength), 2), 0);
  return bytes;
}

/** Bytes that depend on a seed. */
export function pattern(byteLength: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: byteLength }, (_, i) => (i * 31 + seed * 97 + (i >> 8)) & 0xff);
}

/** Polls until a stream has nothing left to do; answers what `cudaStreamQuery` then says. */
export async function drain({ libraries }: Backend, stream: bigint): Promise<number> {
  let code = 0;
  const idle = () => (code = libraries.cudart.symbols.cudaStreamQuery(stream)) !== cudaErrorNotReady;
  if (!idle()) await pollUntil("a stream", idle, new Deadline({ timeoutMs: 20_000 }));
  return code;
}

/** What a call on a nonblocking communicator came to, whether it said so at once or by the communicator's state. */
export async function outcome({ libraries }: Backend, code: number, comm: bigint): Promise<number> {
  if (code !== ncclInProgress && code !== 0) return code;
  const state = new Int32Array(1);
  const settled = () => {
    assertEquals(libraries.nccl.symbols.ncclCommGetAsyncError(comm, state), 0);
    return state[0] !== ncclInProgress;
  };
  if (!settled()) await pollUntil("a communicator", settled, new Deadline({ timeoutMs: 60_000 }));
  return state[0]!;
}

/** The ranks of a nonblocking communicator with their streams. */
export class Ranks implements AsyncDisposable {
  readonly backend: Backend;
  readonly comms: bigint[] = [];
  readonly streams: bigint[] = [];

  private constructor(backend: Backend) {
    this.backend = backend;
  }

  static async open(backend: Backend, count = 1): Promise<Ranks> {
    const ranks = new Ranks(backend);
    const { symbols } = backend.libraries.nccl;
    const id = new Uint8Array(128);
    use(backend);
    assertEquals(symbols.ncclGetUniqueId(id), 0);
    for (let rank = 0; rank < count; rank++) {
      use(backend, rank);
      const out = new BigUint64Array(1);
      const config = encodeNcclConfig({ version: backend.libraries.nccl.version, blocking: false });
      const code = symbols.ncclCommInitRankConfig(out, count, id, rank, config);
      assertEquals([0, ncclInProgress].includes(code), true, `ncclCommInitRankConfig answered ${code}`);
      ranks.comms.push(out[0]!);
      ranks.streams.push(newStream(backend));
    }
    for (const comm of ranks.comms) assertEquals(await outcome(backend, 0, comm), 0);
    return ranks;
  }

  /** Waits until what was issued on all ranks is done. */
  async finish(): Promise<void> {
    for (const comm of this.comms) assertEquals(await outcome(this.backend, 0, comm), 0);
    for (const [rank, stream] of this.streams.entries()) {
      use(this.backend, rank);
      assertEquals(await drain(this.backend, stream), 0);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { nccl, cudart } = this.backend.libraries;
    await Promise.all(this.comms.map((comm) => nccl.symbols.ncclCommAbort(comm)));
    for (const [rank, stream] of this.streams.entries()) {
      use(this.backend, rank);
      assertEquals(cudart.symbols.cudaStreamDestroy(stream), 0);
    }
  }
}
