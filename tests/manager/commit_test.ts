import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeadlineError, type RedistribStep, RedistributeRefusedError } from "../../mod.ts";
import { Exchange } from "../../src/comm/exchange.ts";
import { WaitEndedError } from "../../src/wait.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { listen } from "../faults/moments.ts";
import { resources } from "../faults/resources.ts";
import { Arena } from "../properties/arena.ts";

const BATCH = batchOf(["a", "b"], { tokens: { dtype: "int64", trailingShape: [] } });
const PLAN: RedistribStep[] = [{
  commType: "bcast",
  root: 0,
  srcs: [0],
  dsts: [1, 2],
  ids: ["a", "b"],
  keys: ["tokens"],
}];

async function open(): Promise<Cluster> {
  const cluster = await Cluster.open(3);
  for (const sample of BATCH.unpack()) cluster.managers[0]!.store(sample);
  return cluster;
}

function sizes(cluster: Cluster): number[] {
  return cluster.managers.map(({ storageSize }) => storageSize);
}

Deno.test("a rank that voted and cannot learn the outcome says so, and all discard at rebuild when none committed", async () => {
  await using cluster = await open();
  const free = cluster.runtimes[0]!.memoryInfo().freeBytes;
  const ends = await cluster.settle((manager, rank) =>
    manager.redistribute(BATCH.meta(), PLAN, {
      timeoutMs: 300,
      onProgress: ({ phase, phases }) => {
        if (rank === 2 && phase === phases - 1) throw new Error("the caller of rank 2 gave up");
      },
    })
  );
  for (const end of ends.slice(0, 2)) {
    assert(end.status === "rejected" && end.reason instanceof DeadlineError, `${JSON.stringify(end)}`);
    assertEquals(end.reason.outcome, "unknown");
    assertEquals(end.reason.outstanding, [2]);
  }
  assert(ends[2]!.status === "rejected" && /gave up/.test(ends[2]!.reason.message));
  assertEquals(sizes(cluster), [2, 0, 0]);
  const uniqueId = cluster.uniqueId();
  await cluster.all((manager) => manager.rebuild({ uniqueId }));
  assertEquals(sizes(cluster), [2, 0, 0]);
  assertEquals(cluster.runtimes[0]!.memoryInfo().freeBytes, free);
  await cluster.all((manager) => manager.redistribute(BATCH.meta(), PLAN));
  assertEquals(sizes(cluster), [2, 2, 2]);
});

Deno.test("a rank that voted and cannot learn the outcome installs at rebuild when another committed", async () => {
  await using cluster = await open();
  const { gather } = Exchange.prototype;
  let inDoubt = true;
  // The first rank that would learn the outcome does not: its deadline passes in that moment.
  Exchange.prototype.gather = async function (what, payload, deadline, enqueued) {
    const words = await gather.call(this, what, payload, deadline, enqueued);
    if (what === "the commit" && inDoubt) {
      inDoubt = false;
      throw new WaitEndedError(what, "deadline", 300);
    }
    return words;
  };
  let ends: PromiseSettledResult<unknown>[];
  try {
    ends = await cluster.settle((manager) => manager.redistribute(BATCH.meta(), PLAN, { timeoutMs: 2000 }));
  } finally {
    Exchange.prototype.gather = gather;
  }
  const rank = ends.findIndex((end) => end.status === "rejected");
  const failed = ends[rank] as PromiseRejectedResult;
  assert(failed.reason instanceof DeadlineError);
  assertEquals(failed.reason.outcome, "unknown");
  assertEquals(ends.filter(({ status }) => status === "fulfilled").length, 2);
  assertEquals(cluster.managers[rank]!.storageSize, rank === 0 ? 2 : 0);
  const uniqueId = cluster.uniqueId();
  await cluster.all((manager) => manager.rebuild({ uniqueId }));
  assertEquals(sizes(cluster), [2, 2, 2]);
  for (const manager of cluster.managers) {
    const { data } = await manager.get("a").toHost();
    assertEquals(data!.tokens, BATCH.unpack()[0]!.data!.tokens);
  }
});

Deno.test("a signal that fires between the last phase and the vote leaves everything unchanged on that rank", async () => {
  await using cluster = await open();
  const controller = new AbortController();
  const ends = await cluster.settle((manager, rank) =>
    manager.redistribute(BATCH.meta(), PLAN, {
      timeoutMs: 300,
      ...(rank === 1 ? { signal: controller.signal } : {}),
      onProgress: ({ phase, phases }) => {
        if (rank === 1 && phase === phases - 1) controller.abort();
      },
    })
  );
  assertEquals(ends.map((end) => end.status === "rejected" && end.reason.outcome), ["unknown", "unchanged", "unknown"]);
  const uniqueId = cluster.uniqueId();
  await cluster.all((manager) => manager.rebuild({ uniqueId }));
  assertEquals(sizes(cluster), [2, 0, 0]);
});

Deno.test("what the device refuses after the commit leaves it committed, and the storage whole", async () => {
  const batch = batchOf(["a", "b"], { tokens: { dtype: "int64", trailingShape: [64] } });
  const meta = batch.meta();
  const only = (id: string): RedistribStep[] => [{ ...PLAN[0]!, ids: [id] } as RedistribStep];
  for (const [call, code] of [["cudaMemcpyAsync", 700], ["cudaFree", 700], ["cudaMalloc", 2]] as const) {
    const before = resources();
    {
      await using arena = await Arena.open(3);
      const [source, victim] = arena.managers;
      for (const sample of batch.unpack()) source!.store(sample);
      await Promise.all(arena.managers.map((manager) => manager.redistribute(meta, PLAN)));
      // "b" comes again, so that what is left of the first slab, "a", is to move to a smaller one.
      listen(arena.runtimes[1]!, (moment) => {
        if (moment === "after the commit") arena.runtimes[1]!.arm(call, { code, times: Infinity });
      });
      await Promise.all(arena.managers.map((manager) => manager.redistribute(meta, only("b"))));
      assert(arena.runtimes[1]!.hasFired(call), `${call} was not called`);
      arena.runtimes[1]!.disarm();
      for (const [i, id] of ["a", "b"].entries()) {
        assertEquals((await victim!.get(id).toHost()).data, batch.unpack()[i]!.data);
      }
      // What cudaFree answered comes out where memory is asked for next, and once.
      const again = () => Promise.all(arena.managers.map((manager) => manager.redistribute(meta, PLAN)));
      if (call === "cudaFree") await assertRejects(again, RedistributeRefusedError, "cudaFree answered");
      await again();
    }
    assertEquals(resources(), before);
  }
});
