import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { capabilities } from "../../ffi/capabilities.ts";
import { cudaErrorInvalidValue, cudaErrorNotReady, ncclInvalidArgument } from "../../ffi/constants.ts";
import { cudaMemcpyKind, cudaStreamFlags, NCCL_UNIQUE_ID_BYTES, ncclInProgress } from "../../ffi/constants.ts";
import { cpuCallCount, readCpuAccounts } from "../../ffi/cpu_extras.ts";
import { openLibraries } from "../../ffi/open.ts";
import { cudaError, ncclError } from "../../ffi/status.ts";
import { encodeNcclConfig } from "../../ffi/structs.ts";
import { Deadline, pollUntil } from "../../src/wait.ts";
import { native } from "../native.ts";

const cudart = native.cudart.symbols;
const nccl = native.nccl.symbols;
const cpu = native.cpu;
assert(cpu !== null);

Deno.test("openLibraries() answers what is open already", async () => {
  assertEquals(await openLibraries({ backend: "cpu" }), native);
});

Deno.test("the stand-in has every symbol that is not optional, and those that its versions promise", () => {
  assertEquals([native.backend, native.cudart.path], ["cpu", native.nccl.path]);
  const { memcpyBatch13, initRankScalable } = capabilities(native.nccl.version, native.cudart.version);
  assertEquals([memcpyBatch13, cudart.cudaMemcpyBatchAsync !== null], [true, true]);
  assertEquals([initRankScalable, nccl.ncclCommInitRankScalable !== null], [true, true]);
});

Deno.test("the tables carry host bytes to the device and back, whole", async () => {
  const before = readCpuAccounts(cpu);
  const size = 1000n;
  const sent = crypto.getRandomValues(new Uint8Array(Number(size)));
  const received = new Uint8Array(Number(size));
  const [address, stream] = [new BigUint64Array(1), new BigUint64Array(1)];
  assertEquals(cudart.cudaSetDevice(0), 0);
  assertEquals(cudart.cudaStreamCreateWithFlags(stream, cudaStreamFlags.nonBlocking), 0);
  assertEquals(cudart.cudaMalloc(address, size), 0);
  const [device, queue] = [address[0] ?? 0n, stream[0] ?? 0n];
  assertNotEquals(device, 0n);
  // Pinned, so that the copies are asynchronous.
  assertEquals([cudart.cudaHostRegister(sent, size, 0), cudart.cudaHostRegister(received, size, 0)], [0, 0]);
  assertEquals(cudart.cudaMemcpyAsyncFromHost(device, sent, size, cudaMemcpyKind.hostToDevice, queue), 0);
  assertEquals(cudart.cudaMemcpyAsyncToHost(received, device, size, cudaMemcpyKind.deviceToHost, queue), 0);
  await pollUntil(
    "the stream",
    () => cudart.cudaStreamQuery(queue) !== cudaErrorNotReady,
    new Deadline({ timeoutMs: 5000 }),
  );
  assertEquals(cudart.cudaStreamQuery(queue), 0);
  assertEquals(received, sent);
  // A view's offset counts.
  received.fill(0);
  assertEquals(cudart.cudaMemcpyToHost(received.subarray(10), device, 20n, cudaMemcpyKind.deviceToHost), 0);
  assertEquals(received.subarray(10, 30), sent.subarray(0, 20));
  assertEquals(received.indexOf(0), 0);
  assertEquals([cudart.cudaHostUnregister(sent), cudart.cudaHostUnregister(received)], [0, 0]);
  assertEquals([cudart.cudaFree(device), cudart.cudaStreamDestroy(queue)], [0, 0]);
  const after = readCpuAccounts(cpu);
  assertEquals([after.liveBytes, after.liveStreams, after.pinnedBytes], [
    before.liveBytes,
    before.liveStreams,
    before.pinnedBytes,
  ]);
});

Deno.test("a communicator of one comes up by the id's value and the config's bytes, and goes", async () => {
  assertEquals(cudart.cudaSetDevice(0), 0);
  const id = new Uint8Array(NCCL_UNIQUE_ID_BYTES);
  assertEquals(nccl.ncclGetUniqueId(id), 0);
  const config = encodeNcclConfig({ version: native.nccl.version, blocking: false });
  const comm = new BigUint64Array(1);
  assert([0, ncclInProgress].includes(nccl.ncclCommInitRankConfig(comm, 1, id, 0, config)));
  const handle = comm[0] ?? 0n;
  const state = new Int32Array(1);
  const settled = () => nccl.ncclCommGetAsyncError(handle, state) !== 0 || state[0] !== ncclInProgress;
  await pollUntil("the communicator", settled, new Deadline({ timeoutMs: 5000 }));
  assertEquals(state[0], 0);
  const [count, rank, device] = [new Int32Array(1), new Int32Array(1), new Int32Array(1)];
  assertEquals(nccl.ncclCommCount(handle, count), 0);
  assertEquals(nccl.ncclCommUserRank(handle, rank), 0);
  assertEquals(nccl.ncclCommCuDevice(handle, device), 0);
  assertEquals([count[0], rank[0], device[0]], [1, 0, 0]);
  assertEquals(await nccl.ncclCommAbort(handle), 0);
});

Deno.test("a refusal by the stand-in becomes an error with its sentence", () => {
  assertEquals(cudart.cudaSetDevice(0), 0);
  const freed = cudart.cudaFree(0x1234_5000n);
  assertEquals(freed, cudaErrorInvalidValue);
  const error = cudaError(native, "cudaFree", freed);
  assertEquals([error.call, error.codeName], ["cudaFree", "cudaErrorInvalidValue"]);
  assertStringIncludes(error.message, "out of its range; ");

  const config = encodeNcclConfig({ version: native.nccl.version, blocking: false });
  config[8] = 0;
  const id = new Uint8Array(NCCL_UNIQUE_ID_BYTES);
  assertEquals(nccl.ncclGetUniqueId(id), 0);
  const refused = nccl.ncclCommInitRankConfig(new BigUint64Array(1), 1, id, 0, config);
  assertEquals(refused, ncclInvalidArgument);
  assertNotEquals(ncclError(native, "ncclCommInitRankConfig", refused).lastError, "");
});

Deno.test("the stand-in counts calls by their C name", () => {
  const before = cpuCallCount(cpu, "cudaGetDeviceCount") ?? 0;
  cudart.cudaGetDeviceCount(new Int32Array(1));
  assertEquals(cpuCallCount(cpu, "cudaGetDeviceCount"), before + 1);
  assertEquals(cpuCallCount(cpu, "cudaNoSuchCall"), undefined);
});
