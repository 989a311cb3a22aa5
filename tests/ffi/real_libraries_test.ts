import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { CAPABILITIES, capabilities, OLDEST_CUDART, OLDEST_NCCL } from "../../ffi/capabilities.ts";
import type { CapabilityRow } from "../../ffi/capabilities.ts";
import { NCCL_UNIQUE_ID_BYTES } from "../../ffi/constants.ts";
import { cudartSymbols } from "../../ffi/cudart.ts";
import { ncclSymbols } from "../../ffi/nccl.ts";
import { openLibraries } from "../../ffi/open.ts";
import type { Libraries } from "../../ffi/open.ts";
import { cudaError, ncclError } from "../../ffi/status.ts";
import { LibraryNotFoundError } from "../../src/errors.ts";

/** NVIDIA's own libraries, which work this far without a GPU; null where they are not installed. */
const real: Libraries | null = await openLibraries({ backend: "cuda" }).catch((error) => {
  if (error instanceof LibraryNotFoundError) return null;
  throw error;
});

function test(name: string, fn: (libraries: Libraries) => void): void {
  Deno.test({
    name: `NVIDIA's libraries: ${name}${real === null ? " (ignored: not installed)" : ""}`,
    ignore: real === null,
    fn() {
      assert(real !== null);
      fn(real);
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

test("the names in the table of codes are libcudart's", (libraries) => {
  for (let code = 0; code < 1000; code++) {
    const pointer = libraries.cudart.symbols.cudaGetErrorName(code);
    const name = pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
    // What libcudart does not know either it calls unrecognized.
    const ours = cudaError(libraries, "cudaFree", code).codeName;
    if (name.startsWith("cuda")) assertEquals(ours, name);
  }
});
