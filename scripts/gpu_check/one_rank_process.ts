/**
 * One rank in a process of its own: every way in which bytes move on one device. Obeys `{ check }`, the name of one of {@linkcode ONE_RANK_CHECKS}.
 *
 * @module
 */

import {
  Communicator,
  DataManager,
  Deadline,
  DeviceBuffer,
  Event,
  openRuntime,
  type RedistribStep,
  type Runtime,
  Stream,
} from "../../mod.ts";
import { capabilities, cudaVersionText } from "../../ffi/capabilities.ts";
import { cudaMemcpyKind, cudaMemcpySrcAccessOrder, cudaMemPoolAttr } from "../../ffi/constants.ts";
import { encodeMemcpyAttributes } from "../../ffi/structs.ts";
import { CopyBatch, wordsOf } from "../../src/device/copy_batch.ts";
import { PinnedBuffer } from "../../src/device/pinned_buffer.ts";
import { type DeviceRuntime, deviceRuntime } from "../../src/device/runtime.ts";
import { SlabPool } from "../../src/device/slab.ts";
import { Loopback } from "../../src/manager/loopback.ts";
import { expect, type Numbers, Skip } from "./check.ts";
import { serveCommands } from "./protocol.ts";
import { rollouts, sameBytes, sameSample } from "./rollouts.ts";

/** A command: which check to make. */
export interface OneRankCommand {
  readonly check: string;
}

type Check = (device: DeviceRuntime) => Promise<Numbers | void>;

/** The checks by name, in their order. */
export const ONE_RANK_CHECKS: ReadonlyMap<string, Check> = new Map<string, Check>([
  ["staging: bytes go to the device and back by way of pinned memory", staging],
  ["copies from and to pinned and pageable host memory", hostCopies],
  ["copies within the device, ordered by events", copies],
  ["copies in batches", batches],
  ["many copies at once, of every size and alignment", manyCopies],
  ["memory of the stream-ordered pool", pool],
  ["slabs: what is left of a sparse one moves, and its memory is freed", compaction],
  ["send and receive to self", toSelf],
  ["store, redistribute, verify, read and remove real rollouts", roundTrip],
  ["a rehearsal: transfers of this rank with itself", rehearsal],
  ["abort of a communicator with work under way, and a new one after it", abort],
  ["the device has as much free memory as before a manager came and went", allGivenBack],
]);

const SIZE = (4 << 20) + 3;

/** Bytes that depend on a seed. */
function pattern(byteLength: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: byteLength }, (_, i) => (i * 31 + seed * 97 + (i >> 8)) & 0xff);
}

function within(timeoutMs: number): Deadline {
  return new Deadline({ timeoutMs });
}

function joinAlone(runtime: Runtime): Promise<Communicator> {
  return Communicator.init(runtime, { uniqueId: runtime.createUniqueId(), rank: 0, worldSize: 1 });
}

async function staging(runtime: DeviceRuntime): Promise<Numbers> {
  using buffer = DeviceBuffer.allocate(runtime, SIZE);
  const bytes = pattern(SIZE, 1);
  // The first copy makes the pinned buffers.
  await buffer.write(bytes.subarray(0, 1));
  const started = performance.now();
  await buffer.write(bytes);
  const written = performance.now();
  const back = await buffer.read();
  const read = performance.now();
  expect(sameBytes(back, bytes), "the bytes came back changed");
  const gigabytes = (ms: number) => SIZE / ms / 1e6;
  return { writeGBps: gigabytes(written - started), readGBps: gigabytes(read - written) };
}

async function hostCopies(device: DeviceRuntime): Promise<void> {
  using buffer = DeviceBuffer.allocate(device, SIZE);
  using pinned = new PinnedBuffer(device, SIZE);
  using stream = new Stream(device);
  const bytes = pattern(SIZE, 5);
  const pageable = new Uint8Array(SIZE);
  stream.copyFromHost(buffer.address, bytes);
  stream.copyToHost(pinned.bytes, buffer.address);
  await stream.idle(within(10_000));
  expect(sameBytes(pinned.bytes, bytes), "pageable to the device, and to pinned memory: the bytes are others");
  pinned.bytes.reverse();
  stream.copyFromHost(buffer.address, pinned.bytes);
  stream.copyToHost(pageable, buffer.address);
  await stream.idle(within(10_000));
  expect(sameBytes(pageable, bytes.reverse()), "pinned to the device, and to pageable memory: the bytes are others");
}

async function compaction(device: DeviceRuntime): Promise<void> {
  const before = device.liveBytes;
  {
    using pool = new SlabPool(device);
    using stream = new Stream(device);
    const slab = pool.allocate(SIZE);
    const [kept, dropped] = [slab.region(1 << 20, 1000), slab.region(0, 1 << 20)];
    slab.seal();
    const bytes = pattern(1000, 6);
    stream.copyFromHost(kept.address, bytes);
    dropped.release();
    pool.compact(() => stream);
    await stream.idle(within(10_000));
    expect(slab.freed, "the sparse slab is still there");
    expect(
      sameBytes(await device.copier.read(kept.address, 1000, within(10_000)), bytes),
      "the bytes moved are others",
    );
    kept.release();
  }
  expect(device.liveBytes === before, `${device.liveBytes - before} bytes are still held`);
}

async function copies(device: DeviceRuntime): Promise<void> {
  using from = DeviceBuffer.allocate(device, SIZE);
  using to = DeviceBuffer.allocate(device, SIZE);
  using first = new Stream(device);
  using second = new Stream(device);
  using event = new Event(device);
  const bytes = pattern(SIZE, 2);
  await from.write(bytes);
  first.copy(to.address + 1n, from.address + 1n, SIZE - 1);
  event.record(first);
  second.waitFor(event);
  second.fill(to.address, 7, 1);
  await second.idle(within(10_000));
  expect(event.isDone(), "a stream went past an event that is not complete");
  bytes[0] = 7;
  expect(sameBytes(await to.read(), bytes), "the bytes came over changed");
}

async function batches(device: DeviceRuntime): Promise<void> {
  const { libraries } = device;
  const { memcpyBatch12, memcpyBatch13 } = capabilities(libraries.nccl.version, libraries.cudart.version);
  if (!memcpyBatch12 && !memcpyBatch13) throw new Skip(`CUDA ${cudaVersionText(libraries.cudart.version)} has none`);
  using from = DeviceBuffer.allocate(device, SIZE);
  using to = DeviceBuffer.allocate(device, SIZE);
  using stream = new Stream(device);
  const bytes = pattern(SIZE, 3);
  await from.write(bytes);
  const half = BigInt(SIZE >> 1);
  const tos = new BigUint64Array([to.address + half, to.address]);
  const froms = new BigUint64Array([from.address + half, from.address]);
  const sizes = new BigUint64Array([BigInt(SIZE) - half, half]);
  const attributes = encodeMemcpyAttributes({ srcAccessOrder: cudaMemcpySrcAccessOrder.stream });
  const { symbols } = libraries.cudart;
  const [start, failed] = [new BigUint64Array(1), new BigUint64Array(1)];
  const code = memcpyBatch12
    ? symbols.cudaMemcpyBatchAsync12!(tos, froms, sizes, 2n, attributes, start, 1n, failed, stream.handle)
    : symbols.cudaMemcpyBatchAsync!(tos, froms, sizes, 2n, attributes, start, 1n, stream.handle);
  expect(code === 0, `cudaMemcpyBatchAsync answered ${code}`);
  await stream.idle(within(10_000));
  expect(sameBytes(await to.read(), bytes), "the bytes came over changed");
}

async function manyCopies(device: DeviceRuntime): Promise<Numbers> {
  const byteLength = 8 << 20;
  using from = DeviceBuffer.allocate(device, byteLength);
  using to = DeviceBuffer.allocate(device, byteLength);
  using stream = new Stream(device);
  const bytes = pattern(byteLength, 7);
  await from.write(bytes);
  await to.write(new Uint8Array(byteLength));
  const expected = new Uint8Array(byteLength);
  const copies: { toOffset: number; fromOffset: number; length: number }[] = [];
  // Of all sizes up to 40 and some large ones; sources and destinations at all distances from 16 bytes.
  for (let at = 0, n = 0; at < byteLength - (1 << 19); n++) {
    const toOffset = at + n % 17;
    const length = n % 500 === 499 ? 100_000 + n : 1 + n % 40;
    const fromOffset = (n * 7919) % (byteLength - length);
    copies.push({ toOffset, fromOffset, length });
    expected.set(bytes.subarray(fromOffset, fromOffset + length), toOffset);
    at = toOffset + length;
  }
  const batch = new CopyBatch(copies.length);
  for (const { toOffset, fromOffset, length } of copies) {
    batch.add(wordsOf(to.address), toOffset, wordsOf(from.address), fromOffset, length);
  }
  const started = performance.now();
  stream.copyBatch(batch);
  const issueMs = performance.now() - started;
  await stream.idle(within(30_000));
  expect(sameBytes(await to.read(), expected), "the bytes came over changed");
  return { copies: copies.length, issueMs, byKernel: device.copyKernel === null ? 0 : 1 };
}

async function pool(device: DeviceRuntime): Promise<Numbers> {
  const { symbols } = device.libraries.cudart;
  using stream = new Stream(device);
  device.makeCurrent();
  const out = new BigUint64Array(1);
  expect(symbols.cudaMallocAsync(out, BigInt(SIZE), stream.handle) === 0, "cudaMallocAsync failed");
  stream.fill(out[0]!, 9, SIZE);
  const back = new Uint8Array(SIZE);
  const kind = cudaMemcpyKind.deviceToHost;
  expect(symbols.cudaMemcpyAsyncToHost(back, out[0]!, BigInt(SIZE), kind, stream.handle) === 0, "the copy failed");
  expect(symbols.cudaFreeAsync(out[0]!, stream.handle) === 0, "cudaFreeAsync failed");
  await stream.idle(within(10_000));
  expect(back.every((byte) => byte === 9), "the bytes came back changed");
  expect(symbols.cudaDeviceGetDefaultMemPool(out, device.device) === 0, "there is no default pool");
  const used = new BigUint64Array(1);
  expect(
    symbols.cudaMemPoolGetAttribute(out[0]!, cudaMemPoolAttr.reservedMemCurrent, used) === 0,
    "the pool says nothing",
  );
  return { reservedMiB: Number(used[0]) / 2 ** 20 };
}

async function toSelf(device: DeviceRuntime): Promise<Numbers> {
  await using communicator = await joinAlone(device);
  using from = DeviceBuffer.allocate(device, SIZE);
  using to = DeviceBuffer.allocate(device, SIZE);
  const bytes = pattern(SIZE, 4);
  await from.write(bytes);
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const deadline = within(30_000);
    const started = performance.now();
    const group = await communicator.group("a send to self", (calls) => {
      // Of several messages to one peer each has its place in the order.
      calls.receive(to.address, 1000, 0);
      calls.receive(to.address + 1000n, SIZE - 1000, 0);
      calls.send(from.address, 1000, 0);
      calls.send(from.address + 1000n, SIZE - 1000, 0);
    }, deadline);
    await communicator.stream.idle(deadline);
    expect(group.isDone(), "the stream is idle and the group is not done");
    times.push(performance.now() - started);
  }
  expect(sameBytes(await to.read(), bytes), "the bytes came over changed");
  return { bestMs: Math.min(...times) };
}

async function roundTrip(device: DeviceRuntime): Promise<Numbers> {
  const batch = await rollouts();
  await using manager = await DataManager.create({ communicator: await joinAlone(device), rehearse: false });
  const samples = batch.unpack();
  for (const sample of samples) manager.store(sample);
  const plan: RedistribStep[] = [
    { commType: "bcast", root: 0, srcs: [0], dsts: [0], ids: [...batch.ids], keys: [...batch.keys] },
  ];
  await manager.redistribute(batch.meta(), plan, { verify: true });
  let bytes = 0;
  for (const sample of samples) bytes += await sameSample(manager, sample);
  manager.remove(batch.ids);
  expect(manager.storageSize === 0, "ids are left");
  return { ids: batch.ids.length, MiB: bytes / 2 ** 20 };
}

async function rehearsal(device: DeviceRuntime): Promise<Numbers> {
  const before = device.liveBytes;
  const started = performance.now();
  const times: number[] = [];
  {
    await using loopback = await Loopback.open(device, { timeoutMs: 30_000 });
    while (!loopback.isOver) {
      const began = performance.now();
      const installed = await loopback.round(within(10_000));
      times.push(performance.now() - began);
      expect(installed > 0, "a transfer installed nothing");
    }
  }
  expect(device.liveBytes === before, "memory is left");
  return { transfers: times.length, firstMs: times[0]!, lastMs: times.at(-1)!, allMs: performance.now() - started };
}

/** Enough work in front of the group that it is still outstanding when the abort comes. */
const BUSY_BYTES = 64 << 20;
/** A GPU makes one in 50 microseconds, the stand-in in 10 milliseconds. */
const BUSY_COPIES = 1000;

async function abort(device: DeviceRuntime): Promise<Numbers> {
  const communicator = await joinAlone(device);
  using from = DeviceBuffer.allocate(device, BUSY_BYTES);
  using to = DeviceBuffer.allocate(device, BUSY_BYTES);
  for (let i = 0; i < BUSY_COPIES; i++) communicator.stream.copy(to.address, from.address, BUSY_BYTES);
  const group = await communicator.group("a send to self", (calls) => {
    calls.send(from.address, BUSY_BYTES, 0);
    calls.receive(to.address, BUSY_BYTES, 0);
  }, within(30_000));
  const outstanding = group.isDone() ? 0 : 1;
  const started = performance.now();
  communicator.abort();
  await communicator.released(within(10_000));
  const abortMs = performance.now() - started;
  {
    await using next = await joinAlone(device);
    await next.group("a send to self", (calls) => {
      calls.receive(to.address, 8, 0);
      calls.send(from.address, 8, 0);
    }, within(30_000));
    await next.stream.idle(within(30_000));
  }
  return { abortMs, outstanding };
}

async function allGivenBack(device: DeviceRuntime): Promise<Numbers> {
  // The first communicator and the first copies make what the libraries keep.
  await roundTrip(device);
  const before = { live: device.liveBytes, free: device.memoryInfo().freeBytes };
  await roundTrip(device);
  const held = device.liveBytes - before.live;
  expect(held === 0, `${held} bytes are still held`);
  const lostMiB = (before.free - device.memoryInfo().freeBytes) / 2 ** 20;
  // Another process may use the device too; what NCCL keeps for a communicator is tens of MiB.
  expect(lostMiB < 8, `${lostMiB} MiB of the device's memory are gone`, { lostMiB });
  return { lostMiB };
}

if (import.meta.main) {
  const [backend, ordinal] = Deno.args as ["cuda" | "cpu", string];
  const device = deviceRuntime(await openRuntime({ backend, device: Number(ordinal) }));
  await serveCommands(({ check }: OneRankCommand) => ONE_RANK_CHECKS.get(check)!(device));
}
