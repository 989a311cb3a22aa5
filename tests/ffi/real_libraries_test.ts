import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CAPABILITIES, capabilities, OLDEST_CUDART, OLDEST_NCCL } from "../../ffi/capabilities.ts";
import type { CapabilityRow } from "../../ffi/capabilities.ts";
import { NCCL_UNIQUE_ID_BYTES } from "../../ffi/constants.ts";
import { cudartSymbols } from "../../ffi/cudart.ts";
import { ncclSymbols } from "../../ffi/nccl.ts";
import { openLibraries } from "../../ffi/open.ts";
import type { Libraries } from "../../ffi/open.ts";
import { cudaError, ncclError } from "../../ffi/status.ts";
import { encodeNcclConfig } from "../../ffi/structs.ts";
import { openRuntime } from "../../src/device/runtime.ts";
import { CudaError, LibraryNotFoundError } from "../../src/errors.ts";

/** NVIDIA's own libraries, which work this far without a GPU; null where they are not installed. */
const real: Libraries | null = await openLibraries({ backend: "cuda" }).catch((error) => {
  if (error instanceof LibraryNotFoundError) return null;
  throw error;
});

function test(name: string, fn: (libraries: Libraries) => void | Promise<void>): void {
  Deno.test({
    name: `NVIDIA's libraries: ${name}${real === null ? " (ignored: not installed)" : ""}`,
    ignore: real === null,
    async fn() {
      assert(real !== null);
      await fn(real);
    },
  });
}

test("every symbol resolves, or is optional and its capability says that it is not there", (libraries) => {
  const has: Readonly<Record<string, boolean>> = capabilities(libraries.nccl.version, libraries.cudart.version);
  const rows: [string, CapabilityRow][] = Object.entries(CAPABILITIES);
  const tables: [Deno.ForeignLibraryInterface, Record<string, unknown>][] = [
    [cudartSymbols, libraries.cudart.symbols],
    [ncclSymbols, libraries.nccl.symbols],
  ];
  for (const [table, symbols] of tables) {
    for (const [key, declared] of Object.entries(table)) {
      const name = "name" in declared && declared.name !== undefined ? declared.name : key;
      const row = rows.filter(([, row]) => row.symbols.includes(name));
      const expected = row.length === 0 || row.some(([capability]) => has[capability]);
      assertEquals(symbols[key] !== null, expected, key);
    }
  }
});

test("the versions are in the range that the tables are for", ({ cudart, nccl, backend, cpu }) => {
  assert(cudart.version >= OLDEST_CUDART && cudart.version < 14_000, `${cudart.version}`);
  assert(nccl.version >= OLDEST_NCCL && nccl.version < 30_000, `${nccl.version}`);
  assertStringIncludes(cudart.path, "libcudart");
  assertStringIncludes(nccl.path, "libnccl");
  assertEquals([backend, cpu], ["cuda", null]);
});

test("unique ids come back whole, and differ", ({ nccl }) => {
  const ids = [0, 1].map(() => {
    const id = new Uint8Array(NCCL_UNIQUE_ID_BYTES);
    assertEquals(nccl.symbols.ncclGetUniqueId(id), 0);
    return id;
  });
  assert(ids[0]?.some((byte) => byte !== 0));
  assertNotEquals(ids[0], ids[1]);
});

test("a refused call becomes an error with NCCL's own words", (libraries) => {
  const code = libraries.nccl.symbols.ncclCommCount(0n, new Int32Array(1));
  const error = ncclError(libraries, "ncclCommCount", code);
  assertEquals([error.code, error.codeName], [4, "ncclInvalidArgument"]);
  assertStringIncludes(error.lastError, "NULL");
});

test("a code that this code's table lacks gets its name from libcudart", (libraries) => {
  assertEquals(cudaError(libraries, "cudaFree", 218).codeName, "cudaErrorInvalidPtx");
});

test("the meanings of NCCL's results come from the library, each another", ({ nccl }) => {
  const texts = Array.from(
    { length: 9 },
    (_, code) => Deno.UnsafePointerView.getCString(nccl.symbols.ncclGetErrorString(code)!),
  );
  assertEquals(new Set(texts.slice(0, nccl.version >= 23003 ? 9 : 8)).size, nccl.version >= 23003 ? 9 : 8);
});

test("an empty group opens and closes, and one that was not opened does not close", (libraries) => {
  const { ncclGroupStart, ncclGroupEnd } = libraries.nccl.symbols;
  assertEquals([ncclGroupStart(), ncclGroupStart(), ncclGroupEnd(), ncclGroupEnd()], [0, 0, 0, 0]);
  const error = ncclError(libraries, "ncclGroupEnd", ncclGroupEnd());
  assertEquals(error.codeName, "ncclInvalidUsage");
});

test("calls on no communicator are refused, and ending none is no error", async (libraries) => {
  const { symbols } = libraries.nccl;
  assertEquals([await symbols.ncclCommAbort(0n), await symbols.ncclCommDestroy(0n)], [0, 0]);
  assertEquals(symbols.ncclCommFinalize(0n), 0);
  assertEquals(symbols.ncclSend(0n, 1n, 1, 0, 0n, 0n), 4);
  assertEquals(symbols.ncclReduce(0n, 0n, 1n, 1, 0, 0, 0n, 0n), 4);
  assertEquals(symbols.ncclReduceScatter(0n, 0n, 1n, 1, 0, 0n, 0n), 4);
  for (const call of [symbols.ncclGather, symbols.ncclScatter]) {
    if (call !== null) assertEquals(call(0n, 0n, 1n, 1, 0, 0n, 0n), 4);
  }
  if (symbols.ncclAlltoAll !== null) assertEquals(symbols.ncclAlltoAll(0n, 0n, 1n, 1, 0n, 0n), 4);
  if (symbols.ncclCommRegister !== null) {
    assertEquals(symbols.ncclCommRegister(0n, 0n, 1n, new BigUint64Array(1)), 4);
  }
});

/** What libcudart answers to who asks for devices: 0 where there is one. */
const deviceCode = real?.cudart.symbols.cudaGetDeviceCount(new Int32Array(1)) ?? 0;
const driverless = real !== null && deviceCode !== 0;

Deno.test({
  name: `NVIDIA's libraries: without a driver every call fails with a typed error${
    driverless ? "" : real === null ? " (ignored: not installed)" : " (ignored: there is a driver)"
  }`,
  ignore: !driverless,
  async fn() {
    assert(real !== null);
    const { cudart, nccl } = real;
    const handle = new Uint8Array(64);
    const out = new BigUint64Array(1);
    const codes = {
      cudaSetDevice: cudart.symbols.cudaSetDevice(0),
      cudaMalloc: cudart.symbols.cudaMalloc(out, 16n),
      cudaIpcGetMemHandle: cudart.symbols.cudaIpcGetMemHandle(handle, 0n),
      cudaIpcOpenMemHandle: cudart.symbols.cudaIpcOpenMemHandle(out, handle, 1),
      cudaIpcCloseMemHandle: cudart.symbols.cudaIpcCloseMemHandle(0n),
    };
    for (const [call, code] of Object.entries(codes)) {
      const error = cudaError(real, call, code);
      assert(["cudaErrorInsufficientDriver", "cudaErrorNoDevice"].includes(error.codeName), error.message);
      assertEquals(error.call, call);
    }
    // NCCL asks CUDA first, and comes to the config, the rank and the number of ranks only after that.
    const id = new Uint8Array(NCCL_UNIQUE_ID_BYTES);
    assertEquals(nccl.symbols.ncclGetUniqueId(id), 0);
    const config = encodeNcclConfig({ version: nccl.version, blocking: false, maxCTAs: 4 });
    const code = nccl.symbols.ncclCommInitRankConfig(out, 1, id, 0, config);
    const error = ncclError(real, "ncclCommInitRankConfig", code);
    assertEquals([error.codeName, out[0]], ["ncclUnhandledCudaError", 0n]);
    assertStringIncludes(error.lastError, "Cuda failure");
    await assertRejects(() => openRuntime({ backend: "cuda" }), CudaError);
  },
});

test("the names in the table of codes are libcudart's", (libraries) => {
  for (let code = 0; code < 1000; code++) {
    const pointer = libraries.cudart.symbols.cudaGetErrorName(code);
    const name = pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
    // What libcudart does not know either it calls unrecognized.
    const ours = cudaError(libraries, "cudaFree", code).codeName;
    if (name.startsWith("cuda")) assertEquals(ours, name);
  }
});
