import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type ClusterLayout,
  Communicator,
  DataManager,
  DeadlineError,
  GlobalStorageTracker,
  ManagerBusyError,
  parseLayouts,
  type Pattern,
  RedistribPlanner,
  type RedistribStep,
  RedistributeRefusedError,
  type SequenceSample,
} from "../../mod.ts";
import { batchOf, Cluster, EVERY_DTYPE } from "../cluster.ts";
import { resources } from "../faults/resources.ts";

const KEYS = {
  tokens: { dtype: "int64", trailingShape: [] },
  values: { dtype: "bfloat16", trailingShape: [4] },
} as const;

/** Gives ids to ranks in turn. */
function share(ids: readonly string[], ranks: readonly number[]): Map<number, string[]> {
  const shares = new Map<number, string[]>(ranks.map((rank) => [rank, []]));
  ids.forEach((id, i) => shares.get(ranks[i % ranks.length]!)!.push(id));
  return shares;
}

/** Stores each rank's share, and tells a tracker. */
function load(
  cluster: Cluster,
  batch: SequenceSample,
  shares: ReadonlyMap<number, readonly string[]>,
): GlobalStorageTracker {
  const tracker = new GlobalStorageTracker(cluster.managers.length);
  const parts = new Map(batch.unpack().map((sample) => [sample.ids[0]!, sample]));
  for (const [rank, ids] of shares) {
    for (const id of ids) cluster.managers[rank]!.store(parts.get(id)!);
    for (const key of batch.keys) tracker.addData(rank, ids, key, true);
  }
  return tracker;
}

/** Every byte, length and metadatum of `ids` on a rank, against the batch they come from. */
async function assertHolds(manager: DataManager, batch: SequenceSample, ids: readonly string[], keys = batch.keys) {
  const parts = new Map(batch.unpack().map((sample) => [sample.ids[0]!, sample]));
  for (const id of ids) {
    const found = await manager.get(id).toHost();
    const expected = parts.get(id)!;
    for (const key of keys) {
      assertEquals(found.data![key], expected.data![key], `rank ${manager.rank}, id ${id}, key ${key}`);
      assertEquals(found.seqlens[key], expected.seqlens[key]);
    }
    assertEquals(found.metadata, expected.metadata);
  }
}

const IDS = Array.from({ length: 13 }, (_, i) => `prompt-${i}`);

for (const pattern of ["gather-scatter", "bcast"] as Pattern[]) {
  Deno.test(`redistribute() brings every dtype and trailing shape bit for bit when the plan is ${pattern}`, async () => {
    const layout = parseLayouts("actor=pp1,dp4,tp1 critic=pp2,dp2,tp1");
    const batch = batchOf(IDS, EVERY_DTYPE);
    await using cluster = await Cluster.open(4, layout);
    const before = cluster.runtimes[0]!.memoryInfo().freeBytes;
    const tracker = load(cluster, batch, share(IDS, layout.dpHeads("actor/0")));
    await cluster.all((manager) => manager.setupProcessGroups());
    const dests = new Map<number, string[]>();
    const halves = share(IDS, [0, 1]);
    for (const [data, ids] of halves) for (const rank of layout.ranksOf("critic/0", { data })) dests.set(rank, ids);
    const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, batch.keys, pattern);
    const reports = await cluster.all((manager) => manager.redistribute(batch.meta(), plan, { verify: true }));
    for (const [rank, ids] of dests) await assertHolds(cluster.managers[rank]!, batch, ids);
    const sum = (field: "bytesSent" | "bytesReceived" | "referenceBytesReceived") =>
      reports.reduce((total, report) => total + report[field], 0);
    assertEquals(sum("bytesSent"), sum("bytesReceived"));
    assert(sum("bytesReceived") <= sum("referenceBytesReceived"));
    assertEquals(new Set(reports.map(({ transferId }) => transferId)).size, 1);
    for (const manager of cluster.managers) manager.clearData();
    assert(cluster.runtimes[0]!.memoryInfo().freeBytes <= before);
  });
}

Deno.test("a disposed manager leaves as much device memory as there was before", async () => {
  const cluster = await Cluster.bare(3);
  const before = cluster.runtimes[0]!.memoryInfo().freeBytes;
  const batch = batchOf(IDS, KEYS);
  for (const communicator of await cluster.join()) {
    cluster.managers.push(await DataManager.create({ communicator, rehearse: false }));
  }
  load(cluster, batch, new Map([[0, IDS]]));
  const plan: RedistribStep[] = [{
    commType: "bcast",
    root: 0,
    srcs: [0],
    dsts: [1, 2],
    ids: IDS,
    keys: ["tokens", "values"],
  }];
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  await Promise.all(cluster.managers.map((manager) => manager[Symbol.asyncDispose]()));
  assertEquals(cluster.runtimes[0]!.memoryInfo().freeBytes, before);
  for (const runtime of cluster.runtimes) runtime[Symbol.dispose]();
});

Deno.test("redistribute() gives each destination its own ids when they come in any order", async () => {
  const batch = batchOf(IDS, KEYS);
  await using cluster = await Cluster.open(4);
  load(cluster, batch, new Map([[2, IDS]]));
  const plan: RedistribStep[] = [{
    commType: "scatter",
    root: 2,
    srcs: null,
    dsts: [3, 0, 1],
    ids: [["prompt-1", "prompt-0"], ["prompt-0", "prompt-1"], ["prompt-12", "prompt-3", "prompt-0"]],
    keys: ["values", "tokens"],
  }];
  const reports = await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  for (const [i, rank] of plan[0]!.commType === "scatter" ? plan[0]!.dsts.entries() : []) {
    assertEquals(cluster.managers[rank]!.storageSize, plan[0]!.ids[i]!.length);
    await assertHolds(cluster.managers[rank]!, batch, plan[0]!.ids[i] as string[]);
  }
  assert(reports[2]!.bytesSent < reports.reduce((sum, { bytesReceived }) => sum + bytesReceived, 0));
});

Deno.test("redistribute() installs into what is there: the keys received are replaced, others stay", async () => {
  const batch = batchOf(["a"], { ...KEYS, mask: { dtype: "bool", trailingShape: [] } });
  const other = batchOf(["a"], { ...KEYS, mask: { dtype: "bool", trailingShape: [] } }, 5);
  await using cluster = await Cluster.open(2);
  cluster.managers[0]!.store(batch);
  cluster.managers[1]!.store(other);
  const handle = cluster.managers[1]!.get("a").data!.tokens!;
  const kept = cluster.managers[1]!.get("a").data!.mask!;
  assert("toHost" in handle && "toHost" in kept);
  const plan: RedistribStep[] = [{
    commType: "bcast",
    root: 0,
    srcs: [0],
    dsts: [1],
    ids: ["a"],
    keys: ["tokens", "values"],
  }];
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  await assertHolds(cluster.managers[1]!, batch, ["a"], ["tokens", "values"]);
  assertEquals((await cluster.managers[1]!.get("a").toHost()).data!.mask, other.data!.mask);
  assertEquals(await kept.toHost(), other.data!.mask);
  await assertRejects(() => handle.toHost(), Error, "updated or removed");
});

Deno.test("redistribute() refuses on all ranks, before anything moves, when one rank lacks what it is to send", async () => {
  const batch = batchOf(["a", "b"], KEYS);
  await using cluster = await Cluster.open(3);
  load(cluster, batch.splitWithSpec({ sizes: [1, 1] })[0]!, new Map([[1, ["a"]]]));
  const plan: RedistribStep[] = [{
    commType: "bcast",
    root: 1,
    srcs: [1],
    dsts: [0, 2],
    ids: ["a", "b"],
    keys: ["tokens"],
  }];
  const ends = await cluster.settle((manager) => manager.redistribute(batch.meta(), plan));
  for (const end of ends) {
    assert(end.status === "rejected" && end.reason instanceof RedistributeRefusedError);
    assertEquals(end.reason.refusals.map(({ rank, id, key }) => ({ rank, id, key })), [{
      rank: 1,
      id: "b",
      key: "tokens",
    }]);
  }
  assertEquals(cluster.managers.map(({ storageSize }) => storageSize), [0, 1, 0]);
  const good: RedistribStep[] = [{ ...plan[0]!, ids: ["a"] } as RedistribStep];
  await cluster.all((manager) => manager.redistribute(batch.meta(), good));
  assertEquals(cluster.managers.map(({ storageSize }) => storageSize), [1, 1, 1]);
});

Deno.test("redistribute() refuses on all ranks when their plans differ, and names who differs", async () => {
  const batch = batchOf(["a", "b"], KEYS);
  await using cluster = await Cluster.open(3);
  load(cluster, batch, new Map([[0, ["a", "b"]]]));
  const plan = (id: string): RedistribStep[] => [
    { commType: "bcast", root: 0, srcs: [0], dsts: [1, 2], ids: [id], keys: ["tokens"] },
  ];
  const ends = await cluster.settle((manager, rank) =>
    manager.redistribute(batch.meta(), plan(rank === 1 ? "b" : "a"))
  );
  for (const end of ends) {
    assert(end.status === "rejected" && end.reason instanceof RedistributeRefusedError);
    assertEquals(end.reason.refusals.map(({ rank }) => rank), [1]);
  }
});

Deno.test("redistribute() brings more refusals together than one slot of the agreement holds", async () => {
  const ids = Array.from({ length: 100 }, (_, i) => `missing-${i}`);
  const batch = batchOf(ids, KEYS);
  await using cluster = await Cluster.open(2);
  const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids, keys: ["tokens"] }];
  const ends = await cluster.settle((manager) => manager.redistribute(batch.meta(), plan));
  for (const end of ends) {
    assert(end.status === "rejected" && end.reason instanceof RedistributeRefusedError);
    assertEquals(end.reason.refusals.map(({ id }) => id).sort(), [...ids].sort());
  }
});

Deno.test("redistribute() ends by its deadline when a rank is absent, names it, and works again after rebuild", async () => {
  const batch = batchOf(IDS, KEYS);
  await using cluster = await Cluster.open(3);
  load(cluster, batch, new Map([[0, IDS]]));
  const plan: RedistribStep[] = [{
    commType: "bcast",
    root: 0,
    srcs: [0],
    dsts: [1, 2],
    ids: IDS,
    keys: ["tokens", "values"],
  }];
  const ends = await Promise.allSettled(
    [0, 1].map((rank) => cluster.managers[rank]!.redistribute(batch.meta(), plan, { timeoutMs: 300 })),
  );
  for (const end of ends) {
    assert(
      end.status === "rejected" && end.reason instanceof DeadlineError,
      `${(end as PromiseRejectedResult).reason}`,
    );
    assertEquals(end.reason.outstanding, [2]);
    assertEquals(end.reason.outcome, "unchanged");
  }
  assertEquals(cluster.managers.map(({ storageSize }) => storageSize), [IDS.length, 0, 0]);
  await assertRejects(() => cluster.managers[0]!.redistribute(batch.meta(), plan), Error, "rebuild");
  const uniqueId = cluster.uniqueId();
  await cluster.all((manager) => manager.rebuild({ uniqueId }));
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  for (const manager of cluster.managers) await assertHolds(manager, batch, IDS);
});

Deno.test("redistribute() ends at once when its signal fires, with the signal's reason as cause", async () => {
  const batch = batchOf(["a"], KEYS);
  await using cluster = await Cluster.open(2);
  load(cluster, batch, new Map([[0, ["a"]]]));
  const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["tokens"] }];
  const controller = new AbortController();
  const reason = new Error("the user went home");
  const run = cluster.managers[0]!.redistribute(batch.meta(), plan, { signal: controller.signal });
  setTimeout(() => controller.abort(reason), 20);
  const error = await assertRejects(() => run, DeadlineError);
  assertEquals(error.cause, reason);
});

Deno.test("a manager refuses to change its storage in the middle of a transfer", async () => {
  const batch = batchOf(["a", "b"], KEYS);
  const [a, b] = batch.unpack();
  await using cluster = await Cluster.open(2);
  cluster.managers[0]!.store(a!);
  const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["tokens"] }];
  const runs = cluster.all((manager) => manager.redistribute(batch.meta(), plan));
  for (
    const change of [
      () => cluster.managers[0]!.store(b!),
      () => cluster.managers[0]!.update(a!),
      () => cluster.managers[0]!.remove(["a"]),
      () => cluster.managers[0]!.clearData(),
    ]
  ) {
    let error: unknown;
    try {
      change();
    } catch (caught) {
      error = caught;
    }
    assert(error instanceof ManagerBusyError);
  }
  await runs;
  cluster.managers[0]!.store(b!);
});

Deno.test("redistribute() calls on one manager queue", async () => {
  const batch = batchOf(["a"], KEYS);
  await using cluster = await Cluster.open(3);
  cluster.managers[0]!.store(batch);
  const hop = (root: number, dst: number): RedistribStep[] => [
    { commType: "bcast", root, srcs: [root], dsts: [dst], ids: ["a"], keys: ["tokens", "values"] },
  ];
  await cluster.all(async (manager) => {
    await Promise.all([manager.redistribute(batch.meta(), hop(0, 1)), manager.redistribute(batch.meta(), hop(1, 2))]);
  });
  await assertHolds(cluster.managers[2]!, batch, ["a"]);
});

Deno.test("a call whose turn does not come in time is given up, and the communicator stays whole", async () => {
  const batch = batchOf(["a"], KEYS);
  await using cluster = await Cluster.open(2);
  const [first, second] = cluster.managers;
  first!.store(batch);
  const plan: RedistribStep[] = [
    { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["tokens", "values"] },
  ];
  const begun = first!.redistribute(batch.meta(), plan);
  const controller = new AbortController();
  const started = performance.now();
  const late = assertRejects(() => first!.redistribute(batch.meta(), plan, { timeoutMs: 30 }), DeadlineError, "turn");
  const stopped = assertRejects(
    () => first!.redistribute(batch.meta(), plan, { signal: controller.signal }),
    DeadlineError,
    "its AbortSignal fired",
  );
  controller.abort(new Error("the caller has other plans"));
  const errors = [await late, await stopped];
  assert(performance.now() - started < 5000);
  for (const { outcome, outstanding, phase } of errors) {
    assertEquals({ outcome, outstanding, phase }, { outcome: "unchanged", outstanding: [], phase: -1 });
  }
  assertEquals((errors[1]!.cause as Error).message, "the caller has other plans");
  await Promise.all([begun, second!.redistribute(batch.meta(), plan)]);
  await assertHolds(second!, batch, ["a"]);
  await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
});

Deno.test("whoever disposes a manager that is being disposed waits for the same end", async () => {
  const before = resources();
  await using cluster = await Cluster.open(1);
  const manager = cluster.managers[0]!;
  manager.store(batchOf(["a"], KEYS));
  const first = manager[Symbol.asyncDispose]();
  await manager[Symbol.asyncDispose]();
  // The runtime's own stream is still there.
  assertEquals({ ...resources(), liveStreams: 0 }, { ...before, liveStreams: 0 });
  await first;
});

Deno.test("a manager takes a communicator whose greetings are not a manager's", async () => {
  await using cluster = await Cluster.bare(2);
  const uniqueId = cluster.uniqueId();
  const greeting = new TextEncoder().encode("hello");
  cluster.managers.push(
    ...await Promise.all(cluster.runtimes.map(async (runtime, rank) =>
      await DataManager.create({
        communicator: await Communicator.init(runtime, { uniqueId, rank, worldSize: 2, greeting }),
        rehearse: false,
      })
    )),
  );
  const batch = batchOf(["a"], KEYS);
  cluster.managers[0]!.store(batch);
  await cluster.all((manager) =>
    manager.redistribute(batch.meta(), [
      { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["tokens", "values"] },
    ])
  );
  await assertHolds(cluster.managers[1]!, batch, ["a"]);
});

Deno.test("one thread drives 16 ranks while a timer keeps ticking", async () => {
  const ids = Array.from({ length: 64 }, (_, i) => `id-${i}`);
  const batch = batchOf(ids, { hidden: { dtype: "float32", trailingShape: [1024] } });
  await using cluster = await Cluster.open(16);
  load(cluster, batch, share(ids, Array.from({ length: 16 }, (_, rank) => rank)));
  const shares = share(ids, Array.from({ length: 16 }, (_, rank) => rank));
  const plan: RedistribStep[] = [...shares].map(([root, ids]) => ({
    commType: "bcast",
    root,
    srcs: [root],
    dsts: Array.from({ length: 16 }, (_, rank) => rank).filter((rank) => rank !== root),
    ids,
    keys: ["hidden"],
  }));
  let longest = 0;
  let ticks = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    ticks++;
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  for (let round = 0; round < 8; round++) {
    const reports = await cluster.all((manager) => manager.redistribute(batch.meta(), plan));
    const bytes = reports.reduce((total, { bytesReceived }) => total + bytesReceived, 0);
    assertEquals(bytes, 15 * sizeOf(batch));
  }
  clearInterval(timer);
  assert(ticks > 1, `the timer ticked ${ticks} times`);
  assert(longest < 500, `the event loop stood still for ${longest} ms`);
});

function sizeOf(batch: SequenceSample): number {
  return Object.values(batch.data!).reduce(
    (total, tensor) => total + (tensor as { bytes: Uint8Array }).bytes.byteLength,
    0,
  );
}

Deno.test("setupProcessGroups() refuses on all ranks when layouts differ", async () => {
  const cluster = await Cluster.bare(2);
  const communicators = await cluster.join();
  const layouts = ["actor=pp1,dp2,tp1 critic=pp1,dp1,tp2", "actor=pp1,dp1,tp2 critic=pp1,dp1,tp2"].map((text) =>
    parseLayouts(text)
  );
  for (const [rank, communicator] of communicators.entries()) {
    cluster.managers.push(
      await DataManager.create({ communicator, layout: layouts[rank] as ClusterLayout, rehearse: false }),
    );
  }
  const ends = await cluster.settle((manager) => manager.setupProcessGroups());
  for (const end of ends) assert(end.status === "rejected" && end.reason.name === "LayoutError");
  await cluster[Symbol.asyncDispose]();
});
