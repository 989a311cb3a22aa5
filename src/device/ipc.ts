/**
 * Device memory and events of other processes on the same machine, by CUDA IPC.
 *
 * @module
 */

import { CUDA_IPC_HANDLE_SIZE, cudaIpcMemLazyEnablePeerAccess, cudaSuccess } from "../../ffi/constants.ts";
import { cudaError } from "../../ffi/status.ts";
import type { DeviceRuntime } from "./runtime.ts";

/** The 64 bytes by which another process opens an allocation. `address` is its start. */
export function memoryHandle(runtime: DeviceRuntime, address: bigint): Uint8Array {
  const { libraries } = runtime;
  runtime.makeCurrent();
  const handle = new Uint8Array(CUDA_IPC_HANDLE_SIZE);
  const code = libraries.cudart.symbols.cudaIpcGetMemHandle(handle, address);
  if (code !== cudaSuccess) throw cudaError(libraries, "cudaIpcGetMemHandle", code);
  return handle;
}

/** Opens another process's allocation; answers its start. Each opening is closed once, by {@linkcode closeMemory}. */
export function openMemory(runtime: DeviceRuntime, handle: Uint8Array): bigint {
  const { libraries } = runtime;
  runtime.makeCurrent();
  const out = new BigUint64Array(1);
  // By value: a short array would be read beyond its end, so the callers check its length.
  const bytes = new Uint8Array(handle);
  const code = libraries.cudart.symbols.cudaIpcOpenMemHandle(out, bytes, cudaIpcMemLazyEnablePeerAccess);
  if (code !== cudaSuccess) throw cudaError(libraries, "cudaIpcOpenMemHandle", code);
  return out[0]!;
}

/** Closes what {@linkcode openMemory} opened, at once or as soon as no group is outstanding: CUDA synchronizes the device here. */
export function closeMemory(runtime: DeviceRuntime, address: bigint): void {
  runtime.whenNoGroup(() => {
    runtime.makeCurrent();
    runtime.released("cudaIpcCloseMemHandle", runtime.libraries.cudart.symbols.cudaIpcCloseMemHandle(address));
  });
}

/** The device's place on the PCI bus, `0000:01:00.0`: the same in all processes, whatever each can see of the devices. */
export function pciBusId(runtime: DeviceRuntime): string {
  const { libraries } = runtime;
  const text = new Uint8Array(32);
  const code = libraries.cudart.symbols.cudaDeviceGetPCIBusId(text, text.length, runtime.device);
  if (code !== cudaSuccess) throw cudaError(libraries, "cudaDeviceGetPCIBusId", code);
  return new TextDecoder().decode(text.subarray(0, text.indexOf(0))).toLowerCase();
}
