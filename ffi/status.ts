/**
 * Status codes become typed errors.
 *
 * A call site compares the code itself, because V8 makes a foreign call fast only where its target is fixed:
 *
 * ```ts ignore
 * const code = libraries.cudart.symbols.cudaEventRecord(event, stream);
 * if (code !== cudaSuccess) throw cudaError(libraries, "cudaEventRecord", code);
 * ```
 *
 * The error is made at once, on the same thread and before any further call: both libraries keep the text of the last error only.
 *
 * @module
 */

import { CudaError, NcclError } from "../src/errors.ts";
import { cudaCodeText, ncclCodeText } from "./codes.ts";
import type { CpuExtraSymbols } from "./cpu_extras.ts";
import type { CudartSymbols } from "./cudart.ts";
import type { NcclSymbols } from "./nccl.ts";

/** The functions that tell more of an error; what `openLibraries` answers has them. */
export interface ErrorSources {
  /** libcudart. */
  readonly cudart: {
    readonly symbols: Pick<CudartSymbols, "cudaGetLastError" | "cudaGetErrorName" | "cudaGetErrorString">;
  };
  /** libnccl. */
  readonly nccl: { readonly symbols: Pick<NcclSymbols, "ncclGetLastError" | "ncclGetErrorString"> };
  /** The stand-in's own functions, where it is the backend. */
  readonly cpu: Pick<CpuExtraSymbols, "seqferryCpuLastError"> | null;
}

/** The error of a libcudart call that answered `code`. Also takes the error out of the thread's last-error slot, as nobody else will. */
export function cudaError(sources: ErrorSources, call: string, code: number): CudaError {
  const sentence = cpuSentence(sources);
  sources.cudart.symbols.cudaGetLastError();
  const known = cudaCodeText(code);
  const name = known?.name ?? cString(() => sources.cudart.symbols.cudaGetErrorName(code)) ?? "a code without a name";
  const meaning = known?.meaning ?? cString(() => sources.cudart.symbols.cudaGetErrorString(code)) ??
    "no meaning is known here";
  return new CudaError(call, code, name, sentence === "" ? meaning : `${meaning}; ${sentence}`);
}

/**
 * The error of a libnccl call, or of a communicator's asynchronous state, that is `code`.
 *
 * @param sources The libraries.
 * @param call The C function, e.g. `ncclSend`.
 * @param code Neither `ncclSuccess` nor `ncclInProgress`, which are no errors.
 */
export function ncclError(sources: ErrorSources, call: string, code: number): NcclError {
  const lastError = ncclLastError(sources);
  const known = ncclCodeText(code);
  const name = known?.name ?? "a code without a name";
  const meaning = known?.meaning ?? cString(() => sources.nccl.symbols.ncclGetErrorString(code)) ??
    "no meaning is known here";
  return new NcclError(call, code, name, meaning, lastError);
}

/** The text of libnccl's last error; empty where there is none, or where reading C strings is not permitted (a scoped `--allow-ffi`). */
export function ncclLastError(sources: ErrorSources): string {
  if (sources.cpu !== null) return cpuSentence(sources);
  // NCCL ignores the communicator it is given here.
  return cString(() => sources.nccl.symbols.ncclGetLastError(0n)) ?? "";
}

/** Longest sentence taken from the stand-in, in bytes. */
const SENTENCE_BYTES = 2048;

/** The stand-in's sentence on its last error; empty on the real libraries. */
function cpuSentence(sources: ErrorSources): string {
  if (sources.cpu === null) return "";
  const buffer = new Uint8Array(SENTENCE_BYTES);
  const length = Number(sources.cpu.seqferryCpuLastError(buffer, BigInt(buffer.length)));
  const end = buffer.indexOf(0);
  return new TextDecoder().decode(buffer.subarray(0, end === -1 ? Math.min(length, buffer.length) : end));
}

/** The C string that `get` points to; undefined for NULL, and where reading foreign memory needs a permission that is not there. */
function cString(get: () => Deno.PointerValue): string | undefined {
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  const pointer = get();
  return pointer === null ? undefined : Deno.UnsafePointerView.getCString(pointer);
}
