import { assert, assertEquals, assertThrows } from "@std/assert";
import { CudaError, type RedistribStep, RedistributeRefusedError } from "../../mod.ts";
import { setCpuFaults } from "../../ffi/cpu_extras.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { native } from "../native.ts";
import { batch, IDS, liveWithFault, there } from "./life.ts";
import { resources } from "./resources.ts";

for (
  const [call, code] of [
    ["cudaMalloc", 2],
    ["cudaHostRegister", 2],
    ["cudaEventCreateWithFlags", 2],
    ["cudaStreamCreateWithFlags", 2],
  ] as const
) {
  Deno.test(`whichever ${call} of a rank answers that there is no memory, nothing is lost and all can be done again`, async () => {
    const before = resources();
    let after = 0;
    while (await liveWithFault(call, code, after++)) assert(after < 200, "it never ends");
    assertEquals(resources(), before);
  });
}

Deno.test("reasons to refuse that take more room than is reserved are told on a device that is full, too", async () => {
  await using cluster = await Cluster.open(3);
  const [first] = cluster.managers;
  for (const sample of batch.unpack()) first!.store(sample);
  const plan: RedistribStep[] = [{
    commType: "bcast",
    root: 1,
    srcs: [1],
    dsts: [0, 2],
    ids: IDS,
    keys: [...batch.keys],
  }];
  setCpuFaults(native.cpu!, "memory:0B=2");
  try {
    const started = performance.now();
    for (const end of await cluster.settle((manager) => manager.redistribute(batch.meta(), plan))) {
      assert(end.status === "rejected" && end.reason instanceof RedistributeRefusedError, `${JSON.stringify(end)}`);
      const { refusals } = end.reason;
      assertEquals(refusals.filter(({ rank }) => rank === 1).length, 80);
      for (const rank of [0, 2]) {
        assert(
          refusals.some((refusal) => refusal.rank === rank && refusal.reason.includes("not enough device memory")),
        );
      }
    }
    assert(performance.now() - started < 5000);
  } finally {
    setCpuFaults(native.cpu!, "");
  }
  await cluster.all((manager) => manager.redistribute(batch.meta(), there));
  assertEquals(cluster.managers[1]!.storageSize, IDS.length);
});

Deno.test("store() takes a small sample as long as the device has room for the sample itself", async () => {
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  const parts = batchOf(["a", "b", "c"], { k: { dtype: "uint8", trailingShape: [64] } }).unpack();
  setCpuFaults(native.cpu!, "memory:8192B=2");
  try {
    manager.store(parts[0]!);
    assertEquals((await manager.get("a").toHost()).data, parts[0]!.data);
    const large = batchOf(["big"], { k: { dtype: "uint8", trailingShape: [100_000] } }, 1);
    const error = assertThrows(() => manager.store(large), CudaError);
    assertEquals(error.codeName, "cudaErrorMemoryAllocation");
    assertEquals(manager.ids, ["a"]);
  } finally {
    setCpuFaults(native.cpu!, "");
  }
  manager.store(parts[1]!);
  assertEquals(manager.ids, ["a", "b"]);
});
