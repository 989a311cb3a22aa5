import { assertEquals, assertThrows } from "@std/assert";
import { launchConfigOffsets } from "../../ffi/structs.ts";
import type { Libraries } from "../../ffi/open.ts";
import { CopyBatch } from "../../src/device/copy_batch.ts";
import { COPIES_PER_LAUNCH, CopyKernel } from "../../src/device/copy_kernel.ts";
import { CudaError } from "../../src/errors.ts";
import { native } from "../native.ts";

/** One launch, as the library is told of it. */
interface Launch {
  readonly kernel: bigint;
  readonly grid: readonly number[];
  readonly block: readonly number[];
  readonly stream: bigint;
  readonly copies: readonly (readonly bigint[])[];
}

/** The libraries with kernels: they note what is launched. */
function withKernels(launches: Launch[], code = 0): Libraries {
  const cudaLibraryLoadData = (out: BigUint64Array, ptx: Uint8Array): number => {
    const text = new TextDecoder().decode(ptx);
    assertEquals([text.startsWith(".version"), text.at(-1)], [true, "\0"]);
    out[0] = 7n;
    return code;
  };
  const cudaLibraryGetKernel = (out: BigUint64Array, library: bigint, name: Uint8Array): number => {
    assertEquals([library, new TextDecoder().decode(name)], [7n, "seqferry_copy\0"]);
    out[0] = 8n;
    return 0;
  };
  const cudaLaunchKernelExC = (config: DataView, kernel: bigint, args: BigUint64Array): number => {
    const { gridDim, blockDim, stream } = launchConfigOffsets;
    const sizes = (offset: number) => [0, 4, 8].map((at) => config.getUint32(offset + at, true));
    const grid = sizes(gridDim);
    const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(args[0]!)!);
    const lists = [0, 1, 2].map((list) => 8 * COPIES_PER_LAUNCH * list);
    const copies = Array.from({ length: grid[0]! }, (_, i) => lists.map((list) => view.getBigUint64(list + 8 * i)));
    launches.push({ kernel, grid, block: sizes(blockDim), stream: config.getBigUint64(stream, true), copies });
    return grid[1] === 128 ? 400 : 0;
  };
  const symbols = { ...native.cudart.symbols, cudaLibraryLoadData, cudaLibraryGetKernel, cudaLaunchKernelExC };
  return { ...native, cudart: { ...native.cudart, symbols } } as unknown as Libraries;
}

Deno.test("CopyKernel tells a launch where each copy goes, where it comes from and how long it is", () => {
  const launches: Launch[] = [];
  const kernel = CopyKernel.load(withKernels(launches))!;
  const batch = new CopyBatch(COPIES_PER_LAUNCH + 5);
  const wanted = Array.from({ length: batch.count }, (_, i): [bigint, bigint, bigint] => {
    const length = i === 3 ? 200_000 : i + 1;
    batch.add([4096, 0x7f00], 1000 * i, [0xffff_fff0, 2], i, length);
    return [0x7f00_0000_1000n + BigInt(1000 * i), 0x2_ffff_fff0n + BigInt(i), BigInt(length)];
  });
  kernel.launch(batch, 0, COPIES_PER_LAUNCH, 99n);
  kernel.launch(batch, COPIES_PER_LAUNCH, batch.count, 99n);
  assertEquals(launches.map(({ grid }) => grid), [[COPIES_PER_LAUNCH, 4, 1], [5, 1, 1]]);
  assertEquals(launches.flatMap(({ copies }) => copies), wanted);
  for (const { block, stream, kernel } of launches) {
    assertEquals({ block, stream, kernel }, { block: [256, 1, 1], stream: 99n, kernel: 8n });
  }
});

Deno.test("CopyKernel.load() answers null where the driver cannot translate it, and where the library has no kernels", () => {
  assertEquals(CopyKernel.load(withKernels([], 222)), null);
  const symbols = { ...native.cudart.symbols, cudaLibraryLoadData: null };
  assertEquals(CopyKernel.load({ ...native, cudart: { ...native.cudart, symbols } }), null);
});

Deno.test("CopyKernel tells CUDA's error for a launch that fails", () => {
  const kernel = CopyKernel.load(withKernels([]))!;
  const batch = new CopyBatch(1);
  batch.add([0, 1], 0, [0, 2], 0, 2 ** 33);
  assertThrows(() => kernel.launch(batch, 0, 1, 1n), CudaError, "cudaLaunchKernelExC");
});
