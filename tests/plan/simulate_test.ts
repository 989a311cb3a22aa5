import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { PlanError } from "../../src/errors.ts";
import { arrangeDemand } from "../../src/plan/demand.ts";
import { planDirect } from "../../src/plan/direct.ts";
import { itemSizes } from "../../src/plan/item_sizes.ts";
import { findLack } from "../../src/plan/lack.ts";
import { type Pattern, RedistribPlanner } from "../../src/plan/planner.ts";
import { leastSecondsOfGatherScatter } from "../../src/plan/rooted_bound.ts";
import { secondsOf, simulatePlan } from "../../src/plan/simulate.ts";
import { DEFAULT_COST_MODEL } from "../../src/plan/cost_model.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import { trafficOf } from "../../src/plan/traffic.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import { Catalogue } from "../../src/transfer/catalogue.ts";
import { lowerPlan } from "../../src/transfer/lower.ts";
import { anyStep } from "./arbitraries.ts";
import { batchSpec, makeBatch } from "./batches.ts";

const costModel = {
  sameDevice: { latencySeconds: 1, bytesPerSecond: 1000 },
  sameNode: { latencySeconds: 2, bytesPerSecond: 100 },
  network: { latencySeconds: 10, bytesPerSecond: 50 },
};

/** Ids of 100 bytes each. */
function metaOf(ids: string[]): SequenceSample {
  return new SequenceSample({
    ids,
    keys: ["k"],
    dtypes: { k: "uint8" },
    trailingShapes: { k: [10] },
    seqlens: { k: ids.map(() => [4, 6]) },
  });
}

function send(src: number, dst: number, ...ids: string[]): RedistribStep {
  return { commType: "exchange", root: null, srcs: [src], dsts: [[dst]], ids: [ids], keys: ["k"] };
}

Deno.test("simulatePlan() takes latency and bytes over bandwidth for one message, by the class of its link", () => {
  const simulate = (dst: number) =>
    simulatePlan([send(0, dst, "a")], metaOf(["a"]), { gpusPerNode: 2, costModel }, { worldSize: 4 });
  assertEquals(simulate(1).seconds, 3);
  assertEquals(simulate(2), {
    seconds: 12,
    phases: 1,
    bytesIntoRank: [0, 0, 100, 0],
    bytesOutOfRank: [100, 0, 0, 0],
    bytesIntoNode: [0, 100],
    bytesOutOfNode: [100, 0],
    peakBytes: [100, 0, 100, 0],
  });
});

Deno.test("simulatePlan() lets messages of one link wait for each other, and those of different links not", () => {
  const meta = metaOf(["a", "b", "c"]);
  const seconds = (...plan: RedistribStep[]) =>
    simulatePlan(plan, meta, { gpusPerNode: 2, costModel }, { worldSize: 6 }).seconds;
  assertEquals(seconds(send(0, 1, "a"), send(2, 3, "b")), 3);
  // Both leave node 0: the second second sets out when the first has left.
  assertEquals(seconds(send(0, 2, "a"), send(1, 4, "b")), 14);
  // Both come into node 1, from different nodes.
  assertEquals(seconds(send(0, 2, "a"), send(4, 3, "b")), 14);
  // The network and the rank's own link do not disturb each other.
  assertEquals(seconds(send(0, 2, "a"), send(0, 1, "b")), 12);
});

Deno.test("simulatePlan() counts the packing of several items, and starts a phase when the one before is done", () => {
  const meta = metaOf(["a", "b"]);
  const seconds = (...plan: RedistribStep[]) =>
    simulatePlan(plan, meta, { gpusPerNode: 4, costModel }, { worldSize: 4 }).seconds;
  assertAlmostEquals(seconds(send(0, 1, "a", "b")), 1 + 0.2 + 2 + 2, 1e-9);
  assertEquals(seconds(send(0, 1, "a"), send(1, 2, "a"), send(2, 3, "a")), 9);
});

Deno.test("simulatePlan() counts units and no latency when lengths are unknown", () => {
  const meta = { ids: ["a"], keys: ["k"], dtypes: { k: "int8" }, trailingShapes: { k: [] } };
  const { seconds, bytesIntoRank } = simulatePlan([send(0, 1, "a")], meta, { gpusPerNode: 2, costModel }, {
    worldSize: 2,
  });
  assertEquals([seconds, bytesIntoRank], [0.01, [0, 1]]);
});

Deno.test("simulatePlan() refuses a plan or a cluster that is not valid, and does nothing for an empty plan", () => {
  const meta = metaOf(["a"]);
  assertThrows(() => simulatePlan([send(0, 2, "a")], meta, { gpusPerNode: 1 }, { worldSize: 2 }), PlanError, "rank 2");
  assertThrows(() => simulatePlan([], meta, { gpusPerNode: 0 }, { worldSize: 2 }), PlanError, "gpusPerNode");
  assertEquals(simulatePlan([], meta, { gpusPerNode: 1 }, { worldSize: 2 }).seconds, 0);
});

Deno.test("simulatePlan() counts the bytes, phases and peaks of the programs that the plan is lowered to", () => {
  fc.assert(fc.property(fc.array(anyStep, { maxLength: 6 }), (plan) => {
    const worldSize = 12;
    const ids = [...new Set(plan.flatMap((step) => step.ids.flat()))];
    const keys = [...new Set(plan.flatMap((step) => step.keys))];
    const meta = new SequenceSample({
      ids,
      keys,
      dtypes: Object.fromEntries(keys.map((key) => [key, "int16"])),
      trailingShapes: Object.fromEntries(keys.map((key) => [key, []])),
      seqlens: Object.fromEntries(keys.map((key, k) => [key, ids.map((_, i) => [(i + k) % 4])])),
    });
    const simulation = simulatePlan(plan, meta, { gpusPerNode: 4 }, { worldSize });
    const catalogue = new Catalogue(meta);
    for (let rank = 0; rank < worldSize; rank++) {
      const program = lowerPlan(plan, catalogue, rank, { worldSize });
      assertEquals(simulation.phases, program.phases.length);
      assertEquals(simulation.bytesIntoRank[rank], program.bytesReceived);
      assertEquals(simulation.bytesOutOfRank[rank], program.bytesSent);
      assertEquals(simulation.peakBytes[rank], program.peakBytes);
    }
  }));
});

Deno.test("planDirect() tells the traffic that its plan makes", () => {
  fc.assert(
    fc.property(batchSpec(32, { min: 1, max: 6 }), (spec) => {
      const { tracker, dests, keys, meta } = makeBatch(spec);
      const { ids, ...demand } = arrangeDemand(dests, spec.worldSize);
      const sizes = itemSizes(ids, keys, meta);
      const items = { ids, keys, sizes };
      const classes = findLack({ ids, ...demand }, keys, tracker, spec.gpusPerNode, sizes);
      const { plan, traffic } = planDirect(classes, items, spec);
      const flows = (of: ReturnType<typeof traffic>) =>
        Array.from(
          { length: of.phases },
          (_, phase) =>
            [...of.flows(phase)].map(({ from, to, bytes, items }) => [from, to, bytes, items])
              .sort(([a, b], [c, d]) => a! - c! || b! - d!),
        );
      assertEquals(flows(traffic()), flows(trafficOf(plan(), items, spec.worldSize)));
    }),
    { numRuns: 40 },
  );
});

Deno.test("derivePlan() in the pattern auto takes the plan that simulatePlan() finds the fastest", () => {
  const chosen = new Set<string>();
  fc.assert(
    fc.property(batchSpec(32, { min: 1, max: 8 }), fc.boolean(), (spec, slow) => {
      const { tracker, dests, keys, meta } = makeBatch(spec);
      const cluster = slow ? { gpusPerNode: spec.gpusPerNode, costModel } : { gpusPerNode: spec.gpusPerNode };
      const planner = new RedistribPlanner(cluster, tracker);
      const seconds = (pattern: Pattern): number =>
        simulatePlan(planner.derivePlan(dests, keys, pattern, { meta }), meta, cluster, spec).seconds;
      const auto = seconds("auto");
      const others = (["direct", "bcast", "gather-scatter"] as const).map((pattern) => ({
        pattern,
        s: seconds(pattern),
      }));
      const best = Math.min(...others.map(({ s }) => s));
      assert(auto <= best * (1 + 1e-9), `${auto}, but ${JSON.stringify(others)}`);
      for (const { pattern, s } of others) if (s === best) chosen.add(pattern);
    }),
    { numRuns: 60 },
  );
  assert(chosen.has("direct"));
});

Deno.test("derivePlan() in the pattern auto goes without the patterns that lack an owner, and tells when none can plan", () => {
  const tracker = new GlobalStorageTracker(3);
  tracker.addData(0, ["a"], "k", false);
  const planner = new RedistribPlanner({ gpusPerNode: 1 }, tracker);
  assertEquals(planner.derivePlan(new Map([[1, ["a"]]]), ["k"], "auto").length, 1);
  const error = assertThrows(() => planner.derivePlan(new Map([[1, ["b"]]]), ["k"], "auto"), PlanError);
  assertEquals([error.id, error.key], ["b", "k"]);
});

Deno.test("gather-scatter takes no less time than its bound", () => {
  fc.assert(
    fc.property(batchSpec(32, { min: 1, max: 8 }), (spec) => {
      const { tracker, dests, keys, meta } = makeBatch(spec);
      const { worldSize, gpusPerNode } = spec;
      const demand = arrangeDemand(dests, worldSize);
      const sizes = itemSizes(demand.ids, keys, meta);
      const classes = findLack(demand, keys, tracker, gpusPerNode, sizes);
      const place = { worldSize, gpusPerNode, costs: DEFAULT_COST_MODEL };
      const planner = new RedistribPlanner({ gpusPerNode }, tracker);
      const seconds = (pattern: Pattern): number => {
        const plan = planner.derivePlan(dests, keys, pattern, { meta });
        return secondsOf(trafficOf(plan, { ids: demand.ids, keys, sizes }, worldSize), gpusPerNode, DEFAULT_COST_MODEL);
      };
      assert(seconds("gather-scatter") >= leastSecondsOfGatherScatter(classes, sizes, place) * (1 - 1e-9));
    }),
    { numRuns: 60 },
  );
});

Deno.test("a world that no memory would do for is refused by simulatePlan() and the tracker", () => {
  for (const worldSize of [0, 0.5, 2 ** 20 + 1, 2 ** 32]) {
    const place = (run: () => unknown) => assertThrows(run, PlanError, `from 1 to 1048576, not ${worldSize}`).place;
    assertEquals(place(() => simulatePlan([], metaOf([]), { gpusPerNode: 8 }, { worldSize })), "worldSize");
    assertEquals(place(() => new GlobalStorageTracker(worldSize)), "worldSize");
  }
});
