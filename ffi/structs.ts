/**
 * C structs as bytes, little-endian, as the headers lay them out on 64-bit machines.
 *
 * @module
 */

/** Fields of `ncclConfig_t` that seqferry sets; one that is absent means NCCL's own default. */
export interface NcclConfig {
  /** What `ncclGetVersion` answered: newer fields than it knows are reset by NCCL. */
  readonly version: number;
  /** Whether calls on the communicator wait until they are done; false makes them answer `ncclInProgress`. */
  readonly blocking?: boolean;
  /** Fewest thread blocks for a kernel; 2.17 on. NCCL takes it with `maxCTAs` only. */
  readonly minCTAs?: number;
  /** Most thread blocks for a kernel; 2.17 on. */
  readonly maxCTAs?: number;
  /** Whether communicators split from this one share its resources; 2.18 on. */
  readonly splitShare?: boolean;
}

/** Bytes of `ncclConfig_t` in 2.30, the longest to date: older releases copy the part they know. */
export const NCCL_CONFIG_BYTES = 96;

/** `NCCL_API_MAGIC`. */
const NCCL_API_MAGIC = 0xcafebeef;
/** `NCCL_CONFIG_UNDEF_INT` (INT_MIN): the field is left to NCCL. */
const UNDEFINED_INT = -0x8000_0000;

/** Where each field of `ncclConfig_t` stands, in bytes (2.30.7). Pointers have 8 bytes, `size` 8, all others 4. */
export const ncclConfigOffsets = {
  /** `size_t`: bytes of the struct. */
  size: 0,
  magic: 8,
  version: 12,
  blocking: 16,
  cgaClusterSize: 20,
  minCTAs: 24,
  maxCTAs: 28,
  netName: 32,
  splitShare: 40,
  trafficClass: 44,
  commName: 48,
  collnetEnable: 56,
  CTAPolicy: 60,
  shrinkShare: 64,
  nvlsCTAs: 68,
  nChannelsPerNetPeer: 72,
  nvlinkCentricSched: 76,
  graphUsageMode: 80,
  numRmaCtx: 84,
  maxP2pPeers: 88,
  graphStreamOrdering: 92,
} as const;

const pointerFields: readonly string[] = ["netName", "commName"];
const headFields: readonly string[] = ["size", "magic", "version"];

/**
 * `ncclConfig_t` as bytes, good for every release from 2.14 on.
 *
 * @throws {RangeError} for a version or a count of thread blocks that is no integer of 32 bits, and for a least count without a most or beyond it.
 */
export function encodeNcclConfig(config: NcclConfig): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(NCCL_CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [field, offset] of Object.entries(ncclConfigOffsets)) {
    // An undefined pointer is NULL, which the fresh bytes are.
    if (!headFields.includes(field) && !pointerFields.includes(field)) view.setInt32(offset, UNDEFINED_INT, true);
  }
  view.setBigUint64(ncclConfigOffsets.size, BigInt(NCCL_CONFIG_BYTES), true);
  view.setUint32(ncclConfigOffsets.magic, NCCL_API_MAGIC, true);
  view.setUint32(ncclConfigOffsets.version, int32("version", config.version, 1), true);
  if (config.blocking !== undefined) view.setInt32(ncclConfigOffsets.blocking, config.blocking ? 1 : 0, true);
  if (config.minCTAs !== undefined) {
    // To NCCL an undefined most is less than any least.
    if (config.maxCTAs === undefined || config.maxCTAs < config.minCTAs) {
      throw new RangeError(`minCTAs is at most maxCTAs, and ${config.minCTAs} is not at most ${config.maxCTAs}`);
    }
    view.setInt32(ncclConfigOffsets.minCTAs, int32("minCTAs", config.minCTAs, 1), true);
  }
  if (config.maxCTAs !== undefined) {
    view.setInt32(ncclConfigOffsets.maxCTAs, int32("maxCTAs", config.maxCTAs, 1), true);
  }
  if (config.splitShare !== undefined) view.setInt32(ncclConfigOffsets.splitShare, config.splitShare ? 1 : 0, true);
  return bytes;
}

/** One `struct cudaMemcpyAttributes`: how the copies of a batch are to be done. Hints on places are left out. */
export interface MemcpyAttributes {
  /** When the sources are read: see `cudaMemcpySrcAccessOrder`. */
  readonly srcAccessOrder: number;
  /** `enum cudaMemcpyFlags`; 0 unless given. */
  readonly flags?: number;
}

/** Bytes of `struct cudaMemcpyAttributes`. */
export const MEMCPY_ATTRIBUTES_BYTES = 24;

/** Where the fields of `struct cudaMemcpyAttributes` stand, in bytes; the two hints have a type and an id of 4 bytes each. */
export const memcpyAttributesOffsets = { srcAccessOrder: 0, srcLocHint: 4, dstLocHint: 12, flags: 20 } as const;

/** `struct cudaMemcpyAttributes` as bytes. */
export function encodeMemcpyAttributes(attributes: MemcpyAttributes): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(MEMCPY_ATTRIBUTES_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(memcpyAttributesOffsets.srcAccessOrder, int32("srcAccessOrder", attributes.srcAccessOrder, 0), true);
  view.setUint32(memcpyAttributesOffsets.flags, int32("flags", attributes.flags ?? 0, 0), true);
  return bytes;
}

/** Bytes of `cudaLaunchConfig_t`. */
export const LAUNCH_CONFIG_BYTES = 56;

/** Where the fields of `cudaLaunchConfig_t` stand, in bytes; the two sizes have three numbers of 4 bytes each. */
export const launchConfigOffsets = {
  gridDim: 0,
  blockDim: 12,
  dynamicSmemBytes: 24,
  stream: 32,
  attrs: 40,
  numAttrs: 48,
} as const;

/** The value, when it is an integer from `least` up that fits an `int`. */
function int32(field: string, value: number, least: number): number {
  if (!Number.isInteger(value) || value < least || value > 0x7fff_ffff) {
    throw new RangeError(`${field} is an integer from ${least} to 2147483647, not ${value}`);
  }
  return value;
}
