import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { setCpuFaults } from "../../ffi/cpu_extras.ts";
import { native } from "../native.ts";

const cudart = native.cudart.symbols;
const cpu = native.cpu;
assert(cpu !== null);

Deno.test("setCpuFaults() makes the calls fail that a rule names, until disarmed", () => {
  const address = new BigUint64Array(1);
  setCpuFaults(cpu, "cudaMalloc:2+=cudaErrorMemoryAllocation");
  try {
    assertEquals(cudart.cudaMalloc(address, 512n), 0);
    assertEquals(cudart.cudaFree(address[0] ?? 0n), 0);
    assertEquals([cudart.cudaMalloc(address, 512n), cudart.cudaMalloc(address, 512n)], [2, 2]);
  } finally {
    setCpuFaults(cpu, "");
  }
  assertEquals(cudart.cudaMalloc(address, 512n), 0);
  assertEquals(cudart.cudaFree(address[0] ?? 0n), 0);
});

Deno.test("setCpuFaults() throws what is wrong with a rule, and names the rule", () => {
  const error = assertThrows(() => setCpuFaults(cpu, "cudaMalloc:1=2;cudaMaloc:1=2"), RangeError);
  assertStringIncludes(error.message, '"cudaMaloc:1=2" cannot be read');
  const address = new BigUint64Array(1);
  assertEquals(cudart.cudaMalloc(address, 512n), 0);
  assertEquals(cudart.cudaFree(address[0] ?? 0n), 0);
});

/** What a process prints that opens the stand-in with these faults and asks for its NCCL's version. */
async function versionUnder(faults: string): Promise<Deno.CommandOutput> {
  const open = new URL("../../ffi/open.ts", import.meta.url).href;
  const code = `import { openLibraries } from ${JSON.stringify(open)};
    const { nccl } = await openLibraries({ backend: "cpu" });
    console.log(nccl.symbols.ncclGetVersion(new Int32Array(1)));`;
  return await new Deno.Command(Deno.execPath(), {
    args: ["eval", code],
    env: { SEQFERRY_CPU_FAULTS: faults },
    stdin: "null",
  }).output();
}

Deno.test("SEQFERRY_CPU_FAULTS arms faults of a process from its first call on", async () => {
  // Opening asks once.
  const output = await versionUnder("ncclGetVersion:2=ncclInternalError");
  assertEquals(new TextDecoder().decode(output.stdout).trim(), "3");
  const unreadable = await versionUnder("ncclGetVersions:2=3");
  assertEquals(unreadable.success, false);
  assertStringIncludes(new TextDecoder().decode(unreadable.stderr), '"ncclGetVersions:2=3" cannot be read');
});
