import { assert, assertEquals } from "@std/assert";
import {
  GlobalStorageTracker,
  type HostTensor,
  type Pattern,
  RedistribPlanner,
  type SequenceSample,
} from "../../mod.ts";
import { batchOf, Cluster } from "../cluster.ts";
import { readFixture } from "../fixtures/read_fixture.ts";

interface Vector {
  name: string;
  keys: string[];
  tracker_entries: [rank: number, ids: string[], key: string, isOwner: boolean][];
  dests: [rank: number, ids: string[]][];
}

const pairs = await readFixture<{ pair: string; world_size: number; n_gpus_per_node: number; cases: Vector[] }[]>(
  "plan/plans.json.gz",
);

const IDS = Array.from({ length: 24 }, (_, i) => `${i}`);
const KEYS = {
  input_ids: { dtype: "int64", trailingShape: [] },
  packed_logprobs: { dtype: "float32", trailingShape: [] },
  rewards: { dtype: "float64", trailingShape: [] },
  prompt_mask: { dtype: "bool", trailingShape: [] },
  values2d: { dtype: "bfloat16", trailingShape: [2, 3] },
} as const;

/** Stores on each rank what the entries say, and nothing else. */
function load(cluster: Cluster, parts: ReadonlyMap<string, SequenceSample>, vector: Vector): GlobalStorageTracker {
  const tracker = new GlobalStorageTracker(cluster.managers.length);
  for (const [rank, ids, key, isOwner] of vector.tracker_entries) {
    tracker.addData(rank, ids, key, isOwner);
    const manager = cluster.managers[rank]!;
    for (const id of ids) {
      const sample = parts.get(id)!.select([key]);
      if (manager.hasData(id)) manager.update(sample);
      else manager.store(sample);
    }
  }
  return tracker;
}

/** Each rank holds just what the tracker says after the plan, every byte of it that of the source. */
async function assertAsTracked(
  cluster: Cluster,
  parts: ReadonlyMap<string, SequenceSample>,
  tracker: GlobalStorageTracker,
) {
  for (const manager of cluster.managers) {
    for (const id of IDS) {
      const keys = tracker.keysOf(manager.rank, id);
      assertEquals(manager.hasData(id), keys.length > 0, `rank ${manager.rank}, id ${id}`);
      if (keys.length === 0) continue;
      const sample = await manager.get(id).toHost();
      assertEquals([...sample.keys].sort(), [...keys].sort());
      for (const key of keys) {
        const { bytes, shape, dtype } = sample.data![key] as HostTensor;
        const source = parts.get(id)!.data![key] as HostTensor;
        assertEquals([dtype, shape], [source.dtype, source.shape]);
        assert(bytes.every((byte, i) => byte === source.bytes[i]), `rank ${manager.rank}, id ${id}, key ${key}`);
      }
    }
  }
}

for (const pattern of ["gather-scatter", "bcast"] as Pattern[]) {
  Deno.test(`every ${pattern} plan of the vectors runs, and leaves on each rank just what the tracker says`, async () => {
    const parts = new Map(batchOf(IDS, KEYS).unpack().map((sample) => [sample.ids[0]!, sample]));
    const meta = batchOf(IDS, KEYS).meta();
    await using cluster = await Cluster.open(pairs[0]!.world_size);
    let ran = 0;
    for (const { n_gpus_per_node, cases } of pairs) {
      for (const vector of cases) {
        const tracker = load(cluster, parts, vector);
        const planner = new RedistribPlanner({ gpusPerNode: n_gpus_per_node }, tracker);
        const plan = planner.derivePlan(new Map(vector.dests), vector.keys, pattern);
        const reports = await cluster.all((manager) => manager.redistribute(meta, plan));
        tracker.applyPlan(plan);
        await assertAsTracked(cluster, parts, tracker);
        for (const [rank, ids] of vector.dests) {
          for (const id of ids) {
            const held = tracker.keysOf(rank, id);
            assert(vector.keys.every((key) => held.includes(key)), `${vector.name}: rank ${rank}, id ${id}`);
          }
        }
        const sum = (field: "bytesSent" | "bytesReceived") =>
          reports.reduce((total, report) => total + report[field], 0);
        assertEquals(sum("bytesSent"), sum("bytesReceived"));
        for (const manager of cluster.managers) manager.clearData();
        ran++;
      }
    }
    assertEquals(ran, 250);
  });
}

Deno.test("24 ranks in one process run a plan for shapes that no vector has", async () => {
  const parts = new Map(batchOf(IDS, KEYS).unpack().map((sample) => [sample.ids[0]!, sample]));
  const meta = batchOf(IDS, KEYS).meta();
  await using cluster = await Cluster.open(24);
  const vector: Vector = {
    name: "three owners, eight triples of replicas",
    keys: meta.keys as string[],
    tracker_entries: meta.keys.flatMap((key) =>
      [23, 3, 11].map((
        rank,
        i,
      ): Vector["tracker_entries"][number] => [rank, IDS.filter((_, j) => j % 3 === i), key, true])
    ),
    dests: Array.from({ length: 24 }, (_, rank) => [rank, IDS.filter((_, i) => i % 8 === Math.floor(rank / 3))]),
  };
  for (const pattern of ["gather-scatter", "bcast"] as Pattern[]) {
    const tracker = load(cluster, parts, vector);
    const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(
      new Map(vector.dests),
      vector.keys,
      pattern,
    );
    await cluster.all((manager) => manager.redistribute(meta, plan));
    tracker.applyPlan(plan);
    await assertAsTracked(cluster, parts, tracker);
    for (const manager of cluster.managers) manager.clearData();
  }
});
