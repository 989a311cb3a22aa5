/**
 * What the releases of the two libraries can do: the one place to ask, instead of comparing versions or probing symbols here and there.
 *
 * @module
 */

/** One thing that not every release can do. */
export interface CapabilityRow {
  /** Which library decides. */
  readonly library: "libcudart" | "libnccl";
  /** The first release that can, as the library counts versions (NCCL 2.27.3 is 22703, CUDA 12.8 is 12080). */
  readonly since: number;
  /** The first release that can no longer; absent where all later ones can. */
  readonly until?: number;
  /** The C functions it needs; none where it is a matter of behaviour. */
  readonly symbols: readonly string[];
  /** What it is, as a phrase. */
  readonly what: string;
}

/** The oldest releases that the symbol tables are for. */
export const OLDEST_CUDART = 11080;
/** See {@linkcode OLDEST_CUDART}. */
export const OLDEST_NCCL = 21801;

/** Every capability, with the release that first has it. */
export const CAPABILITIES = {
  commSplit: { library: "libnccl", since: 21801, symbols: ["ncclCommSplit"], what: "splitting communicators" },
  commRegister: {
    library: "libnccl",
    since: 21901,
    symbols: ["ncclCommRegister", "ncclCommDeregister", "ncclMemAlloc", "ncclMemFree"],
    what: "registering user buffers",
  },
  groupSimulate: {
    library: "libnccl",
    since: 22203,
    symbols: ["ncclGroupSimulateEnd"],
    what: "estimating a group's time",
  },
  initRankScalable: {
    library: "libnccl",
    since: 22304,
    symbols: ["ncclCommInitRankScalable"],
    what: "meeting through several unique ids",
  },
  float8: { library: "libnccl", since: 22403, symbols: [], what: "reducing 8-bit floats" },
  ras: { library: "libnccl", since: 22403, symbols: [], what: "the RAS service on NCCL_RAS_ADDR" },
  commShrink: {
    library: "libnccl",
    since: 22703,
    symbols: ["ncclCommShrink"],
    what: "leaving ranks out of a communicator",
  },
  commWindow: {
    library: "libnccl",
    since: 22703,
    symbols: ["ncclCommWindowRegister", "ncclCommWindowDeregister"],
    what: "symmetric memory windows",
  },
  nativeGatherScatter: {
    library: "libnccl",
    since: 22803,
    symbols: ["ncclGather", "ncclScatter", "ncclAlltoAll"],
    what: "gather, scatter and all-to-all of equal counts",
  },
  commRevoke: { library: "libnccl", since: 22807, symbols: ["ncclCommRevoke"], what: "revoking a communicator" },
  rasJson: { library: "libnccl", since: 22807, symbols: [], what: "RAS answers as JSON" },
  commGrow: {
    library: "libnccl",
    since: 22902,
    symbols: ["ncclCommGrow", "ncclCommGetUniqueId"],
    what: "adding ranks to a communicator",
  },
  oneSided: {
    library: "libnccl",
    since: 22902,
    symbols: ["ncclPutSignal", "ncclSignal", "ncclWaitSignal"],
    what: "one-sided puts with signals",
  },
  commSuspend: {
    library: "libnccl",
    since: 22907,
    symbols: ["ncclCommSuspend", "ncclCommResume", "ncclCommMemStats"],
    what: "giving a communicator's memory back for a while",
  },
  timeoutResult: { library: "libnccl", since: 23003, symbols: [], what: "the result ncclTimeout" },
  multiRankGpu: {
    library: "libnccl",
    since: 23003,
    symbols: [],
    what: "several ranks on one GPU, by NCCL_MULTI_RANK_GPU_ENABLE",
  },
  memcpyBatch12: {
    library: "libcudart",
    since: 12080,
    until: 13000,
    symbols: ["cudaMemcpyBatchAsync"],
    what: "copies in batches, with an index of the one that failed",
  },
  kernels: {
    library: "libcudart",
    since: 12080,
    symbols: ["cudaLibraryLoadData", "cudaLibraryGetKernel", "cudaLaunchKernelExC"],
    what: "kernels that come as PTX",
  },
  memcpyBatch13: { library: "libcudart", since: 13000, symbols: ["cudaMemcpyBatchAsync"], what: "copies in batches" },
} as const satisfies Record<string, CapabilityRow>;

/** The name of a capability. */
export type Capability = keyof typeof CAPABILITIES;

/** For each capability, whether it is there. */
export type Capabilities = { readonly [name in Capability]: boolean };

/**
 * What two releases together can do.
 *
 * @param ncclVersion What `ncclGetVersion` answers.
 * @param cudaVersion What `cudaRuntimeGetVersion` answers.
 */
export function capabilities(ncclVersion: number, cudaVersion: number): Capabilities {
  const rows: [string, CapabilityRow][] = Object.entries(CAPABILITIES);
  return Object.fromEntries(rows.map(([name, row]) => {
    const version = row.library === "libnccl" ? ncclVersion : cudaVersion;
    return [name, version >= row.since && (row.until === undefined || version < row.until)];
  })) as { [name in Capability]: boolean };
}

/** A version of NCCL as people write it: 23007 is `2.30.7`. */
export function ncclVersionText(version: number): string {
  return `${Math.floor(version / 10_000)}.${Math.floor(version / 100) % 100}.${version % 100}`;
}

/** A version of CUDA as people write it: 12080 is `12.8`. */
export function cudaVersionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor(version / 10) % 100}`;
}
