import { assert, assertEquals } from "@std/assert";
import { cudaErrorNotReady } from "../../ffi/constants.ts";
import { allocate, conformance, drain, newStream, stricter, use } from "./native_backends.ts";
import type { Backend } from "./native_backends.ts";

function newEvent({ libraries }: Backend, flags: number): bigint {
  const out = new BigUint64Array(1);
  assertEquals(libraries.cudart.symbols.cudaEventCreateWithFlags(out, flags), 0);
  return out[0]!;
}

/** Enough work that a stream is busy for a while. */
const BUSY = 64 << 20;

conformance("a stream is busy, then idle, and its event complete when it got there", async (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, 2 * BUSY);
  const stream = newStream(backend);
  const event = newEvent(backend, 2);
  // One that was never recorded counts as complete.
  assertEquals(symbols.cudaEventQuery(event), 0);
  for (let i = 0; i < 8; i++) {
    assertEquals(symbols.cudaMemcpyAsync(device + BigInt(BUSY), device, BigInt(BUSY), 3, stream), 0);
  }
  assertEquals(symbols.cudaEventRecord(event, stream), 0);
  const codes = new Set([symbols.cudaEventQuery(event)]);
  assertEquals(await drain(backend, stream), 0);
  codes.add(symbols.cudaEventQuery(event));
  assert(codes.has(0));
  assert([...codes].every((code) => code === 0 || code === cudaErrorNotReady), [...codes].join());
  assertEquals([symbols.cudaEventSynchronize(event), symbols.cudaStreamSynchronize(stream)], [0, 0]);
  assertEquals([symbols.cudaEventDestroy(event), symbols.cudaStreamDestroy(stream), symbols.cudaFree(device)], [
    0,
    0,
    0,
  ]);
  symbols.cudaGetLastError();
});

conformance("a stream that waits for an event runs after what the event marks", async (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, BUSY);
  const [first, second] = [newStream(backend), newStream(backend)];
  const event = newEvent(backend, 2);
  for (let i = 0; i < 8; i++) assertEquals(symbols.cudaMemsetAsync(device, i, BigInt(BUSY), first), 0);
  assertEquals(symbols.cudaEventRecord(event, first), 0);
  assertEquals(symbols.cudaStreamWaitEvent(second, event, 0), 0);
  const back = new Uint8Array(4);
  assertEquals(symbols.cudaHostRegister(back, 4n, 0), 0);
  assertEquals(symbols.cudaMemcpyAsyncToHost(back, device + BigInt(BUSY - 4), 4n, 2, second), 0);
  assertEquals(await drain(backend, second), 0);
  assertEquals([...back], [7, 7, 7, 7]);
  assertEquals(symbols.cudaEventQuery(event), 0);
  assertEquals(symbols.cudaHostUnregister(back), 0);
  for (const stream of [first, second]) assertEquals(symbols.cudaStreamDestroy(stream), 0);
  assertEquals([symbols.cudaEventDestroy(event), symbols.cudaFree(device)], [0, 0]);
});

conformance("the time between two events grows with the work between them", async (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const device = allocate(backend, BUSY);
  const stream = newStream(backend);
  const [start, end] = [newEvent(backend, 0), newEvent(backend, 0)];
  assertEquals(symbols.cudaEventRecord(start, stream), 0);
  assertEquals(symbols.cudaMemsetAsync(device, 1, BigInt(BUSY), stream), 0);
  assertEquals(symbols.cudaEventRecord(end, stream), 0);
  assertEquals(await drain(backend, stream), 0);
  const time = new Float32Array(1);
  assertEquals(symbols.cudaEventElapsedTime(time, start, end), 0);
  assert(time[0]! > 0 && time[0]! < 10_000, `${time[0]} ms`);
  for (const event of [start, end]) assertEquals(symbols.cudaEventDestroy(event), 0);
  assertEquals([symbols.cudaStreamDestroy(stream), symbols.cudaFree(device)], [0, 0]);
});

conformance("misuse of events has CUDA's codes", (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const [timed, untimed] = [newEvent(backend, 0), newEvent(backend, 2)];
  const time = new Float32Array(1);
  assertEquals(symbols.cudaEventElapsedTime(time, timed, timed), 400);
  assertEquals(symbols.cudaEventElapsedTime(time, untimed, untimed), 400);
  // An interprocess event keeps no time.
  assertEquals(symbols.cudaEventCreateWithFlags(new BigUint64Array(1), 4), 1);
  assertEquals([symbols.cudaEventDestroy(timed), symbols.cudaEventDestroy(untimed)], [0, 0]);
  symbols.cudaGetLastError();
});

stricter("a handle that was destroyed is known for that", (backend) => {
  const { symbols } = backend.libraries.cudart;
  use(backend);
  const stream = newStream(backend);
  const event = newEvent(backend, 2);
  assertEquals([symbols.cudaStreamDestroy(stream), symbols.cudaEventDestroy(event)], [0, 0]);
  assertEquals([symbols.cudaStreamQuery(stream), symbols.cudaEventQuery(event)], [400, 400]);
  assertEquals([symbols.cudaStreamDestroy(stream), symbols.cudaEventDestroy(event)], [400, 400]);
});
