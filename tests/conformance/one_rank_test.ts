/**
 * What one rank alone shows of the upper rooms, on the backend that SEQFERRY_TEST_BACKEND names: communicators, managers, transfers, exports.
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ClosedError,
  Communicator,
  CudaError,
  DataManager,
  DeadlineError,
  exportTensor,
  type HostTensor,
  importTensor,
  ManagerBusyError,
  openRuntime,
  parseLayouts,
  type RedistribStep,
  RedistributeRefusedError,
  SampleError,
  type SequenceSample,
} from "../../mod.ts";
import { deviceRuntime } from "../../src/device/runtime.ts";
import { Deadline } from "../../src/wait.ts";
import { batchOf, Cluster, EVERY_DTYPE } from "../cluster.ts";
import { native } from "../native.ts";

const IDS = ["a", "b", "c", "d"];
const batch = batchOf(IDS, EVERY_DTYPE);
const keys = [...batch.keys];

/** One step of each kind, all of them from this rank to itself. */
const PLAN: RedistribStep[] = [
  { commType: "gather", root: 0, srcs: [0], dsts: null, ids: [IDS], keys },
  { commType: "scatter", root: 0, srcs: null, dsts: [0], ids: [IDS], keys },
  { commType: "bcast", root: 0, srcs: [0], dsts: [0], ids: IDS, keys },
  { commType: "exchange", root: null, srcs: [0], dsts: [[0]], ids: [IDS], keys },
];

async function assertHolds(manager: DataManager, expected: SequenceSample): Promise<void> {
  for (const part of expected.unpack()) {
    const found = await manager.get(part.ids[0]!).toHost();
    assertEquals([...found.keys].sort(), [...part.keys].sort());
    for (const key of part.keys) {
      const [ours, theirs] = [found.data![key] as HostTensor, part.data![key] as HostTensor];
      assertEquals([ours.dtype, [...ours.shape]], [theirs.dtype, [...theirs.shape]], key);
      assert(ours.bytes.every((byte, i) => byte === theirs.bytes[i]), `${key} of ${part.ids[0]}`);
    }
  }
}

function storeAll(manager: DataManager): void {
  for (const sample of batch.unpack()) manager.store(sample);
}

Deno.test("one rank stores every dtype on the device and reads it back, bit for bit", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  storeAll(manager);
  await assertHolds(manager, batch);
  const other = batchOf(["a"], EVERY_DTYPE, 9);
  manager.update(other);
  await assertHolds(manager, other);
  const handle = manager.get("b").data![keys[0]!]!;
  manager.remove(["b"]);
  await assertRejects(() => (handle as { toHost(): Promise<unknown> }).toHost(), ClosedError);
  manager.clearData();
  assertEquals(manager.storageSize, 0);
});

Deno.test("one rank runs a step of each kind, verified, and nothing has to move", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  storeAll(manager);
  const report = await manager.redistribute(batch.meta(), PLAN, { verify: true });
  assertEquals([report.bytesSent, report.bytesReceived], [0, 0]);
  await assertHolds(manager, batch);
});

Deno.test("one rank refuses a plan for an id that it has not, and runs the next", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  for (const sample of batch.unpack().slice(1)) manager.store(sample);
  const error = await assertRejects(() => manager.redistribute(batch.meta(), PLAN), RedistributeRefusedError);
  assertEquals(error.refusals.map(({ rank, id }) => [rank, id])[0], [0, "a"]);
  manager.store(batch.unpack()[0]!);
  await manager.redistribute(batch.meta(), PLAN);
  await assertHolds(manager, batch);
});

Deno.test("one rank cannot store during a transfer, and can after it", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  storeAll(manager);
  const moving = manager.redistribute(batch.meta(), PLAN);
  assertThrows(() => manager.remove(["a"]), ManagerBusyError);
  await moving;
  assertThrows(() => manager.store(batch.unpack()[0]!), SampleError);
  manager.remove(["a"]);
});

Deno.test("one rank whose transfer was given up keeps its storage, and moves again when it is rebuilt", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  storeAll(manager);
  const error = await assertRejects(
    () => manager.redistribute(batch.meta(), PLAN, { signal: AbortSignal.abort() }),
    DeadlineError,
  );
  assertEquals(error.outcome, "unchanged");
  await assertHolds(manager, batch);
  await manager.rebuild({ uniqueId: cluster.uniqueId(), timeoutMs: 30_000 });
  await manager.redistribute(batch.meta(), PLAN, { verify: true });
  await assertHolds(manager, batch);
});

Deno.test("one rank sets up the process groups of its layout", async () => {
  await using cluster = await Cluster.open(1, parseLayouts("actor=pp1,dp1,tp1 critic=pp1,dp1,tp1"));
  const manager = cluster.managers[0]!;
  await manager.setupProcessGroups();
  storeAll(manager);
  await manager.redistribute(batch.meta(), PLAN, { verify: true });
});

Deno.test("a communicator of one splits, aborts, and takes no calls any more", async () => {
  await using cluster = await Cluster.bare(1);
  const [communicator] = await cluster.join();
  const soon = () => new Deadline({ timeoutMs: 20_000 });
  const child = await communicator!.split(0, soon());
  assertEquals([child!.rank, child!.worldSize], [0, 1]);
  assertEquals(await communicator!.split(-1, soon()), null);
  communicator!.abort();
  await communicator!.ended();
  await assertRejects(() => communicator!.group("nothing", () => {}, soon()), ClosedError);
  await assertRejects(() => child!.group("nothing", () => {}, soon()), ClosedError);
});

Deno.test("a rank whose peers do not come has a DeadlineError that names them, soon after its deadline", async () => {
  using runtime = await openRuntime({ backend: native.backend });
  const started = performance.now();
  const uniqueId = runtime.createUniqueId();
  const error = await assertRejects(
    () => Communicator.init(runtime, { uniqueId, rank: 1, worldSize: 3, timeoutMs: 500 }),
    DeadlineError,
  );
  assertEquals([error.outstanding, error.outcome], [[0, 2], "unchanged"]);
  assert(performance.now() - started < 5000);
});

Deno.test("a process cannot import what it exports itself, and the tensor stays whole", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  storeAll(manager);
  {
    using exported = exportTensor(manager.get("a").data![keys[0]!]!);
    const error = await assertRejects(() => importTensor(cluster.runtimes[0]!, exported.description), CudaError);
    assertEquals(error.call.startsWith("cudaIpcOpen"), true);
  }
  await assertHolds(manager, batch);
});

Deno.test("one rank's manager gives all its memory back", async () => {
  using runtime = await openRuntime({ backend: native.backend });
  const communicator = await Communicator.init(runtime, { uniqueId: runtime.createUniqueId(), rank: 0, worldSize: 1 });
  {
    await using manager = await DataManager.create({ communicator, rehearse: false });
    storeAll(manager);
    await manager.redistribute(batch.meta(), PLAN);
    assert(deviceRuntime(runtime).liveBytes > 0);
  }
  assertEquals(deviceRuntime(runtime).liveBytes, 0);
});
