import { assert, assertEquals, assertThrows } from "@std/assert";
import { CudaError, DeviceBuffer, openRuntime } from "../../mod.ts";
import { DeviceRuntime } from "../../src/device/runtime.ts";
import { aligned, SlabPool } from "../../src/device/slab.ts";
import { Stream } from "../../src/device/stream.ts";
import { Deadline } from "../../src/wait.ts";
import { native } from "../native.ts";

async function open(): Promise<DeviceRuntime> {
  const runtime = await openRuntime({ backend: native.backend });
  assert(runtime instanceof DeviceRuntime);
  return runtime;
}

Deno.test("a slab is freed when it is sealed and its last region goes", async () => {
  using runtime = await open();
  const { freeBytes } = runtime.memoryInfo();
  using pool = new SlabPool(runtime);
  // Large enough that a GPU takes it from its free memory by itself.
  const slab = pool.allocate(64 << 20);
  const first = slab.region(0, 1000);
  const second = slab.region(1024, 1000).retain();
  slab.seal();
  first.release();
  second.release();
  assert(!slab.freed);
  assert(runtime.memoryInfo().freeBytes < freeBytes);
  second.release();
  assert(slab.freed);
  assertEquals(runtime.memoryInfo().freeBytes, freeBytes);
  assertEquals(runtime.liveBytes, 0);
  assertThrows(() => second.release(), Error, "more often");
});

Deno.test("a pool compacts slabs of which less than half is in use, and the bytes stay the same", async () => {
  using runtime = await open();
  using stream = new Stream(runtime);
  using pool = new SlabPool(runtime);
  const slab = pool.allocate(1 << 20);
  const regions = Array.from({ length: 16 }, (_, i) => slab.region(i << 16, 1 << 16));
  slab.seal();
  const bytes = crypto.getRandomValues(new Uint8Array(1 << 16));
  await runtime.copier.write(regions[9]!.address, bytes, new Deadline());
  for (const [i, region] of regions.entries()) if (i !== 9) region.release();
  pool.compact(() => stream);
  await stream.idle(new Deadline());
  assert(slab.freed);
  assertEquals(pool.byteLength, 1 << 16);
  assertEquals(await runtime.copier.read(regions[9]!.address, 1 << 16, new Deadline()), bytes);
  regions[9]!.release();
  assertEquals(pool.byteLength, 0);
});

Deno.test("a pool leaves a slab alone while one of its regions is being read", async () => {
  using runtime = await open();
  using stream = new Stream(runtime);
  using pool = new SlabPool(runtime);
  const slab = pool.allocate(1 << 20);
  const region = slab.region(0, 512);
  slab.seal();
  const reading = region.whileReading(async (address) => {
    pool.compact(() => stream);
    region.release();
    assert(!slab.freed);
    return await runtime.copier.read(address, 512, new Deadline());
  });
  assertEquals((await reading).length, 512);
  assert(slab.freed);
});

Deno.test("a pool places tensors of one lane one behind the other, aligned to their elements, and reuses the place when all are gone", async () => {
  using runtime = await open();
  using pool = new SlabPool(runtime);
  const regions = Array.from({ length: 100 }, (_, i) => pool.place(i * 12, "tokens", 4));
  assertEquals(new Set(regions.map(({ slab }) => slab)).size, 1);
  for (const [i, region] of regions.slice(1).entries()) {
    assertEquals(region.address, regions[i]!.address + BigInt(regions[i]!.byteLength));
  }
  pool.place(3, "mask", 1).release();
  const odd = pool.place(3, "mixed", 1);
  const even = pool.place(8, "mixed", 8);
  assertEquals(even.address % 8n, 0n);
  odd.release();
  even.release();
  const first = regions[0]!.address;
  for (const region of regions) region.release();
  const again = pool.place(10, "tokens", 2);
  assertEquals(again.address, first);
  again.release();
  assertEquals(aligned(1), 256);
});

Deno.test("a pool lets a lane grow in few slabs, and gives back what compaction empties", async () => {
  using runtime = await open();
  using stream = new Stream(runtime);
  const before = runtime.memoryInfo().freeBytes;
  {
    using pool = new SlabPool(runtime);
    const regions = Array.from({ length: 4000 }, () => pool.place(8000, "tokens", 8));
    const slabs = new Set(regions.map(({ slab }) => slab));
    assert(slabs.size < 20, `${slabs.size} slabs`);
    assert(pool.byteLength < 1.25 * 4000 * 8000, `${pool.byteLength} bytes`);
    const kept = regions[3999]!;
    const bytes = crypto.getRandomValues(new Uint8Array(8000));
    await runtime.copier.write(kept.address, bytes, new Deadline());
    for (const region of regions) if (region !== kept) region.release();
    pool.compact(() => stream);
    await stream.idle(new Deadline());
    assertEquals(pool.byteLength, 8000);
    assertEquals(await runtime.copier.read(kept.address, 8000, new Deadline()), bytes);
    kept.release();
  }
  assertEquals(runtime.memoryInfo().freeBytes, before);
});

Deno.test("compaction keeps neighbours together and tensors aligned, and takes no more than what is in use", async () => {
  using runtime = await open();
  using stream = new Stream(runtime);
  using pool = new SlabPool(runtime);
  const slab = pool.allocate(80_000);
  const lot = slab.lot();
  // 1000 tensors of 8-byte elements, then 1000 of 4 bytes, then 1000 of 3 bytes each.
  const sizes = [...new Array(1000).fill(64), ...new Array(1000).fill(4), ...new Array(1000).fill(3)];
  let offset = 0;
  for (const size of sizes) {
    lot.add(offset, size);
    offset += size;
  }
  slab.seal();
  const bytes = new Uint8Array(offset).map((_, i) => (i * 31) ^ (i >> 8));
  await runtime.copier.write(slab.address, bytes, new Deadline());
  for (let piece = 0; piece < sizes.length; piece++) if (piece % 3 !== 0) lot.release(piece);
  pool.compact(() => stream);
  await stream.idle(new Deadline());
  assert(slab.freed);
  assert(pool.byteLength <= lot.liveBytes + 16, `${pool.byteLength} bytes for ${lot.liveBytes}`);
  const moved = await runtime.copier.read(lot.slab.address, lot.slab.byteLength, new Deadline());
  let start = 0;
  for (const [piece, size] of sizes.entries()) {
    if (piece % 3 === 0) {
      const at = lot.offsetOf(piece);
      assertEquals(at % (size === 64 ? 8 : size === 4 ? 4 : 1), 0);
      assertEquals(moved.subarray(at, at + size), bytes.subarray(start, start + size));
      lot.release(piece);
    } else {
      assert(lot.isReleased(piece));
    }
    start += size;
  }
  assertEquals(pool.byteLength, 0);
});

Deno.test("DeviceBuffer copies bytes there and back, also in parts and larger than a chunk", async () => {
  using runtime = await open();
  using buffer = DeviceBuffer.allocate(runtime, 5_000_001);
  const bytes = new Uint8Array(5_000_001).map((_, i) => i * 31);
  await buffer.write(bytes);
  assertEquals(await buffer.read(), bytes);
  await buffer.write(Uint8Array.of(1, 2, 3), 17);
  assertEquals(await buffer.read(16, 5), Uint8Array.of(bytes[16]!, 1, 2, 3, bytes[20]!));
  assertThrows(() => DeviceBuffer.allocate(runtime, -1), Error, "-1");
  let error: unknown;
  await buffer.read(5_000_000, 2).catch((caught) => error = caught);
  assert(error instanceof Error && error.message.includes("5000000 to 5000002"));
});

Deno.test("DeviceBuffer.allocate() throws a CudaError with call, code and name when the device is full", async () => {
  using runtime = await open();
  const { totalBytes } = runtime.memoryInfo();
  const error = assertThrows(() => DeviceBuffer.allocate(runtime, totalBytes + 1), CudaError);
  assertEquals([error.call, error.code, error.codeName], ["cudaMalloc", 2, "cudaErrorMemoryAllocation"]);
});
