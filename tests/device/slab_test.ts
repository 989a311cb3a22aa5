import { assert, assertEquals, assertThrows } from "@std/assert";
import { CudaError, DeviceBuffer, openRuntime } from "../../mod.ts";
import { DeviceRuntime } from "../../src/device/runtime.ts";
import { aligned, SlabPool } from "../../src/device/slab.ts";
import { Stream } from "../../src/device/stream.ts";
import { Deadline } from "../../src/wait.ts";
import "../native.ts";

async function open(): Promise<DeviceRuntime> {
  const runtime = await openRuntime({ backend: "cpu" });
  assert(runtime instanceof DeviceRuntime);
  return runtime;
}

Deno.test("a slab is freed when it is sealed and its last region goes", async () => {
  using runtime = await open();
  const { freeBytes } = runtime.memoryInfo();
  using pool = new SlabPool(runtime);
  const slab = pool.allocate(1 << 16);
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
  pool.compact(stream);
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
    pool.compact(stream);
    region.release();
    assert(!slab.freed);
    return await runtime.copier.read(address, 512, new Deadline());
  });
  assertEquals((await reading).length, 512);
  assert(slab.freed);
});

Deno.test("a pool places small tensors together, aligned, and reuses the place when all are gone", async () => {
  using runtime = await open();
  using pool = new SlabPool(runtime);
  const regions = Array.from({ length: 100 }, (_, i) => pool.place(i * 10));
  assertEquals(new Set(regions.map(({ slab }) => slab)).size, 1);
  for (const region of regions) assertEquals(region.address % 256n, 0n);
  const first = regions[0]!.address;
  for (const region of regions) region.release();
  const again = pool.place(10);
  assertEquals(again.address, first);
  again.release();
  assertEquals(aligned(1), 256);
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
