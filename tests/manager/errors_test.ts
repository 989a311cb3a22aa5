import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import {
  type ClusterLayout,
  DataManager,
  DeadlineError,
  LayoutError,
  parseLayouts,
  type RedistribStep,
  SampleError,
  SeqferryError,
  SequenceSample,
} from "../../mod.ts";
import { batchOf, Cluster } from "../cluster.ts";

const batch = batchOf(["a"], { k: { dtype: "int64", trailingShape: [] } });
const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] }];

Deno.test("every error of a transfer, a set-up or a rebuild carries the flight record of its rank", async () => {
  await using cluster = await Cluster.open(2, parseLayouts("a=pp1,dp2,tp1 b=pp1,dp1,tp2"));
  const [first] = cluster.managers;
  first!.store(batch);
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  const errorOf = async (run: () => Promise<unknown>): Promise<SeqferryError> => {
    const error = await run().then(() => null, (error) => error);
    assert(error instanceof SeqferryError, `${error}`);
    return error;
  };
  const lone = { timeoutMs: 100 };
  const errors = {
    "refused": await cluster.settle((manager) =>
      manager.redistribute(batch.meta(), [{ ...plan[0]!, ids: ["z"] } as never])
    )
      .then(([end]) => (end as PromiseRejectedResult).reason),
    "not begun": await errorOf(() => first!.redistribute(batch.meta(), plan, { signal: AbortSignal.abort() })),
    "deadline": await errorOf(() => first!.redistribute(batch.meta(), plan, lone)),
    "aborted before": await errorOf(() => first!.redistribute(batch.meta(), plan)),
    "rebuild": await errorOf(() => first!.rebuild({ uniqueId: cluster.uniqueId(), ...lone })),
    "set-up": await (async () => {
      const uniqueId = cluster.uniqueId();
      await cluster.all((manager) => manager.rebuild({ uniqueId }));
      return await errorOf(() => first!.setupProcessGroups(lone));
    })(),
  };
  for (const [what, error] of Object.entries(errors)) {
    assert((error as SeqferryError).flight!.length > 0, what);
    const last = (error as SeqferryError).flight!.at(-1)!;
    assert(last.transfer >= 1 && last.at > 1e12, what);
  }
  assertEquals(errors["deadline"].flight!.at(-1)!.event, "failed");
});

Deno.test("store() and update() refuse a tensor that is not as large as its sample says, and keep nothing of it", async () => {
  await using cluster = await Cluster.open(1);
  const [manager] = cluster.managers;
  const of = (id: string, bytes: Uint8Array) =>
    new SequenceSample({
      ids: [id],
      keys: ["other", "k"],
      dtypes: { other: "uint8", k: "uint8" },
      trailingShapes: { other: [], k: [] },
      seqlens: { other: [[1]], k: [[bytes.length]] },
      data: {
        other: { dtype: "uint8", shape: [1], bytes: Uint8Array.of(1) },
        k: { dtype: "uint8", shape: [bytes.length], bytes },
      },
    });
  const given = new Uint8Array(16);
  const detached = of("a", given);
  structuredClone(given.buffer, { transfer: [given.buffer] });
  const error = assertThrows(() => manager!.store(detached), SampleError);
  assertEquals([error.field, error.value], ["data.k.bytes", 0]);
  assertEquals(error.message, "data.k has 0 bytes; uint8 of shape [16] takes 16");
  const buffer = new ArrayBuffer(16, { maxByteLength: 32 });
  const resized = of("a", new Uint8Array(buffer));
  buffer.resize(4);
  // The pool keeps a slab for what comes next.
  const free = cluster.runtimes[0]!.memoryInfo().freeBytes;
  assertThrows(() => manager!.store(resized), SampleError, "data.k has 4 bytes");
  assertEquals([manager!.storageSize, cluster.runtimes[0]!.memoryInfo().freeBytes], [0, free]);
  manager!.store(of("a", new Uint8Array(16).fill(7)));
  assertThrows(() => manager!.update(resized), SampleError, "data.k has 4 bytes");
  const longer = manager!.get("a");
  (longer.seqlens as Record<string, number[][]>)["k"]![0]![0] = 17;
  for (const ids of ["a", undefined, [0]] as unknown[]) {
    assertThrows(() => manager!.remove(ids as string[]), SampleError, "ids");
  }
  assertEquals(manager!.storageSize, 1);
  manager!.remove(["a"]);
  assertThrows(() => manager!.store(longer), SampleError);
});

Deno.test("a rebuild that is refused, or not begun, leaves the manager as it is", async () => {
  await using cluster = await Cluster.open(2);
  const [first] = cluster.managers;
  first!.store(batch);
  await assertRejects(() => first!.rebuild({ uniqueId: new Uint8Array(5) }), SeqferryError, "uniqueId");
  const uniqueId = cluster.uniqueId();
  const signal = AbortSignal.abort();
  await assertRejects(() => first!.rebuild({ uniqueId, signal }), DeadlineError, "rebuild was not begun");
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
});

Deno.test("a manager takes a ClusterLayout, and no object that looks like one", async () => {
  await using cluster = await Cluster.bare(1);
  const [communicator] = await cluster.join();
  const layout = { ...parseLayouts("a=pp1,dp1,tp1") } as unknown as ClusterLayout;
  await assertRejects(
    () => DataManager.create({ communicator: communicator!, layout, rehearse: false }),
    LayoutError,
    "layout is not a ClusterLayout",
  );
  await communicator![Symbol.asyncDispose]();
});

Deno.test("what is done to a plan's list after the call is no part of the transfer", async () => {
  await using cluster = await Cluster.open(2);
  cluster.managers[0]!.store(batch);
  const plans = cluster.managers.map(() => [...plan]);
  const moving = cluster.all((manager, rank) => manager.redistribute(batch.meta(), plans[rank]!));
  plans[0]!.push({ ...plan[0]!, ids: ["next"] } as RedistribStep);
  plans[1]!.length = 0;
  await moving;
  assertEquals(cluster.managers.map(({ storageSize }) => storageSize), [1, 1]);
});

Deno.test("an onProgress or a signal that is none is refused before anything begins", async () => {
  await using cluster = await Cluster.open(1);
  const [manager] = cluster.managers;
  const meta = batch.meta();
  // @ts-expect-error: no function.
  await assertRejects(() => manager!.redistribute(meta, [], { onProgress: 5 }), TypeError, "onProgress is a function");
  const first = manager!.redistribute(meta, []);
  // @ts-expect-error: no signal.
  const second = manager!.redistribute(meta, [], { timeoutMs: 5, signal: {} });
  await assertRejects(() => second, TypeError, "signal is an AbortSignal, not {}");
  await first;
  await new Promise((resolve) => setTimeout(resolve, 20));
});

Deno.test("ranks that make different calls are told so, and are whole again after a rebuild", async () => {
  await using cluster = await Cluster.open(2, parseLayouts("a=pp1,dp2,tp1 b=pp1,dp1,tp2"));
  const [first, second] = cluster.managers;
  first!.store(batch);
  const ends = await Promise.allSettled([first!.setupProcessGroups(), second!.redistribute(batch.meta(), plan)]);
  for (const [rank, end] of ends.entries()) {
    assert(end.status === "rejected" && end.reason instanceof SeqferryError);
    const at = ["setupProcessGroups", "the agreement"][rank];
    assertStringIncludes(end.reason.message, `rank ${rank} is at ${at}, and rank ${1 - rank} at something else`);
  }
  const uniqueId = cluster.uniqueId();
  await cluster.all((manager) => manager.rebuild({ uniqueId }));
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
});
