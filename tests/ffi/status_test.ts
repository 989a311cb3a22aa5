import { assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { cudaError, ncclError } from "../../ffi/status.ts";
import type { ErrorSources } from "../../ffi/status.ts";
import { CudaError, NcclError } from "../../src/errors.ts";

/** Libraries whose last error is `sentence`, as the stand-in tells it; `calls` notes what was asked. */
function sources(sentence: string, calls: string[] = []): ErrorSources {
  const note = (call: string) => {
    calls.push(call);
    return 0;
  };
  return {
    cudart: {
      symbols: {
        cudaGetLastError: () => note("cudaGetLastError"),
        cudaGetErrorName: () => null,
        cudaGetErrorString: () => null,
      },
    },
    nccl: { symbols: { ncclGetLastError: () => null, ncclGetErrorString: () => null } },
    cpu: {
      seqferryCpuLastError(buffer) {
        calls.push("seqferryCpuLastError");
        if (!(buffer instanceof Uint8Array)) throw new TypeError("a Uint8Array is expected");
        const { written } = new TextEncoder().encodeInto(sentence, buffer.subarray(0, -1));
        buffer[written] = 0;
        return BigInt(written);
      },
    },
  };
}

Deno.test("cudaError() carries call, code, name, meaning and the library's sentence", () => {
  const calls: string[] = [];
  const error = cudaError(sources("512 bytes were asked for and 0 are free", calls), "cudaMalloc", 2);
  assertInstanceOf(error, CudaError);
  assertEquals([error.name, error.call, error.code, error.codeName], [
    "CudaError",
    "cudaMalloc",
    2,
    "cudaErrorMemoryAllocation",
  ]);
  assertEquals(
    error.message,
    "cudaMalloc answered cudaErrorMemoryAllocation (2): not enough memory; 512 bytes were asked for and 0 are free",
  );
  // The sentence is read before anything could replace it, and the error does not stay behind for others to find.
  assertEquals(calls, ["seqferryCpuLastError", "cudaGetLastError"]);
});

Deno.test("ncclError() carries the library's last error as a field", () => {
  const error = ncclError(sources("rank 1 sends 8 bytes, rank 0 expects 4"), "ncclGroupEnd", 5);
  assertInstanceOf(error, NcclError);
  assertEquals([error.call, error.code, error.codeName], ["ncclGroupEnd", 5, "ncclInvalidUsage"]);
  assertEquals(error.lastError, "rank 1 sends 8 bytes, rank 0 expects 4");
  assertStringIncludes(error.message, "rank 1 sends 8 bytes");
});

Deno.test("errors keep a code that no table knows", () => {
  assertEquals(
    cudaError(sources(""), "cudaFree", 12345).message,
    "cudaFree answered a code without a name (12345): no meaning is known here",
  );
  assertEquals(ncclError(sources(""), "ncclSend", 77).code, 77);
});

Deno.test("errors are made whole where foreign memory may not be read", { permissions: { ffi: false } }, () => {
  const real: ErrorSources = { ...sources("unseen"), cpu: null };
  assertEquals(ncclError(real, "ncclSend", 6).lastError, "");
  assertEquals(cudaError(real, "cudaFree", 700).codeName, "cudaErrorIllegalAddress");
});
