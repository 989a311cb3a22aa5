/**
 * Opening the two libraries, once per process.
 *
 * What was opened stays open: neither library survives being unloaded, and a saved symbol of an unloaded one ends the process.
 *
 * @module
 */

import { LibraryNotFoundError, SeqferryError } from "../src/errors.ts";
import { cudaVersionText, ncclVersionText, OLDEST_CUDART, OLDEST_NCCL } from "./capabilities.ts";
import { CPU_ABI, cpuExtraSymbols } from "./cpu_extras.ts";
import type { CpuExtraSymbols } from "./cpu_extras.ts";
import { cpuLibrary } from "./cpu_library.ts";
import { cudartSymbols } from "./cudart.ts";
import type { CudartSymbols } from "./cudart.ts";
import { granted, libcudart, libnccl, search } from "./find.ts";
import type { LibrarySpec } from "./find.ts";
import { ncclSymbols } from "./nccl.ts";
import type { NcclSymbols } from "./nccl.ts";

/** One opened library. */
export interface OpenedLibrary<Symbols> {
  /** The file, or a bare name where the loader found it and this process may not see where. */
  readonly path: string;
  /** As the library counts: CUDA 13.0 is 13000, NCCL 2.30.7 is 23007. */
  readonly version: number;
  /** Its functions. */
  readonly symbols: Symbols;
}

/** Both libraries, real or the stand-in. */
export interface Libraries {
  /** Which they are. */
  readonly backend: "cuda" | "cpu";
  /** libcudart. */
  readonly cudart: OpenedLibrary<CudartSymbols>;
  /** libnccl. */
  readonly nccl: OpenedLibrary<NcclSymbols>;
  /** The stand-in's own functions; null with the real libraries. */
  readonly cpu: CpuExtraSymbols | null;
}

/** What to open. */
export interface OpenOptions {
  /** "auto", the default: CUDA where an NVIDIA device is present (and an error if its libraries are not), else the CPU stand-in. */
  readonly backend?: "auto" | "cuda" | "cpu";
  /** libcudart's path, or its folder's; otherwise SEQFERRY_CUDART, otherwise searched for. */
  readonly cudartPath?: string;
  /** libnccl's path, or its folder's; otherwise SEQFERRY_NCCL, otherwise searched for. */
  readonly ncclPath?: string;
  /** The path of a stand-in that is built already; otherwise SEQFERRY_CPU_LIBRARY, otherwise built on first use and cached. */
  readonly cpuPath?: string;
}

const opened = new Map<string, Promise<Libraries>>();

/**
 * Opens both libraries, or answers those that are open already.
 *
 * @throws {LibraryNotFoundError} when a library, or what would build the stand-in, is not found or cannot be opened.
 * @throws {SeqferryError} for "auto" when this process may not see whether there is an NVIDIA device, and for an unknown backend.
 */
export function openLibraries(options: OpenOptions = {}): Promise<Libraries> {
  const wanted = options.backend ?? "auto";
  if (wanted !== "auto" && wanted !== "cuda" && wanted !== "cpu") {
    return Promise.reject(new SeqferryError(`backend is "auto", "cuda" or "cpu", not ${JSON.stringify(wanted)}`));
  }
  let backend: "cuda" | "cpu";
  try {
    backend = wanted === "auto" ? defaultBackend() : wanted;
  } catch (error) {
    return Promise.reject(error);
  }
  const key = JSON.stringify(
    backend === "cuda" ? [backend, options.cudartPath, options.ncclPath] : [backend, options.cpuPath],
  );
  let libraries = opened.get(key);
  if (libraries === undefined) {
    libraries = open(backend, options);
    opened.set(key, libraries);
    // A failure is not kept: the user may install or set what was missing and try again.
    libraries.catch(() => opened.delete(key));
  }
  return libraries;
}

async function open(backend: "cuda" | "cpu", options: OpenOptions): Promise<Libraries> {
  return backend === "cuda" ? openCuda(options) : openCpu(await cpuLibrary(options.cpuPath));
}

/** What "auto" stands for on this machine, under the permissions of this process. */
export function defaultBackend(): "cuda" | "cpu" {
  for (const device of ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"]) {
    try {
      Deno.statSync(device);
      return "cuda";
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) return backendByDriver();
    }
  }
  return "cpu";
}

/** Asks the driver's library for devices: Deno shows /dev only to a process with all permissions. */
function backendByDriver(): "cuda" | "cpu" {
  if (!granted({ name: "ffi" })) {
    throw new SeqferryError(
      "this process may not see whether there is an NVIDIA device: " +
        'name the backend, "cuda" or "cpu", or run with --allow-ffi (without paths) or --allow-all',
    );
  }
  try {
    const { symbols } = Deno.dlopen("libcuda.so.1", {
      // CUresult cuInit(unsigned int Flags)
      cuInit: { parameters: ["u32"], result: "i32" },
      // CUresult cuDeviceGetCount(int *count)
      cuDeviceGetCount: { parameters: ["buffer"], result: "i32" },
    });
    const count = new Int32Array(1);
    const there = symbols.cuInit(0) === 0 && symbols.cuDeviceGetCount(count) === 0 && (count[0] ?? 0) > 0;
    return there ? "cuda" : "cpu";
  } catch {
    return "cpu";
  }
}

function openCuda(options: OpenOptions): Libraries {
  const cudart = openFirst(libcudart, options.cudartPath, (path) => {
    const { symbols } = Deno.dlopen(path, cudartSymbols);
    const version = cudartVersion(symbols);
    if (version < OLDEST_CUDART) throw tooOld("libcudart", cudaVersionText(version), cudaVersionText(OLDEST_CUDART));
    requireDriverFor(version, driverVersion(symbols));
    return { path, version, symbols };
  });
  const nccl = openFirst(libnccl, options.ncclPath, (path) => {
    const { symbols } = Deno.dlopen(path, ncclSymbols);
    const version = ncclVersion(symbols);
    if (version < OLDEST_NCCL) throw tooOld("libnccl", ncclVersionText(version), ncclVersionText(OLDEST_NCCL));
    return { path, version, symbols };
  });
  return { backend: "cuda", cudart, nccl, cpu: null };
}

/** The stand-in is one file that has all three sets of functions. */
function openCpu(path: string): Libraries {
  const openAs = <S extends Deno.ForeignLibraryInterface>(symbols: S) => {
    try {
      return Deno.dlopen(path, symbols).symbols;
    } catch (error) {
      throw new LibraryNotFoundError(
        "the CPU stand-in",
        [`${path}: ${firstLine(error)}`],
        "Let it be built anew: unset SEQFERRY_CPU_LIBRARY, or run scripts/build_cpu_library.ts again.",
        { cause: error },
      );
    }
  };
  const cpu = openAs(cpuExtraSymbols);
  const abi = cpu.seqferryCpuAbi();
  if (abi !== CPU_ABI) {
    throw new LibraryNotFoundError(
      "the CPU stand-in",
      [`${path}: it speaks version ${abi} of the interface, and this code version ${CPU_ABI}`],
      "Let it be built anew: unset SEQFERRY_CPU_LIBRARY, or run scripts/build_cpu_library.ts again.",
    );
  }
  const cudart = openAs(cudartSymbols);
  const nccl = openAs(ncclSymbols);
  return {
    backend: "cpu",
    cudart: { path, version: cudartVersion(cudart), symbols: cudart },
    nccl: { path, version: ncclVersion(nccl), symbols: nccl },
    cpu,
  };
}

/** Opens the first candidate that can be opened; the error tells of all. */
function openFirst<Symbols>(
  library: LibrarySpec,
  path: string | undefined,
  open: (path: string) => OpenedLibrary<Symbols>,
): OpenedLibrary<Symbols> {
  const { candidates, passedOver } = search(library, path);
  const tried: string[] = [];
  for (const candidate of candidates) {
    const line = `${candidate.path} (${candidate.place})`;
    // Asked first: a call without the permission would stop at a prompt on a terminal.
    if (!granted({ name: "ffi", path: candidate.path })) {
      tried.push(
        `${line}: not permitted (needs --allow-ffi${candidate.path.startsWith("/") ? `=${candidate.path}` : ""})`,
      );
      continue;
    }
    try {
      const found = open(candidate.path);
      return candidate.path.includes("/") ? found : { ...found, path: loadedPath(candidate.path) ?? candidate.path };
    } catch (error) {
      tried.push(`${line}: ${firstLine(error)}`);
    }
  }
  throw new LibraryNotFoundError(library.name, [...tried, ...passedOver], library.advice);
}

/** Where the loader found a library that was opened by its bare name; undefined where this process may not look (it needs all permissions). */
function loadedPath(soname: string): string | undefined {
  try {
    // A file's real name may go on where its soname ends: libnccl.so.2 is a link to libnccl.so.2.30.7.
    const maps = Deno.readTextFileSync("/proc/self/maps");
    return maps.split("\n").map((line) => line.slice(line.indexOf("/")))
      .find((path) => path.startsWith("/") && path.slice(path.lastIndexOf("/") + 1).startsWith(soname));
  } catch {
    return undefined;
  }
}

/** What a function writes that tells a version; `call` is its name. */
function versionBy(call: string, ask: (version: Int32Array<ArrayBuffer>) => number): number {
  const version = new Int32Array(1);
  const code = ask(version);
  if (code !== 0) throw new SeqferryError(`${call} answered ${code}`);
  return version[0]!;
}

function cudartVersion({ cudaRuntimeGetVersion }: CudartSymbols): number {
  return versionBy("cudaRuntimeGetVersion", cudaRuntimeGetVersion);
}

/** The newest CUDA that the machine's driver is for; 0 where there is no driver. */
function driverVersion({ cudaDriverGetVersion }: CudartSymbols): number {
  return versionBy("cudaDriverGetVersion", cudaDriverGetVersion);
}

/** Refuses a libcudart of a later major version than the driver's, with which every call would fail; one of an earlier version may lie elsewhere. */
function requireDriverFor(runtime: number, driver: number): void {
  if (driver === 0 || Math.floor(driver / 1000) >= Math.floor(runtime / 1000)) return;
  throw new SeqferryError(
    `libcudart ${cudaVersionText(runtime)} needs a later driver: this machine's is for CUDA ${cudaVersionText(driver)}`,
  );
}

function ncclVersion({ ncclGetVersion }: NcclSymbols): number {
  return versionBy("ncclGetVersion", ncclGetVersion);
}

function tooOld(name: string, version: string, oldest: string): SeqferryError {
  return new SeqferryError(`${name} ${version} is older than ${oldest}, the oldest that is supported`);
}

function firstLine(error: unknown): string {
  // Deno puts its own prefix before a message that has it already.
  const text = (error instanceof Error ? error.message : String(error)).replace(/^(Could not open library: )+/, "");
  return text.split("\n", 1)[0] ?? text;
}
