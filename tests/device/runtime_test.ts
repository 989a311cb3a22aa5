import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { cpuCallCount } from "../../ffi/cpu_extras.ts";
import { ClosedError, Deadline, DeviceBuffer, openRuntime, SeqferryError } from "../../mod.ts";
import type { Libraries } from "../../ffi/open.ts";
import { CopyBatch, wordsOf } from "../../src/device/copy_batch.ts";
import { DeviceRuntime, requireNonblocking } from "../../src/device/runtime.ts";
import { Stream } from "../../src/device/stream.ts";
import { FaultyRuntime } from "../faults/faulty.ts";
import { resources } from "../faults/resources.ts";
import { native } from "../native.ts";

/** The stand-in as if it were CUDA's: runtimes with the same ordinal have the same device. */
const asCuda: Libraries = { ...native, backend: "cuda" };

Deno.test("free() waits for the groups of all runtimes on the device", () => {
  using one = new DeviceRuntime(asCuda, 0);
  using other = new DeviceRuntime(asCuda, 0);
  const { liveBytes } = resources();
  const address = one.allocate(1000);
  other.groupStarted();
  one.groupStarted();
  one.free(address, 1000);
  one.groupFinished();
  assert(resources().liveBytes! > liveBytes!);
  other.groupFinished();
  assertEquals(resources().liveBytes, liveBytes);
});

Deno.test("copyBatch() copies one by one where the driver is too old for batches, whatever libcudart is", async () => {
  const cudaDriverGetVersion = (out: Int32Array) => (out[0] = 12040, 0);
  const symbols = { ...native.cudart.symbols, cudaDriverGetVersion };
  const libraries = { ...native, cudart: { ...native.cudart, symbols } } as unknown as Libraries;
  using runtime = new DeviceRuntime(libraries, 0);
  using buffer = DeviceBuffer.allocate(runtime, 100);
  using stream = new Stream(runtime);
  await buffer.write(Uint8Array.from({ length: 100 }, (_, i) => i));
  const batch = new CopyBatch(2);
  const words = wordsOf(buffer.address);
  batch.add(words, 50, words, 0, 10);
  batch.add(words, 70, words, 10, 5);
  const batches = cpuCallCount(native.cpu!, "cudaMemcpyBatchAsync");
  stream.copyBatch(batch);
  await stream.idle(new Deadline());
  assertEquals(cpuCallCount(native.cpu!, "cudaMemcpyBatchAsync"), batches);
  const bytes = await buffer.read();
  assertEquals([...bytes.subarray(50, 60), ...bytes.subarray(70, 75)], Array.from({ length: 15 }, (_, i) => i));
});

Deno.test("NCCL's own variable for blocking calls is refused by name", () => {
  for (const value of [undefined, "0", "not permitted"]) requireNonblocking(value);
  assertThrows(() => requireNonblocking("1"), SeqferryError, "NCCL_COMM_BLOCKING");
});

Deno.test("a runtime that is disposed ends the copies under way with an error, and keeps nothing", async () => {
  const before = resources();
  const runtime = new FaultyRuntime();
  const buffer = DeviceBuffer.allocate(runtime, 8 << 20);
  runtime.arm("cudaEventQuery", { code: 600, times: Infinity });
  const reading = Promise.allSettled([buffer.read(), buffer.read()]);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert(runtime.hasFired("cudaEventQuery"));
  runtime[Symbol.dispose]();
  runtime.disarm();
  for (const end of await reading) assert(end.status === "rejected" && end.reason instanceof ClosedError);
  buffer[Symbol.dispose]();
  assertEquals(resources(), before);
});

Deno.test("openRuntime() refuses ordinals that there cannot be", async () => {
  for (const device of [-1, 0.5, 65_536, 65_537, 2 ** 31, 2 ** 32 + 1]) {
    await assertRejects(() => openRuntime({ backend: "cpu", device }), SeqferryError, `not ${device}`);
  }
});
