import { assert, assertEquals } from "@std/assert";
import { capabilities } from "../../ffi/capabilities.ts";
import { cudaMemcpyKind, cudaMemcpySrcAccessOrder, cudaMemPoolAttr } from "../../ffi/constants.ts";
import { encodeMemcpyAttributes } from "../../ffi/structs.ts";
import { allocate, conformance, drain, newStream, pattern, read, stricter, use, write } from "./native_backends.ts";

const SIZE = 100_003;
/** Large enough that no two arrays have a page in common. */
const PINNED = 1 << 20;

conformance("bytes go to the device, within it, and back", async (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const [first, second] = [allocate(backend, SIZE), allocate(backend, SIZE)];
  const stream = newStream(backend);
  const bytes = pattern(SIZE, 1);
  write(backend, first, bytes);
  assertEquals(symbols.cudaMemcpyAsync(second + 1n, first + 1n, BigInt(SIZE - 1), 3, stream), 0);
  assertEquals(symbols.cudaMemcpyAsync(second, first, 1n, cudaMemcpyKind.default, stream), 0);
  assertEquals(await drain(backend, stream), 0);
  assertEquals(read(backend, second, SIZE), bytes);
  assertEquals(symbols.cudaMemsetAsync(second, 0x1ab, 10n, stream), 0);
  assertEquals(await drain(backend, stream), 0);
  assertEquals([...read(backend, second, 11)], [...new Array(10).fill(0xab), bytes[10]]);
  assertEquals([symbols.cudaFree(first), symbols.cudaFree(second), symbols.cudaStreamDestroy(stream)], [0, 0, 0]);
});

conformance("pinned host memory is copied by the stream, and pinned once", async (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, PINNED);
  const stream = newStream(backend);
  const [from, to] = [pattern(PINNED, 2), new Uint8Array(PINNED)];
  assertEquals([symbols.cudaHostRegister(from, BigInt(PINNED), 0), symbols.cudaHostRegister(to, BigInt(PINNED), 0)], [
    0,
    0,
  ]);
  assertEquals(symbols.cudaHostRegister(from, BigInt(PINNED), 0), 712);
  assertEquals(symbols.cudaMemcpyAsyncFromHost(device, from, BigInt(PINNED), 1, stream), 0);
  assertEquals(symbols.cudaMemcpyAsyncToHost(to, device, BigInt(PINNED), 2, stream), 0);
  assertEquals(await drain(backend, stream), 0);
  assertEquals(to, from);
  assertEquals([symbols.cudaHostUnregister(from), symbols.cudaHostUnregister(to)], [0, 0]);
  assertEquals(symbols.cudaHostUnregister(from), 713);
  assertEquals([symbols.cudaFree(device), symbols.cudaStreamDestroy(stream)], [0, 0]);
});

conformance("memory of the pool is ordered by its stream", async (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const stream = newStream(backend);
  const out = new BigUint64Array(1);
  assertEquals(symbols.cudaMallocAsync(out, BigInt(SIZE), stream), 0);
  assertEquals(symbols.cudaMemsetAsync(out[0]!, 7, BigInt(SIZE), stream), 0);
  const back = new Uint8Array(SIZE);
  assertEquals(symbols.cudaMemcpyAsyncToHost(back, out[0]!, BigInt(SIZE), 2, stream), 0);
  assertEquals(symbols.cudaFreeAsync(out[0]!, stream), 0);
  assertEquals(await drain(backend, stream), 0);
  assert(back.every((byte) => byte === 7));
  assertEquals(symbols.cudaDeviceGetDefaultMemPool(out, backend.devices[0]! & 0xffff), 0);
  const value = new BigUint64Array(1);
  assertEquals(symbols.cudaMemPoolGetAttribute(out[0]!, cudaMemPoolAttr.releaseThreshold, value), 0);
  const before = value[0]!;
  assertEquals(
    symbols.cudaMemPoolSetAttribute(out[0]!, cudaMemPoolAttr.releaseThreshold, new BigUint64Array([1n << 20n])),
    0,
  );
  assertEquals(symbols.cudaMemPoolGetAttribute(out[0]!, cudaMemPoolAttr.releaseThreshold, value), 0);
  assertEquals(value[0], 1n << 20n);
  assertEquals(
    symbols.cudaMemPoolSetAttribute(out[0]!, cudaMemPoolAttr.releaseThreshold, new BigUint64Array([before])),
    0,
  );
  assertEquals(symbols.cudaStreamDestroy(stream), 0);
});

conformance("copies in batches arrive, where the release has them", async (backend) => {
  const { symbols, version } = backend.libraries.cudart;
  const { memcpyBatch12, memcpyBatch13 } = capabilities(backend.libraries.nccl.version, version);
  if (!memcpyBatch12 && !memcpyBatch13) return;
  use(backend);
  const [from, to] = [allocate(backend, SIZE), allocate(backend, SIZE)];
  const stream = newStream(backend);
  const bytes = pattern(SIZE, 3);
  write(backend, from, bytes);
  const attributes = encodeMemcpyAttributes({ srcAccessOrder: cudaMemcpySrcAccessOrder.stream });
  const start = new BigUint64Array(1);
  const half = 50_000n;
  const tos = new BigUint64Array([to + half, to]);
  const froms = new BigUint64Array([from + half, from]);
  const sizes = new BigUint64Array([BigInt(SIZE) - half, half]);
  const code = (queue: bigint) =>
    memcpyBatch12
      ? symbols.cudaMemcpyBatchAsync12!(tos, froms, sizes, 2n, attributes, start, 1n, new BigUint64Array(1), queue)
      : symbols.cudaMemcpyBatchAsync!(tos, froms, sizes, 2n, attributes, start, 1n, queue);
  assertEquals(code(stream), 0);
  assertEquals(await drain(backend, stream), 0);
  assertEquals(read(backend, to, SIZE), bytes);
  assertEquals(code(0n), 1);
  assertEquals([symbols.cudaFree(from), symbols.cudaFree(to), symbols.cudaStreamDestroy(stream)], [0, 0, 0]);
  symbols.cudaGetLastError();
});

conformance("misuse of devices and memory has CUDA's codes, kept until they are taken", (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  symbols.cudaGetLastError();
  const device = allocate(backend, 16);
  const out = new BigUint64Array(1);
  assertEquals(symbols.cudaSetDevice(-1), 101);
  assertEquals([symbols.cudaPeekAtLastError(), symbols.cudaPeekAtLastError()], [101, 101]);
  assertEquals([symbols.cudaGetLastError(), symbols.cudaGetLastError()], [101, 0]);
  assertEquals(symbols.cudaMalloc(out, 1n << 46n), 2);
  assertEquals(symbols.cudaMemcpy(device, device + 8n, 8n, 9), 21);
  assertEquals(symbols.cudaFree(0n), 0);
  assertEquals(symbols.cudaFree(device), 0);
  assertEquals(symbols.cudaFree(device), 1);
  assertEquals(symbols.cudaGetLastError(), 1);
});

conformance("a process gives handles of its memory and events, and cannot open its own", (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, SIZE);
  const handle = new Uint8Array(64);
  assertEquals(symbols.cudaIpcGetMemHandle(handle, device), 0);
  assert(handle.some((byte) => byte !== 0));
  const out = new BigUint64Array(1);
  assertEquals(symbols.cudaIpcOpenMemHandle(out, handle, 1), 201);
  assertEquals(symbols.cudaEventCreateWithFlags(out, 6), 0);
  const event = out[0]!;
  assertEquals(symbols.cudaIpcGetEventHandle(handle, event), 0);
  assert(handle.some((byte) => byte !== 0));
  assertEquals([symbols.cudaEventDestroy(event), symbols.cudaFree(device)], [0, 0]);
  symbols.cudaGetLastError();
});

stricter("copies beyond an allocation, and a freed one, are refused by name", (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, 16);
  assertEquals(symbols.cudaMemset(device, 0, 17n), 1);
  assertEquals(symbols.cudaFree(device), 0);
  assertEquals(symbols.cudaMemset(device, 0, 16n), 1);
});

stricter("a memory handle is of an allocation's start, and is opened with the flag that CUDA names", (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, 1024);
  const handle = new Uint8Array(64);
  assertEquals(symbols.cudaIpcGetMemHandle(handle, device + 512n), 1);
  assertEquals(symbols.cudaIpcGetMemHandle(handle, device), 0);
  assertEquals(symbols.cudaIpcOpenMemHandle(new BigUint64Array(1), handle, 0), 1);
  assertEquals(symbols.cudaFree(device), 0);
});
