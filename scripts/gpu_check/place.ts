/**
 * Where the checks are made: libraries, devices, machine. Found out by a process of its own, for opening a library can hang or crash.
 *
 * @module
 */

import { cudaVersionText, ncclVersionText } from "../../ffi/capabilities.ts";
import { openLibraries } from "../../ffi/open.ts";
import { cudaError } from "../../ffi/status.ts";
import { openRuntime } from "../../mod.ts";
import { exitCodeOf, LACKING } from "../../src/commands/exit_code.ts";
import { PeerProcess, runToEnd } from "./peer_process.ts";
import { serveCommands } from "./protocol.ts";

/** One of the two libraries. */
export interface Library {
  readonly path: string;
  /** As the library counts. */
  readonly version: number;
  /** As people write it. */
  readonly text: string;
}

/** What the libraries say. */
export interface Found {
  readonly backend: "cuda" | "cpu";
  readonly cudart: Library;
  readonly nccl: Library;
  /** The newest CUDA that the driver is for; "" where there is no driver. */
  readonly driverCuda: string;
  /** How many devices there are. */
  readonly devices: number;
  /** Memory of device 0, in bytes. */
  readonly deviceBytes: number;
}

/** What the checks need to know. */
export interface Place extends Found {
  /** The environment of every process of the check: where the libraries are. */
  readonly env: Readonly<Record<string, string>>;
}

/** Something that this machine lacks: a library, a compiler, a device. */
export class LackingError extends Error {}

/** Opens the libraries and device 0 in another process. Throws a {@linkcode LackingError} where one is missing. */
export async function findPlace(backend: "cuda" | "cpu"): Promise<Place> {
  await using probe = PeerProcess.deno<null>("the probe", "place.ts", [backend], {});
  const answer = await probe.tell<Found | { lacking: string }>(null);
  if (answer === null) throw await probe.endedError();
  if (answer.error !== undefined) throw new Error(answer.error.message);
  const found = answer.ok!;
  if ("lacking" in found) throw new LackingError(found.lacking);
  const { cudart, nccl } = found;
  const env = backend === "cpu"
    // Python and C open the stand-in by the variable of the library that it stands in for.
    ? { SEQFERRY_CPU_LIBRARY: cudart.path, SEQFERRY_CUDART: cudart.path }
    : { SEQFERRY_CUDART: cudart.path, SEQFERRY_NCCL: nccl.path, ...NCCL_ENVIRONMENT };
  return { ...found, env };
}

/** NCCL tells on standard error why it refuses something, unless the person wants it otherwise. */
const NCCL_ENVIRONMENT: Readonly<Record<string, string>> = Deno.env.has("NCCL_DEBUG")
  ? {}
  : { NCCL_DEBUG: "WARN", NCCL_DEBUG_FILE: "/dev/stderr" };

async function probe(backend: "cuda" | "cpu"): Promise<Found | { lacking: string }> {
  try {
    const libraries = await openLibraries({ backend });
    const { cudart, nccl } = libraries;
    const number = new Int32Array(1);
    const code = cudart.symbols.cudaGetDeviceCount(number);
    if (code !== 0) throw cudaError(libraries, "cudaGetDeviceCount", code);
    const devices = number[0]!;
    cudart.symbols.cudaDriverGetVersion(number);
    using runtime = await openRuntime({ backend });
    return {
      backend,
      cudart: { path: cudart.path, version: cudart.version, text: cudaVersionText(cudart.version) },
      nccl: { path: nccl.path, version: nccl.version, text: ncclVersionText(nccl.version) },
      driverCuda: backend === "cpu" ? "" : cudaVersionText(number[0]!),
      devices,
      deviceBytes: runtime.memoryInfo().totalBytes,
    };
  } catch (error) {
    if (exitCodeOf(error) === LACKING) return { lacking: (error as Error).message };
    throw error;
  }
}

/** The machine, for the head of the report. */
export interface Machine {
  readonly system: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly deno: string;
  /** One entry for each GPU, as nvidia-smi calls it; none where there is no nvidia-smi. */
  readonly gpus: readonly string[];
  /** The driver's version; "" where it is not known. */
  readonly driver: string;
}

/** Looks at the machine; what cannot be found out is left empty. */
export async function describeMachine(): Promise<Machine> {
  const query = ["--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"];
  const smi = await runToEnd("nvidia-smi", query, { timeoutMs: 20_000 }).catch(() => null);
  const rows = smi?.success === true ? smi.stdout.trim().split("\n").map((row) => row.split(", ")) : [];
  return {
    system: `${Deno.build.os} ${Deno.osRelease()} ${Deno.build.arch}`,
    cpu: firstMatch("/proc/cpuinfo", /^model name\s*:\s*(.*)$/m),
    cores: navigator.hardwareConcurrency,
    memoryBytes: Deno.systemMemoryInfo().total,
    deno: Deno.version.deno,
    gpus: rows.map(([name, , memory, capability]) => `${name}, ${memory}, compute capability ${capability}`),
    driver: rows[0]?.[1] ?? firstMatch("/proc/driver/nvidia/version", /Kernel Module\D*([\d.]+)/),
  };
}

function firstMatch(file: string, expression: RegExp): string {
  try {
    return expression.exec(Deno.readTextFileSync(file))?.[1] ?? "";
  } catch {
    return "";
  }
}

if (import.meta.main) {
  const [backend] = Deno.args as ["cuda" | "cpu"];
  await serveCommands(() => probe(backend));
}
