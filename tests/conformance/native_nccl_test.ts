import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { NCCL_SHRINK_DEFAULT, ncclInProgress, ncclInvalidArgument, ncclInvalidUsage } from "../../ffi/constants.ts";
import { encodeNcclConfig, ncclConfigOffsets } from "../../ffi/structs.ts";
import {
  allocate,
  type Backend,
  conformance,
  drain,
  outcome,
  pattern,
  Ranks,
  read,
  stricter,
  use,
  write,
} from "./native_backends.ts";

const SIZE = 10_000;
const UINT8 = 1;
const INT32 = 2;
const SUM = 0;

conformance("a communicator of one answers what it is, and ends in order", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend);
  const comm = ranks.comms[0]!;
  const number = new Int32Array(1);
  const answers = [symbols.ncclCommCount, symbols.ncclCommUserRank, symbols.ncclCommCuDevice].map((call) => {
    assertEquals(call(comm, number), 0);
    return number[0];
  });
  assertEquals(answers, [1, 0, backend.devices[0]!]);
  assertEquals(await outcome(backend, symbols.ncclCommFinalize(comm), comm), 0);
  ranks.comms.pop();
  assertEquals(await symbols.ncclCommDestroy(comm), 0);
});

conformance("a rank sends to itself in one group, several messages in their order", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend);
  const [comm, stream] = [ranks.comms[0]!, ranks.streams[0]!];
  use(backend);
  const device = allocate(backend, 4 * SIZE);
  const bytes = pattern(2 * SIZE, 5);
  write(backend, device, bytes);
  const to = device + BigInt(2 * SIZE);
  assertEquals(symbols.ncclGroupStart(), 0);
  for (const part of [0n, 1n]) {
    const offset = part * BigInt(SIZE);
    assertEquals(symbols.ncclSend(device + offset, BigInt(SIZE), UINT8, 0, comm, stream), 0);
    assertEquals(symbols.ncclRecv(to + offset, BigInt(SIZE), UINT8, 0, comm, stream), 0);
  }
  // Nothing of no bytes hurts.
  assertEquals(symbols.ncclSend(device, 0n, UINT8, 0, comm, stream), 0);
  assertEquals(symbols.ncclRecv(to, 0n, UINT8, 0, comm, stream), 0);
  assertEquals(await outcome(backend, symbols.ncclGroupEnd(), comm), 0);
  await ranks.finish();
  assertEquals(read(backend, to, 2 * SIZE), bytes);
  assertEquals(backend.libraries.cudart.symbols.cudaFree(device), 0);
});

/** Every collective of one rank is a copy, whatever the root and the reduction. */
conformance("all collectives of one rank copy", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend);
  const [comm, stream] = [ranks.comms[0]!, ranks.streams[0]!];
  use(backend);
  const device = allocate(backend, 2 * SIZE);
  const to = device + BigInt(SIZE);
  const count = BigInt(SIZE / 4);
  const calls: Record<string, (() => number) | null> = {
    broadcast: () => symbols.ncclBroadcast(device, to, count, INT32, 0, comm, stream),
    allReduce: () => symbols.ncclAllReduce(device, to, count, INT32, SUM, comm, stream),
    allGather: () => symbols.ncclAllGather(device, to, count, INT32, comm, stream),
    reduce: () => symbols.ncclReduce(device, to, count, INT32, SUM, 0, comm, stream),
    reduceScatter: () => symbols.ncclReduceScatter(device, to, count, INT32, SUM, comm, stream),
    gather: symbols.ncclGather && (() => symbols.ncclGather!(device, to, count, INT32, 0, comm, stream)),
    scatter: symbols.ncclScatter && (() => symbols.ncclScatter!(device, to, count, INT32, 0, comm, stream)),
    allToAll: symbols.ncclAlltoAll && (() => symbols.ncclAlltoAll!(device, to, count, INT32, comm, stream)),
  };
  for (const [i, [name, call]] of Object.entries(calls).entries()) {
    if (call === null) continue;
    const bytes = pattern(SIZE, i);
    write(backend, device, bytes);
    assertEquals(await outcome(backend, call(), comm), 0, name);
    await ranks.finish();
    assertEquals(read(backend, to, SIZE), bytes, name);
  }
  assertEquals(backend.libraries.cudart.symbols.cudaFree(device), 0);
});

conformance("a split leaves out whoever has no color", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend);
  const comm = ranks.comms[0]!;
  use(backend);
  const child = new BigUint64Array([7n]);
  assertEquals(await outcome(backend, symbols.ncclCommSplit(comm, 3, 0, child, null), comm), 0);
  const handle = child[0]!;
  assertNotEquals(handle, 0n);
  assertEquals(await outcome(backend, 0, handle), 0);
  const number = new Int32Array(1);
  assertEquals([symbols.ncclCommCount(handle, number), number[0]], [0, 1]);
  assertEquals(await symbols.ncclCommAbort(handle), 0);
  assertEquals(await outcome(backend, symbols.ncclCommSplit(comm, -1, 0, child, null), comm), 0);
  assertEquals(child[0], 0n);
});

conformance("a communicator meets through several unique ids, where the release can", async (backend) => {
  const { ncclCommInitRankScalable, ncclGetUniqueId, ncclCommCount } = backend.libraries.nccl.symbols;
  if (ncclCommInitRankScalable === null) return;
  use(backend);
  const id = new Uint8Array(128);
  assertEquals(ncclGetUniqueId(id), 0);
  const out = new BigUint64Array(1);
  const config = encodeNcclConfig({ version: backend.libraries.nccl.version, blocking: false });
  const comm = () => out[0]!;
  assertEquals(await outcome(backend, ncclCommInitRankScalable(out, 1, 0, 1, id, config), comm()), 0);
  const number = new Int32Array(1);
  assertEquals([ncclCommCount(comm(), number), number[0]], [0, 1]);
  assertEquals(await backend.libraries.nccl.symbols.ncclCommAbort(comm()), 0);
});

conformance("a shrink goes on without the ranks that it is told", async (backend) => {
  const { ncclCommShrink, ncclCommCount, ncclCommUserRank, ncclCommAbort } = backend.libraries.nccl.symbols;
  if (ncclCommShrink === null) return;
  await using ranks = await Ranks.open(backend, 2);
  use(backend, 1);
  const [parent, child] = [ranks.comms[1]!, new BigUint64Array(1)];
  const code = ncclCommShrink(parent, new Int32Array([0]), 1, child, null, NCCL_SHRINK_DEFAULT);
  assertEquals(await outcome(backend, code, parent), 0);
  assertNotEquals(child[0], 0n);
  assertEquals(await outcome(backend, 0, child[0]!), 0);
  const number = new Int32Array(1);
  const answers = [ncclCommCount, ncclCommUserRank].map((call) => [call(child[0]!, number), number[0]]);
  assertEquals(answers, [[0, 1], [0, 0]]);
  assertEquals(await ncclCommAbort(child[0]!), 0);
}, 2);

conformance("memory is allocated, registered and given back", async (backend) => {
  const { ncclMemAlloc, ncclMemFree, ncclCommRegister, ncclCommDeregister } = backend.libraries.nccl.symbols;
  if (ncclMemAlloc === null || ncclMemFree === null || ncclCommRegister === null || ncclCommDeregister === null) return;
  await using ranks = await Ranks.open(backend);
  use(backend);
  const [memory, registration] = [new BigUint64Array(1), new BigUint64Array(1)];
  assertEquals(ncclMemAlloc(memory, BigInt(SIZE)), 0);
  const bytes = pattern(SIZE, 4);
  write(backend, memory[0]!, bytes);
  assertEquals(read(backend, memory[0]!, SIZE), bytes);
  assertEquals(ncclCommRegister(ranks.comms[0]!, memory[0]!, BigInt(SIZE), registration), 0);
  assertEquals(ncclCommDeregister(ranks.comms[0]!, registration[0]!), 0);
  assertEquals(ncclMemFree(memory[0]!), 0);
});

/** A config with one int changed. */
function configWith(
  { libraries }: Backend,
  field: keyof typeof ncclConfigOffsets,
  value: number,
): Uint8Array<ArrayBuffer> {
  const config = encodeNcclConfig({ version: libraries.nccl.version, blocking: false });
  new DataView(config.buffer).setInt32(ncclConfigOffsets[field], value, true);
  return config;
}

conformance("a communicator is refused for a config, a rank or a size that cannot be", (backend) => {
  const { symbols, version } = backend.libraries.nccl;
  use(backend);
  const id = new Uint8Array(128);
  assertEquals(symbols.ncclGetUniqueId(id), 0);
  const init = (count: number, rank: number, config: Uint8Array<ArrayBuffer>) =>
    symbols.ncclCommInitRankConfig(new BigUint64Array(1), count, id, rank, config);
  const good = encodeNcclConfig({ version, blocking: false });
  const codes = {
    magic: init(1, 0, configWith(backend, "magic", 0)),
    blocking: init(1, 0, configWith(backend, "blocking", 2)),
    minCTAs: init(1, 0, configWith(backend, "minCTAs", 2)),
    maxCTAs: init(1, 0, configWith(backend, "maxCTAs", 0)),
    splitShare: init(1, 0, configWith(backend, "splitShare", 2)),
    cgaClusterSize: init(1, 0, configWith(backend, "cgaClusterSize", -3)),
    noRanks: init(0, 0, good),
    rankBeyond: init(1, 1, good),
    rankBelow: init(1, -1, good),
  };
  for (const [what, code] of Object.entries(codes)) assertEquals(code, ncclInvalidArgument, what);
});

conformance("misuse of operations has NCCL's codes", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  use(backend);
  const device = allocate(backend, SIZE);
  const attempts: Record<string, [code: number, call: (comm: bigint, stream: bigint) => number]> = {
    peerBeyond: [ncclInvalidArgument, (comm, stream) => symbols.ncclSend(device, 4n, UINT8, 1, comm, stream)],
    peerBelow: [ncclInvalidArgument, (comm, stream) => symbols.ncclRecv(device, 4n, UINT8, -1, comm, stream)],
    rootBeyond: [
      ncclInvalidArgument,
      (comm, stream) => symbols.ncclBroadcast(device, device, 4n, UINT8, 1, comm, stream),
    ],
    type: [ncclInvalidArgument, (comm, stream) => symbols.ncclAllGather(device, device, 4n, 99, comm, stream)],
    reduction: [
      ncclInvalidArgument,
      (comm, stream) => symbols.ncclAllReduce(device, device, 4n, INT32, -1, comm, stream),
    ],
    noCommunicator: [ncclInvalidArgument, (_, stream) => symbols.ncclSend(device, 4n, UINT8, 0, 0n, stream)],
    sendToSelfAlone: [ncclInvalidUsage, (comm, stream) => symbols.ncclSend(device, 4n, UINT8, 0, comm, stream)],
    receiveFromSelfAlone: [ncclInvalidUsage, (comm, stream) => symbols.ncclRecv(device, 4n, UINT8, 0, comm, stream)],
  };
  for (const [what, [expected, call]] of Object.entries(attempts)) {
    // A fresh communicator for each: a failure may be its end.
    await using ranks = await Ranks.open(backend);
    use(backend);
    assertEquals(await outcome(backend, call(ranks.comms[0]!, ranks.streams[0]!), ranks.comms[0]!), expected, what);
  }
  assertEquals(symbols.ncclGroupEnd(), ncclInvalidUsage);
  assertEquals([symbols.ncclGroupStart(), symbols.ncclGroupStart(), symbols.ncclGroupEnd(), symbols.ncclGroupEnd()], [
    0,
    0,
    0,
    0,
  ]);
  assertEquals([await symbols.ncclCommAbort(0n), await symbols.ncclCommDestroy(0n), symbols.ncclCommFinalize(0n)], [
    0,
    0,
    0,
  ]);
  use(backend);
  assertEquals(backend.libraries.cudart.symbols.cudaFree(device), 0);
});

conformance("two ranks exchange what differs in size, and broadcast and sum", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend, 2);
  const devices = [0, 1].map((rank) => {
    use(backend, rank);
    const device = allocate(backend, 3 * SIZE);
    write(backend, device, pattern(SIZE, rank));
    return device;
  });
  assertEquals(symbols.ncclGroupStart(), 0);
  for (const rank of [0, 1]) {
    const [comm, stream, device] = [ranks.comms[rank]!, ranks.streams[rank]!, devices[rank]!];
    use(backend, rank);
    assertEquals(symbols.ncclSend(device, BigInt(SIZE - rank), UINT8, 1 - rank, comm, stream), 0);
    assertEquals(symbols.ncclRecv(device + BigInt(SIZE), BigInt(SIZE - 1 + rank), UINT8, 1 - rank, comm, stream), 0);
  }
  assert([0, ncclInProgress].includes(symbols.ncclGroupEnd()));
  await ranks.finish();
  for (const rank of [0, 1]) {
    use(backend, rank);
    const length = SIZE - 1 + rank;
    assertEquals(read(backend, devices[rank]! + BigInt(SIZE), length), pattern(SIZE, 1 - rank).subarray(0, length));
  }
  for (const call of ["broadcast", "allReduce"]) {
    assertEquals(symbols.ncclGroupStart(), 0);
    for (const rank of [0, 1]) {
      const [comm, stream, device] = [ranks.comms[rank]!, ranks.streams[rank]!, devices[rank]!];
      const to = device + BigInt(2 * SIZE);
      use(backend, rank);
      const code = call === "broadcast"
        ? symbols.ncclBroadcast(device, to, BigInt(SIZE), UINT8, 1, comm, stream)
        : symbols.ncclAllReduce(device, to, BigInt(SIZE), UINT8, SUM, comm, stream);
      assertEquals(code, 0);
    }
    assert([0, ncclInProgress].includes(symbols.ncclGroupEnd()));
    await ranks.finish();
    const [one, other] = [pattern(SIZE, 0), pattern(SIZE, 1)];
    const expected = call === "broadcast" ? other : one.map((byte, i) => byte + other[i]!);
    for (const rank of [0, 1]) {
      use(backend, rank);
      assertEquals(read(backend, devices[rank]! + BigInt(2 * SIZE), SIZE), expected);
    }
  }
  for (const rank of [0, 1]) {
    use(backend, rank);
    assertEquals(backend.libraries.cudart.symbols.cudaFree(devices[rank]!), 0);
  }
}, 2);

conformance("an abort ends what waits for a peer, and the stream goes on", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend, 2);
  const devices = [0, 1].map((rank) => {
    use(backend, rank);
    return allocate(backend, SIZE);
  });
  // The first message of a pair connects the two, for which NCCL waits before the group is enqueued.
  assertEquals(symbols.ncclGroupStart(), 0);
  for (const rank of [0, 1]) {
    const [comm, stream, device] = [ranks.comms[rank]!, ranks.streams[rank]!, devices[rank]!];
    use(backend, rank);
    const send = rank === 0 ? symbols.ncclRecv : symbols.ncclSend;
    assertEquals(send(device, BigInt(SIZE), UINT8, 1 - rank, comm, stream), 0);
  }
  assert([0, ncclInProgress].includes(symbols.ncclGroupEnd()));
  await ranks.finish();
  use(backend);
  const code = symbols.ncclRecv(devices[0]!, BigInt(SIZE), UINT8, 1, ranks.comms[0]!, ranks.streams[0]!);
  assertEquals(await outcome(backend, code, ranks.comms[0]!), 0);
  const started = performance.now();
  const aborts = ranks.comms.splice(0).map((comm) => symbols.ncclCommAbort(comm));
  assertEquals(await Promise.all(aborts), [0, 0]);
  assertEquals(await drain(backend, ranks.streams[0]!), 0);
  assert(performance.now() - started < 5000);
  for (const rank of [0, 1]) {
    use(backend, rank);
    assertEquals(backend.libraries.cudart.symbols.cudaFree(devices[rank]!), 0);
  }
}, 2);

stricter("counts that do not match fail on both ranks", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend, 2);
  use(backend);
  const device = allocate(backend, SIZE);
  use(backend, 1);
  const other = allocate(backend, SIZE);
  const sent = symbols.ncclSend(device, 10n, UINT8, 1, ranks.comms[0]!, ranks.streams[0]!);
  assertEquals(sent, ncclInProgress);
  assertEquals(symbols.ncclRecv(other, 11n, UINT8, 0, ranks.comms[1]!, ranks.streams[1]!), ncclInProgress);
  const state = new Int32Array(1);
  for (const rank of [0, 1]) {
    for (let tries = 0; tries < 1000 && (state[0] === 0 || state[0] === ncclInProgress); tries++) {
      backend.libraries.cudart.symbols.cudaStreamQuery(ranks.streams[rank]!);
      assertEquals(symbols.ncclCommGetAsyncError(ranks.comms[rank]!, state), 0);
    }
    assertEquals(state[0], ncclInvalidUsage);
    state[0] = 0;
  }
  await Promise.all(ranks.comms.splice(0).map((comm) => symbols.ncclCommAbort(comm)));
  for (const address of [device, other]) assertEquals(backend.libraries.cudart.symbols.cudaFree(address), 0);
});

stricter("collectives that are not the same on all ranks fail on both", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend, 2);
  const devices = [0, 1].map((rank) => {
    use(backend, rank);
    return allocate(backend, 2 * SIZE);
  });
  const [comms, streams] = [[...ranks.comms], ranks.streams];
  use(backend);
  let code = symbols.ncclAllGather(devices[0]!, devices[0]!, 8n, UINT8, comms[0]!, streams[0]!);
  assertEquals(code, ncclInProgress);
  use(backend, 1);
  code = symbols.ncclBroadcast(devices[1]!, devices[1]!, 8n, UINT8, 0, comms[1]!, streams[1]!);
  assertEquals(code, ncclInProgress);
  const state = new Int32Array(1);
  for (const rank of [0, 1]) {
    for (let tries = 0; tries < 1000 && (state[0] === 0 || state[0] === ncclInProgress); tries++) {
      backend.libraries.cudart.symbols.cudaStreamQuery(streams[rank]!);
      assertEquals(symbols.ncclCommGetAsyncError(comms[rank]!, state), 0);
    }
    assertEquals(state[0], ncclInvalidUsage);
    state[0] = 0;
  }
  await Promise.all(ranks.comms.splice(0).map((comm) => symbols.ncclCommAbort(comm)));
  for (const address of devices) assertEquals(backend.libraries.cudart.symbols.cudaFree(address), 0);
});

stricter("nothing goes on a stream, or a communicator, whose group is still being enqueued", async (backend) => {
  const { nccl, cudart } = backend.libraries;
  await using ranks = await Ranks.open(backend);
  use(backend);
  const device = allocate(backend, SIZE);
  const [comm, stream] = [ranks.comms[0]!, ranks.streams[0]!];
  const gather = () => nccl.symbols.ncclAllGather(device, device, 8n, UINT8, comm, stream);
  assertEquals(gather(), ncclInProgress);
  assertEquals(gather(), ncclInvalidUsage);
  assertEquals(cudart.symbols.cudaMemsetAsync(device, 1, 8n, stream), 800);
  assertEquals(await outcome(backend, 0, comm), 0);
  assertEquals(cudart.symbols.cudaMemsetAsync(device, 1, 8n, stream), 0);
  await ranks.finish();
  assertEquals(cudart.symbols.cudaFree(device), 0);
  cudart.symbols.cudaGetLastError();
});

stricter("a group that is left open is known at the next call that waits", async (backend) => {
  const { nccl, cudart } = backend.libraries;
  await using ranks = await Ranks.open(backend);
  use(backend);
  assertEquals(nccl.symbols.ncclGroupStart(), 0);
  assertEquals(cudart.symbols.cudaStreamSynchronize(ranks.streams[0]!), 800);
  assertEquals(nccl.symbols.ncclCommFinalize(ranks.comms[0]!), ncclInvalidUsage);
  assertEquals(nccl.symbols.ncclGroupEnd(), 0);
  assertEquals(cudart.symbols.cudaStreamSynchronize(ranks.streams[0]!), 0);
  cudart.symbols.cudaGetLastError();
});

stricter("addresses that are not on the device are refused when they are given", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  await using ranks = await Ranks.open(backend);
  use(backend);
  const [comm, stream] = [ranks.comms[0]!, ranks.streams[0]!];
  for (const address of [0n, 0x1000n]) {
    assertEquals(symbols.ncclAllGather(address, address, 4n, UINT8, comm, stream), ncclInvalidArgument);
  }
});

stricter("a color below none is refused", async (backend) => {
  await using ranks = await Ranks.open(backend);
  const child = new BigUint64Array(1);
  assertEquals(backend.libraries.nccl.symbols.ncclCommSplit(ranks.comms[0]!, -2, 0, child, null), ncclInvalidArgument);
});

stricter("calls on an aborted communicator, and shrinking none, are refused", async (backend) => {
  const { symbols } = backend.libraries.nccl;
  const ranks = await Ranks.open(backend);
  const comm = ranks.comms[0]!;
  await ranks[Symbol.asyncDispose]();
  assertEquals(symbols.ncclCommGetAsyncError(comm, new Int32Array(1)), ncclInvalidUsage);
  assertEquals(await symbols.ncclCommAbort(comm), ncclInvalidUsage);
  assertEquals(symbols.ncclCommShrink?.(0n, new Int32Array(1), 1, new BigUint64Array(1), null, 0), ncclInvalidArgument);
});

stricter("waiting for the device under an outstanding group is refused", async (backend) => {
  const { nccl, cudart } = backend.libraries;
  await using ranks = await Ranks.open(backend, 2);
  use(backend);
  const device = allocate(backend, SIZE);
  const code = nccl.symbols.ncclRecv(device, 8n, UINT8, 1, ranks.comms[0]!, ranks.streams[0]!);
  assertEquals(await outcome(backend, code, ranks.comms[0]!), 0);
  assertEquals(cudart.symbols.cudaFree(device), 800);
  assertEquals(cudart.symbols.cudaDeviceSynchronize(), 800);
  await Promise.all(ranks.comms.splice(0).map((comm) => nccl.symbols.ncclCommAbort(comm)));
  assertEquals(cudart.symbols.cudaFree(device), 0);
});
