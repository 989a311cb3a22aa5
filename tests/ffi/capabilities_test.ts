import { assert, assertEquals } from "@std/assert";
import { CAPABILITIES, capabilities, cudaVersionText, ncclVersionText } from "../../ffi/capabilities.ts";
import type { CapabilityRow } from "../../ffi/capabilities.ts";
import { cudartSymbols } from "../../ffi/cudart.ts";
import { ncclSymbols } from "../../ffi/nccl.ts";

Deno.test("capabilities() turns each one on at the release that first has it", () => {
  const rows: [string, CapabilityRow][] = Object.entries(CAPABILITIES);
  for (const [name, row] of rows) {
    const at = (version: number): boolean | undefined => {
      const all: Record<string, boolean> = row.library === "libnccl"
        ? capabilities(version, 0)
        : capabilities(0, version);
      return all[name];
    };
    assertEquals([at(row.since - 1), at(row.since)], [false, true], name);
    if (row.until !== undefined) assertEquals([at(row.until - 1), at(row.until)], [true, false], name);
  }
});

Deno.test("capabilities() offers exactly one form of cudaMemcpyBatchAsync from CUDA 12.8 on, and none before", () => {
  const forms = (cuda: number) => {
    const { memcpyBatch12, memcpyBatch13 } = capabilities(23007, cuda);
    return [memcpyBatch12, memcpyBatch13];
  };
  assertEquals(forms(11080), [false, false]);
  assertEquals(forms(12060), [false, false]);
  assertEquals(forms(12080), [true, false]);
  assertEquals(forms(12090), [true, false]);
  assertEquals(forms(13000), [false, true]);
  assertEquals(forms(13010), [false, true]);
});

Deno.test("capabilities() has a row for every symbol that is optional", () => {
  const rows: CapabilityRow[] = Object.values(CAPABILITIES);
  const covered = new Set(rows.flatMap((row) => row.symbols));
  const tables: Deno.ForeignLibraryInterface = { ...cudartSymbols, ...ncclSymbols };
  for (const [key, symbol] of Object.entries(tables)) {
    if (!("optional" in symbol && symbol.optional)) continue;
    const name = "name" in symbol && symbol.name !== undefined ? symbol.name : key;
    assert(covered.has(name), `${name} is optional and no capability tells when it is there`);
  }
});

Deno.test("version texts read as the releases are called", () => {
  assertEquals([21801, 22703, 23007].map(ncclVersionText), ["2.18.1", "2.27.3", "2.30.7"]);
  assertEquals([11080, 12090, 13000].map(cudaVersionText), ["11.8", "12.9", "13.0"]);
});
