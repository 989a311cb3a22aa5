import { assert, assertEquals, assertRejects } from "@std/assert";
import { ClosedError, ManagerBusyError, parseLayouts, type RedistribStep } from "../../mod.ts";
import { cpuCallCount, setCpuFaults } from "../../ffi/cpu_extras.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { resources } from "../faults/resources.ts";
import { native } from "../native.ts";

const BATCH = batchOf(["a"], { k: { dtype: "int32", trailingShape: [] } });
const PLAN: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1, 2], ids: ["a"], keys: ["k"] }];

/** Three ranks with a replica group, whose communicator was aborted. */
async function aborted(): Promise<Cluster> {
  const cluster = await Cluster.open(3, parseLayouts("actor=pp1,dp1,tp3 critic=pp1,dp1,tp3"));
  await cluster.all((manager) => manager.setupProcessGroups());
  cluster.managers[0]!.store(BATCH);
  await cluster.settle((manager) => manager.redistribute(BATCH.meta(), PLAN, { timeoutMs: 1, onProgress: stop }));
  return cluster;
}

function stop(): void {
  throw new Error("the caller gave up");
}

Deno.test("redistribute() called while rebuild() is under way comes after it", async () => {
  await using cluster = await aborted();
  const uniqueId = cluster.uniqueId();
  const rebuilt = cluster.all((manager) => manager.rebuild({ uniqueId }));
  // From turn to turn, so that some fall into every part of it.
  const reports = cluster.all(async (manager) => {
    const first = manager.redistribute(BATCH.meta(), PLAN);
    const others = [];
    for (let turn = 0; turn < 20; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      others.push(manager.redistribute(BATCH.meta(), PLAN));
    }
    return await Promise.all([first, ...others]);
  });
  await rebuilt;
  for (const each of await reports) assertEquals(each.length, 21);
  assertEquals(cluster.managers.map(({ ids }) => ids), [["a"], ["a"], ["a"]]);
});

Deno.test("rebuild() called while one is under way is refused", async () => {
  await using cluster = await aborted();
  const uniqueId = cluster.uniqueId();
  const rebuilt = cluster.all((manager) => manager.rebuild({ uniqueId }));
  await assertRejects(() => cluster.managers[0]!.rebuild({ uniqueId }), ManagerBusyError);
  await rebuilt;
});

Deno.test({
  name: "replica groups come back with the first rebuild() that succeeds, after one that failed in making them",
  ignore: native.cpu === null,
  async fn() {
    await using cluster = await aborted();
    const splits = () => cpuCallCount(native.cpu!, "ncclCommSplit")!;
    const uniqueIds = [cluster.uniqueId(), cluster.uniqueId()];
    setCpuFaults(native.cpu!, "ncclCommSplit:1=ncclSystemError");
    const ends = await cluster.settle((manager) => manager.rebuild({ uniqueId: uniqueIds[0]!, timeoutMs: 500 }));
    setCpuFaults(native.cpu!, "");
    assertEquals(ends.map(({ status }) => status), ["rejected", "rejected", "rejected"]);
    const before = splits();
    await cluster.all((manager) => manager.rebuild({ uniqueId: uniqueIds[1]! }));
    assertEquals(splits() - before, 3);
  },
});

Deno.test("a manager that is disposed in the middle of rebuild() ends it soon, and keeps nothing", async () => {
  const before = resources();
  {
    await using cluster = await aborted();
    const [first] = cluster.managers;
    // Without its peers it comes to no end by itself.
    const lone = first!.rebuild({ uniqueId: cluster.uniqueId(), timeoutMs: 60_000 });
    lone.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 30));
    const started = performance.now();
    await first![Symbol.asyncDispose]();
    await assertRejects(() => lone, ClosedError, "disposed");
    assert(performance.now() - started < 5000);
  }
  assertEquals(resources(), before);
});
