/**
 * Numbers of the two C interfaces: flags, kinds, attributes, types, and the status codes of `codes.ts`.
 *
 * @module
 */

export * from "./codes.ts";

/** `enum cudaMemcpyKind`: which way a copy goes. */
export const cudaMemcpyKind = {
  /** From host memory to host memory. */
  hostToHost: 0,
  /** From host memory to device memory. */
  hostToDevice: 1,
  /** From device memory to host memory. */
  deviceToHost: 2,
  /** From device memory to device memory. */
  deviceToDevice: 3,
  /** As the addresses tell. */
  default: 4,
} as const;

/** Flags of `cudaStreamCreateWithFlags`. */
export const cudaStreamFlags = {
  /** Synchronizes with stream 0. */
  default: 0x0,
  /** Does not synchronize with stream 0. */
  nonBlocking: 0x1,
} as const;

/** Flags of `cudaEventCreateWithFlags`. */
export const cudaEventFlags = {
  /** Spins while synchronizing, and keeps the time. */
  default: 0x0,
  /** Sleeps while synchronizing. */
  blockingSync: 0x1,
  /** Keeps no time, which makes recording and asking cheaper. */
  disableTiming: 0x2,
  /** Can be handed to other processes; goes with disableTiming only. */
  interprocess: 0x4,
} as const;

/** Flags of `cudaIpcOpenMemHandle`: the only value there is. */
export const cudaIpcMemLazyEnablePeerAccess = 0x1;

/** `CUDA_IPC_HANDLE_SIZE`: bytes of a memory or event handle. */
export const CUDA_IPC_HANDLE_SIZE = 64;

/** Flags of `cudaHostAlloc`. */
export const cudaHostAllocFlags = {
  /** Pinned for the device in use. */
  default: 0x0,
  /** Pinned for all devices. */
  portable: 0x1,
  /** Mapped into the device's addresses. */
  mapped: 0x2,
  /** Fast to write from the host and to read from the device, slow to read from the host. */
  writeCombined: 0x4,
} as const;

/** Flags of `cudaHostRegister`. */
export const cudaHostRegisterFlags = {
  /** Pinned for the device in use. */
  default: 0x0,
  /** Pinned for all devices. */
  portable: 0x1,
  /** Mapped into the device's addresses. */
  mapped: 0x2,
} as const;

/** The members of `enum cudaDeviceAttr` in use. */
export const cudaDeviceAttr = {
  /** Streaming multiprocessors. */
  multiProcessorCount: 16,
  /** 1 where host memory can be mapped into the device's addresses. */
  canMapHostMemory: 19,
  /** PCI bus number. */
  pciBusId: 33,
  /** PCI device number. */
  pciDeviceId: 34,
  /** Copies that can run at once beside kernels. */
  asyncEngineCount: 40,
  /** 1 where host and device share one space of addresses. */
  unifiedAddressing: 41,
  /** PCI domain number. */
  pciDomainId: 50,
  /** The 9 of compute capability 9.0. */
  computeCapabilityMajor: 75,
  /** The 0 of compute capability 9.0. */
  computeCapabilityMinor: 76,
  /** 1 where `cudaHostRegister` works. */
  hostRegisterSupported: 99,
  /** 1 where `cudaMallocAsync` and pools work. */
  memoryPoolsSupported: 115,
} as const;

/** The members of `enum cudaMemPoolAttr` in use. */
export const cudaMemPoolAttr = {
  /** u64: bytes that a pool keeps when the device is synchronized. */
  releaseThreshold: 4,
  /** u64: bytes that the pool holds now. */
  reservedMemCurrent: 5,
  /** u64: the most it held. */
  reservedMemHigh: 6,
  /** u64: bytes in use now. */
  usedMemCurrent: 7,
  /** u64: the most in use. */
  usedMemHigh: 8,
} as const;

/** `enum cudaMemcpySrcAccessOrder`: when a copy of a batch reads its source. */
export const cudaMemcpySrcAccessOrder = {
  /** In the order of the stream. */
  stream: 1,
  /** Before the call returns. */
  duringApiCall: 2,
  /** At any time. */
  any: 3,
} as const;

/** `ncclDataType_t`. On the wire seqferry moves bytes only, `uint8`; reductions use the others. */
export const ncclDataType = {
  /** 1 byte, signed. */
  int8: 0,
  /** 1 byte. */
  uint8: 1,
  /** 4 bytes, signed. */
  int32: 2,
  /** 4 bytes. */
  uint32: 3,
  /** 8 bytes, signed. */
  int64: 4,
  /** 8 bytes. */
  uint64: 5,
  /** IEEE half, 2 bytes. */
  float16: 6,
  /** IEEE single, 4 bytes. */
  float32: 7,
  /** IEEE double, 8 bytes. */
  float64: 8,
  /** 8 bits of exponent, 7 of mantissa; 2 bytes. */
  bfloat16: 9,
  /** 4 bits of exponent, 3 of mantissa; 1 byte; NCCL 2.24 on. */
  float8e4m3: 10,
  /** 5 bits of exponent, 2 of mantissa; 1 byte; NCCL 2.24 on. */
  float8e5m2: 11,
} as const;

/** `ncclRedOp_t`. */
export const ncclRedOp = {
  /** Sum. */
  sum: 0,
  /** Product. */
  prod: 1,
  /** Greatest. */
  max: 2,
  /** Least. */
  min: 3,
  /** Mean. */
  avg: 4,
} as const;

/** `NCCL_UNIQUE_ID_BYTES`. */
export const NCCL_UNIQUE_ID_BYTES = 128;

/** `NCCL_SPLIT_NOCOLOR`: the color of a rank that is to be in none of the new communicators. */
export const NCCL_SPLIT_NOCOLOR: number = -1;

/** `NCCL_SHRINK_DEFAULT`: the parent has nothing under way. */
export const NCCL_SHRINK_DEFAULT = 0;

/** `NCCL_SHRINK_ABORT`: first end what the parent has under way, then shrink. */
export const NCCL_SHRINK_ABORT = 1;
