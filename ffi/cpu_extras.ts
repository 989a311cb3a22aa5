/**
 * What the CPU stand-in exports beyond the two libraries it stands in for: its accounts and its view of a communicator.
 *
 * @module
 */

/** The version of the functions below that this code speaks; `seqferryCpuAbi` answers the library's. */
export const CPU_ABI = 1;

/** The stand-in's own functions. */
export const cpuExtraSymbols = {
  // int seqferryCpuAbi(void)
  seqferryCpuAbi: { parameters: [], result: "i32" },
  // size_t seqferryCpuLastError(char *buf, size_t size): answers the length of the sentence, NUL not counted
  seqferryCpuLastError: {
    parameters: [
      "buffer", // char *buf: the sentence of the last error and a NUL, cut to size
      "usize", // size_t size
    ],
    result: "usize",
  },
  // void seqferryCpuAccounts(uint64_t *out, size_t n)
  seqferryCpuAccounts: {
    parameters: [
      "buffer", // uint64_t *out: BigUint64Array(n), in the order of cpuAccountNames
      "usize", // size_t n
    ],
    result: "void",
  },
  // int seqferryCpuCallCount(const char *function, uint64_t *out): not 0 for a function it does not know
  seqferryCpuCallCount: {
    parameters: [
      "buffer", // const char *function: the C name and a NUL
      "buffer", // uint64_t *out
    ],
    result: "i32",
  },
  // int seqferryCpuPeerBytes(ncclComm_t comm, int peer, uint64_t *sent, uint64_t *received)
  seqferryCpuPeerBytes: {
    parameters: [
      "u64", // ncclComm_t comm
      "i32", // int peer
      "buffer", // uint64_t *sent
      "buffer", // uint64_t *received
    ],
    result: "i32",
  },
  // int seqferryCpuOutstanding(ncclComm_t comm, uint8_t *perPeer, size_t nranks): works on an aborted communicator too
  seqferryCpuOutstanding: {
    parameters: [
      "u64", // ncclComm_t comm
      "buffer", // uint8_t *perPeer: 1 for each peer that this rank's unfinished operations wait for
      "usize", // size_t nranks
    ],
    result: "i32",
  },
  // int seqferryCpuFaults(const char *rules): not 0 where they cannot be read, with a sentence
  seqferryCpuFaults: {
    parameters: [
      "buffer", // const char *rules: as cpu/fault_rules.h tells, and a NUL; empty disarms
    ],
    result: "i32",
  },
  // int seqferryCpuLostPeer(ncclComm_t comm): the rank whose process died, or -1
  seqferryCpuLostPeer: {
    parameters: [
      "u64", // ncclComm_t comm
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The stand-in's own functions, callable. */
export type CpuExtraSymbols = Deno.DynamicLibrary<typeof cpuExtraSymbols>["symbols"];

/** What the stand-in counts, in the order of `enum account` in `cpu/accounts.h`; all of it is this process's. */
export const cpuAccountNames = [
  /** Device allocations not yet freed. */
  "liveAllocations",
  /** Their bytes, each rounded up to 512. */
  "liveBytes",
  /** The most that liveBytes ever was. */
  "peakBytes",
  /** Host bytes allocated or registered as pinned. */
  "pinnedBytes",
  /** Streams created and not destroyed. */
  "liveStreams",
  /** Events created and not destroyed. */
  "liveEvents",
  /** Communicators neither destroyed nor aborted. */
  "liveCommunicators",
  /** Bytes that receives copied from their senders. */
  "peerBytes",
  /** Sends completed. */
  "sends",
  /** Receives completed. */
  "receives",
  /** Collectives completed. */
  "collectives",
  /** Calls refused because they break a rule of the device or of NCCL. */
  "violations",
  /** Bytes that collectives copied from their peers. */
  "collectiveBytes",
  /** Groups enqueued and not complete, one for each communicator in them. */
  "outstandingGroups",
  /** Those of peerBytes and collectiveBytes that the helper copied, with messages under way. */
  "helperBytes",
] as const;

/** The name of an account. */
export type CpuAccountName = typeof cpuAccountNames[number];

/** The stand-in's accounts of this moment. */
export function readCpuAccounts(symbols: Pick<CpuExtraSymbols, "seqferryCpuAccounts">): Record<CpuAccountName, number> {
  const values = new BigUint64Array(cpuAccountNames.length);
  symbols.seqferryCpuAccounts(values, BigInt(values.length));
  return Object.fromEntries(cpuAccountNames.map((name, slot) => [name, Number(values[slot])])) as Record<
    CpuAccountName,
    number
  >;
}

/**
 * Arms faults of this process in place of those that are armed; an empty text disarms. `cpu/README.md` tells how rules are written.
 *
 * @throws {RangeError} when the rules cannot be read; those that were armed stay.
 */
export function setCpuFaults(
  symbols: Pick<CpuExtraSymbols, "seqferryCpuFaults" | "seqferryCpuLastError">,
  rules: string,
): void {
  if (symbols.seqferryCpuFaults(new TextEncoder().encode(`${rules}\0`)) === 0) return;
  const sentence = new Uint8Array(512);
  const length = Math.min(Number(symbols.seqferryCpuLastError(sentence, BigInt(sentence.length))), sentence.length - 1);
  throw new RangeError(new TextDecoder().decode(sentence.subarray(0, length)));
}

/** How often a C function was called in this process; undefined for one that the stand-in does not count. */
export function cpuCallCount(symbols: Pick<CpuExtraSymbols, "seqferryCpuCallCount">, name: string): number | undefined {
  const count = new BigUint64Array(1);
  const code = symbols.seqferryCpuCallCount(new TextEncoder().encode(`${name}\0`), count);
  return code === 0 ? Number(count[0]) : undefined;
}
