/**
 * Many copies within device memory by one kernel.
 *
 * For CUDA each copy of a batch is a command of its own, which the host hands over in some 3 microseconds, however small it is, and of which a stream takes a
 * thousand ahead. A kernel makes as many copies as its parameters name, at the speed of the memory. It comes as PTX, CUDA's assembly, which the driver
 * translates for the device at hand.
 *
 * @module
 */

import { cudaSuccess } from "../../ffi/constants.ts";
import type { Libraries } from "../../ffi/open.ts";
import { cudaError } from "../../ffi/status.ts";
import { LAUNCH_CONFIG_BYTES, launchConfigOffsets } from "../../ffi/structs.ts";
import type { CopyBatch } from "./copy_batch.ts";

/** How many copies a launch makes: of each it has where to, where from and how many bytes, and all that fits the 4096 bytes that a kernel takes on all devices. */
export const COPIES_PER_LAUNCH = 170;
/** Bytes of one of those three lists. */
const LIST_BYTES = 8 * COPIES_PER_LAUNCH;
/** Threads of a block. */
const THREADS = 256;
/** A block for so many bytes of the largest copy, up to that many. */
const BYTES_PER_BLOCK = 1 << 16;
const MOST_BLOCKS = 128;

const NAME = "seqferry_copy";

/** A loop that copies as many of the bytes as are whole units of a width, and leaves in `at` where the rest begins. */
function loop(width: number, type: string, values: string): string {
  return `
WIDE${width}:
  and.b64 whole, bytes, ${-width};
  mul.lo.u64 at, index, ${width};
  mul.lo.u64 step, threads, ${width};
NEXT${width}:
  setp.ge.u64 over, at, whole;
  @over bra REST;
  add.u64 source, from, at;
  add.u64 target, to, at;
  ld.global.${type} ${values}, [source];
  st.global.${type} [target], ${values};
  add.u64 at, at, step;
  bra NEXT${width};`;
}

/**
 * Block (x, y) has a part in copy x; all blocks with that x share its bytes. They are copied in the widest units that both addresses are aligned to, and what
 * is left of the last one byte by byte.
 */
export const COPY_PTX = `.version 7.0
.target sm_60
.address_size 64

.visible .entry ${NAME}(.param .align 8 .b8 copies[${3 * LIST_BYTES}])
{
  .reg .pred over;
  .reg .u16 half;
  .reg .u32 x, y, thread, block, blocks, w0, w1, w2, w3;
  .reg .u64 copy, to, from, bytes, index, threads, odd, whole, at, step, source, target, word;

  mov.u32 x, %ctaid.x;
  mov.u64 copy, copies;
  mad.wide.u32 copy, x, 8, copy;
  ld.param.u64 to, [copy];
  ld.param.u64 from, [copy+${LIST_BYTES}];
  ld.param.u64 bytes, [copy+${2 * LIST_BYTES}];
  cvta.to.global.u64 to, to;
  cvta.to.global.u64 from, from;

  mov.u32 y, %ctaid.y;
  mov.u32 block, %ntid.x;
  mov.u32 thread, %tid.x;
  mov.u32 blocks, %nctaid.y;
  mul.wide.u32 index, y, block;
  cvt.u64.u32 word, thread;
  add.u64 index, index, word;
  mul.wide.u32 threads, blocks, block;

  or.b64 odd, to, from;
  and.b64 word, odd, 15;
  setp.eq.u64 over, word, 0;
  @over bra WIDE16;
  and.b64 word, odd, 7;
  setp.eq.u64 over, word, 0;
  @over bra WIDE8;
  and.b64 word, odd, 3;
  setp.eq.u64 over, word, 0;
  @over bra WIDE4;
  and.b64 word, odd, 1;
  setp.eq.u64 over, word, 0;
  @over bra WIDE2;
  mov.u64 whole, 0;
  bra REST;
${
  [loop(16, "v4.u32", "{w0, w1, w2, w3}"), loop(8, "u64", "word"), loop(4, "u32", "w0"), loop(2, "u16", "half")].join(
    "\n",
  )
}

REST:
  add.u64 at, whole, index;
EACH:
  setp.ge.u64 over, at, bytes;
  @over bra DONE;
  add.u64 source, from, at;
  add.u64 target, to, at;
  ld.global.u8 half, [source];
  st.global.u8 [target], half;
  add.u64 at, at, threads;
  bra EACH;
DONE:
  ret;
}
`;

const loaded = new WeakMap<Libraries, CopyKernel | null>();

/** The kernel, loaded. It is good for all devices of the process, and for as long as it lasts. */
export class CopyKernel {
  readonly #libraries: Libraries;
  readonly #kernel: bigint;
  readonly #config = new DataView(new ArrayBuffer(LAUNCH_CONFIG_BYTES));
  /** The parameters, and the list of where each is, of which there is one. CUDA copies them when the kernel is launched. */
  readonly #copies = new BigUint64Array(3 * COPIES_PER_LAUNCH);
  readonly #arguments = BigUint64Array.of(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.#copies)));

  private constructor(libraries: Libraries, kernel: bigint) {
    this.#libraries = libraries;
    this.#kernel = kernel;
    this.#setSize(launchConfigOffsets.blockDim, THREADS, 1);
  }

  /** Loads it, once for each pair of libraries; null where the library or the driver cannot. */
  static load(libraries: Libraries): CopyKernel | null {
    let kernel = loaded.get(libraries);
    if (kernel === undefined) loaded.set(libraries, kernel = CopyKernel.#load(libraries));
    return kernel;
  }

  static #load(libraries: Libraries): CopyKernel | null {
    const { cudaLibraryLoadData, cudaLibraryGetKernel, cudaLaunchKernelExC } = libraries.cudart.symbols;
    if (cudaLibraryLoadData === null || cudaLibraryGetKernel === null || cudaLaunchKernelExC === null) return null;
    const out = new BigUint64Array(1);
    const text = (string: string) => new TextEncoder().encode(`${string}\0`);
    if (cudaLibraryLoadData(out, text(COPY_PTX), null, null, 0, null, null, 0) !== cudaSuccess) return null;
    return cudaLibraryGetKernel(out, out[0]!, text(NAME)) === cudaSuccess ? new CopyKernel(libraries, out[0]!) : null;
  }

  /** Makes copies on a stream of the current device: those from `begin` to before `end`, at most {@linkcode COPIES_PER_LAUNCH}. */
  launch(batch: CopyBatch, begin: number, end: number, stream: bigint): void {
    const { to, from, bytes } = batch;
    for (const [list, all] of [to, from, bytes].entries()) {
      this.#copies.set(all.subarray(begin, end), list * COPIES_PER_LAUNCH);
    }
    const blocks = Math.min(MOST_BLOCKS, Math.ceil(batch.largest(begin, end) / BYTES_PER_BLOCK));
    this.#setSize(launchConfigOffsets.gridDim, end - begin, blocks);
    this.#config.setBigUint64(launchConfigOffsets.stream, stream, true);
    const code = this.#libraries.cudart.symbols.cudaLaunchKernelExC!(this.#config, this.#kernel, this.#arguments);
    if (code !== cudaSuccess) throw cudaError(this.#libraries, "cudaLaunchKernelExC", code);
  }

  #setSize(offset: number, x: number, y: number): void {
    for (const [i, size] of [x, y, 1].entries()) this.#config.setUint32(offset + 4 * i, size, true);
  }
}
