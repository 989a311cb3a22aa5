import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  CudaError,
  DataManager,
  DeadlineError,
  PeerLostError,
  type RedistribStep,
  RedistributeRefusedError,
  type SequenceSample,
} from "../../mod.ts";
import { setCpuFaults } from "../../ffi/cpu_extras.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { native } from "../native.ts";
import { Arena } from "../properties/arena.ts";
import { resources } from "./resources.ts";

const IDS = Array.from({ length: 40 }, (_, i) => `id-${i}`);
const keys = ["hidden", "reward"];
/** Digests of 80 items are more than one slot of the agreement holds. */
const batch = batchOf(IDS, {
  hidden: { dtype: "float32", trailingShape: [600] },
  reward: { dtype: "float64", trailingShape: [] },
});
const there: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: IDS, keys }];
const back: RedistribStep[] = [{ commType: "bcast", root: 1, srcs: [1], dsts: [0], ids: IDS, keys }];

/** What a rank may raise when a call on its device, or its peer's, is refused. */
function isExpected(error: unknown): boolean {
  return [CudaError, DeadlineError, PeerLostError, RedistributeRefusedError].some((one) => error instanceof one);
}

/** A life of two ranks. Each step must do when it is done again. */
async function live(arena: Arena, timeoutMs: number, mend: () => void): Promise<number> {
  let failures = 0;
  const step = async (run: () => Promise<unknown>, again: () => Promise<unknown> = () => Promise.resolve()) => {
    try {
      await run();
    } catch (error) {
      assert(isExpected(error), `${error instanceof Error ? error.stack : error}`);
      failures++;
      mend();
      await again();
      await run();
    }
  };
  const [first, second] = [0, 1].map((rank) => () => arena.managers[rank]!);
  const move = async (plan: RedistribStep[]) => {
    const ends = await Promise.allSettled(
      arena.managers.map((manager) => manager.redistribute(batch.meta(), plan, { verify: true, timeoutMs })),
    );
    const failed = ends.flatMap((end) => end.status === "rejected" ? [end.reason] : []);
    if (failed.length > 0) throw failed.find((error) => error instanceof CudaError) ?? failed[0];
  };
  const whole = () => arena.rebuild();
  const put = (manager: () => DataManager, sample: SequenceSample) =>
    step(() => Promise.resolve().then(() => manager().store(sample)));
  const parts = batch.unpack();
  for (const sample of parts.slice(0, 30)) await put(first!, sample);
  for (const sample of parts.slice(30)) await put(second!, sample);
  await step(() => Promise.resolve().then(() => second!().remove(parts.slice(30).flatMap(({ ids }) => ids))));
  for (const sample of parts.slice(30)) await put(first!, sample);
  await step(() => move(there), whole);
  await step(() => Promise.resolve().then(() => second!().update(parts[0]!)));
  await step(() => move(back), whole);
  const all = new Map(IDS.map((id) => [id, keys]));
  await step(() => arena.assertHolds(batch, [all, all]));
  return failures;
}

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
    for (let after = 0;; after++) {
      const arena = new Arena(2);
      const victim = arena.runtimes[1]!;
      victim.arm(call, { code, after });
      const joined = await arena.join(400).then(() => true, (error) => {
        assert(isExpected(error), `${error instanceof Error ? error.stack : error}`);
        return false;
      });
      if (!joined) {
        victim.disarm();
        await arena.join();
      }
      await live(arena, 400, () => victim.disarm());
      const met = victim.hasFired(call);
      victim.disarm();
      await arena[Symbol.asyncDispose]();
      if (!met) break;
      assert(after < 200, "it never ends");
    }
    assertEquals(resources(), before);
  });
}

Deno.test("reasons to refuse that take more room than is reserved are told on a device that is full, too", async () => {
  await using cluster = await Cluster.open(3);
  const [first] = cluster.managers;
  for (const sample of batch.unpack()) first!.store(sample);
  const plan: RedistribStep[] = [{ commType: "bcast", root: 1, srcs: [1], dsts: [0, 2], ids: IDS, keys }];
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
