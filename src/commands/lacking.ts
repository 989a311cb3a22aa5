/**
 * What a machine may lack: a library, a compiler, a device.
 *
 * @module
 */

import { CudaError, LibraryNotFoundError } from "../errors.ts";

/** Whether an error says that this machine lacks something. */
export function isLacking(error: unknown): boolean {
  return error instanceof LibraryNotFoundError || (error instanceof CudaError && NO_DEVICE.has(error.codeName));
}

/** What libcudart answers where there is no device that it can use. */
const NO_DEVICE = new Set([
  "cudaErrorNoDevice",
  "cudaErrorInsufficientDriver",
  "cudaErrorSystemNotReady",
  "cudaErrorSystemDriverMismatch",
  "cudaErrorDevicesUnavailable",
  "cudaErrorInvalidDevice",
]);
