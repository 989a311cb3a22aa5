/**
 * Shared libraries that have the right symbols and nothing behind them, for tests of finding and opening.
 *
 * @module
 */

import { cpuExtraSymbols } from "../../ffi/cpu_extras.ts";
import { cudartSymbols } from "../../ffi/cudart.ts";
import { ncclSymbols } from "../../ffi/nccl.ts";

/** What a stub says of itself. */
export interface Stub {
  /** What `cudaRuntimeGetVersion` writes; 13000 unless given. */
  readonly cudaVersion?: number;
  /** What `cudaDriverGetVersion` writes; 0, for no driver, unless given. */
  readonly driverVersion?: number;
  /** What `ncclGetVersion` writes; 23007 unless given. */
  readonly ncclVersion?: number;
  /** What `seqferryCpuAbi` answers; 1 unless given. */
  readonly abi?: number;
  /** Functions it lacks. */
  readonly lacks?: readonly string[];
}

/** C that defines every function of the three tables. */
export function stubSource(stub: Stub = {}): string {
  const names = new Set<string>();
  const tables: Deno.ForeignLibraryInterface[] = [cudartSymbols, ncclSymbols, cpuExtraSymbols];
  for (const table of tables) {
    for (const [key, symbol] of Object.entries(table)) {
      names.add("name" in symbol && symbol.name !== undefined ? symbol.name : key);
    }
  }
  const special: Record<string, string> = {
    cudaRuntimeGetVersion: `int cudaRuntimeGetVersion(int *out) { *out = ${stub.cudaVersion ?? 13_000}; return 0; }`,
    cudaDriverGetVersion: `int cudaDriverGetVersion(int *out) { *out = ${stub.driverVersion ?? 0}; return 0; }`,
    ncclGetVersion: `int ncclGetVersion(int *out) { *out = ${stub.ncclVersion ?? 23_007}; return 0; }`,
    seqferryCpuAbi: `int seqferryCpuAbi(void) { return ${stub.abi ?? 1}; }`,
  };
  return [...names].filter((name) => !(stub.lacks ?? []).includes(name))
    .map((name) => special[name] ?? `int ${name}(void) { return 0; }`)
    .map((definition) => `__attribute__((visibility("default"))) ${definition}`).join("\n") + "\n";
}

/** Compiles a stub to `path`. */
export async function compileStub(path: string, stub: Stub = {}): Promise<void> {
  const compiler = new Deno.Command("cc", {
    args: ["-w", "-shared", "-fPIC", "-x", "c", "-", "-o", path],
    stdin: "piped",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const writer = compiler.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stubSource(stub)));
  await writer.close();
  const { success } = await compiler.status;
  if (!success) throw new Error("the stub was not compiled");
}
