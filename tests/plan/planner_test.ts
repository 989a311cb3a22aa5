import { assert, assertEquals, assertThrows } from "@std/assert";
import { PlanError } from "../../src/errors.ts";
import { AVAILABLE_PATTERNS, type Pattern, RedistribPlanner } from "../../src/plan/planner.ts";
import { planToJSON } from "../../src/plan/plan_json.ts";
import { simulatePlan } from "../../src/plan/simulate.ts";
import { deliveriesOf } from "../../src/plan/step.ts";
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import { validatePlan } from "../../src/plan/validate_plan.ts";
import fc from "fast-check";
import { readFixture } from "../fixtures/read_fixture.ts";
import { buildCluster, clusterCase } from "./arbitraries.ts";

interface CaseVector {
  name: string;
  keys: string[];
  tracker_entries: [rank: number, ids: string[], key: string, isOwner: boolean][];
  storage_tracker_before: unknown;
  dests: [rank: number, ids: string[]][];
  plan_gather_scatter: unknown[] | { error: string };
  plan_bcast_sorted: unknown[] | { error: string };
}

const pairs = await readFixture<
  { pair: string; world_size: number; n_gpus_per_node: number; cases: CaseVector[] }[]
>("plan/plans.json.gz");
const errorCases = await readFixture<(CaseVector | { name: string; error?: string; result?: unknown })[]>(
  "plan/plan_errors.json.gz",
);

function track(worldSize: number, vector: CaseVector): GlobalStorageTracker {
  const tracker = new GlobalStorageTracker(worldSize);
  for (const [rank, ids, key, isOwner] of vector.tracker_entries) tracker.addData(rank, ids, key, isOwner);
  return tracker;
}

for (const { pair, world_size, n_gpus_per_node, cases } of pairs) {
  Deno.test(`derivePlan() agrees with the vectors in both patterns for ${pair}`, () => {
    assertEquals(cases.length, 10);
    for (const vector of cases) {
      const tracker = track(world_size, vector);
      assertEquals(tracker.toJSON(), vector.storage_tracker_before, vector.name);
      const planner = new RedistribPlanner({ gpusPerNode: n_gpus_per_node }, tracker);
      const derive = (pattern: Pattern): unknown[] =>
        planToJSON(planner.derivePlan(new Map(vector.dests), vector.keys, pattern));
      assertEquals(derive("gather-scatter"), vector.plan_gather_scatter, vector.name);
      assertEquals(derive("bcast"), vector.plan_bcast_sorted, vector.name);
      assertEquals(tracker.toJSON(), vector.storage_tracker_before, vector.name);
    }
  });
}

/** Where these vectors show the reference to be wrong: no destinations are an empty plan, an id that one rank names twice is refused. */
const better: Record<string, { result: unknown[] } | { refused: string }> = {
  no_dests: { result: [] },
  duplicate_id_in_dests: { refused: '"a" is named twice' },
};

for (const vector of errorCases) {
  if (!("dests" in vector)) continue;
  Deno.test(`derivePlan() agrees with the vectors in the edge case ${vector.name}`, () => {
    const planner = new RedistribPlanner({ gpusPerNode: 8 }, track(16, vector));
    for (
      const [pattern, field] of [["gather-scatter", "plan_gather_scatter"], ["bcast", "plan_bcast_sorted"]] as const
    ) {
      const derive = (): unknown[] => planToJSON(planner.derivePlan(new Map(vector.dests), vector.keys, pattern));
      const ours = better[vector.name];
      const expected = vector[field];
      if (ours !== undefined && "refused" in ours) assertThrows(derive, PlanError, ours.refused);
      else if (ours === undefined && !Array.isArray(expected)) assertThrows(derive, PlanError);
      else assertEquals(derive(), ours?.result ?? expected);
    }
  });
}

function twoRanks(): RedistribPlanner {
  const tracker = new GlobalStorageTracker(2);
  tracker.addData(0, ["a"], "k", true);
  return new RedistribPlanner({ gpusPerNode: 8 }, tracker);
}

const everyPattern: Pattern[] = ["gather-scatter", "bcast", "direct", "auto"];

Deno.test("derivePlan() gives an empty plan for no destinations in every pattern", () => {
  for (const pattern of everyPattern) {
    assertEquals(twoRanks().derivePlan(new Map(), ["k"], pattern), []);
    assertEquals(twoRanks().derivePlan(new Map([[0, []], [1, []]]), ["nowhere"], pattern), []);
  }
});

Deno.test("derivePlan() refuses an unknown pattern", () => {
  assertThrows(() => twoRanks().derivePlan(new Map(), ["k"], "ring" as Pattern), PlanError, '"ring"');
});

Deno.test("derivePlan() names the id and the key that are nowhere", () => {
  for (const pattern of everyPattern) {
    const noId = assertThrows(() => twoRanks().derivePlan(new Map([[1, ["a", "b"]]]), ["k"], pattern), PlanError);
    assertEquals([noId.id, noId.key], ["b", "k"]);
    assert(noId.message.includes('"b"') && noId.message.includes('"k"'));
    const noKey = assertThrows(() => twoRanks().derivePlan(new Map([[1, ["a"]]]), ["k", "zz"], pattern), PlanError);
    assertEquals([noKey.id, noKey.key], ["a", "zz"]);
  }
});

Deno.test("derivePlan() refuses destinations and keys that are not valid", () => {
  const derive = (dests: unknown, keys: unknown = ["k"]) => () =>
    twoRanks().derivePlan(dests as Map<number, string[]>, keys as string[], "bcast");
  assertEquals(assertThrows(derive(new Map([[2, ["a"]]])), PlanError, "not 2").rank, 2);
  assertThrows(derive(new Map([[2, []]])), PlanError, "not 2");
  assertThrows(derive(new Map([[-1, ["a"]]])), PlanError, "not -1");
  assertThrows(derive(new Map([[0.5, ["a"]]])), PlanError, "not 0.5");
  assertThrows(derive(new Map([["1", ["a"]]])), PlanError, 'not "1"');
  assertThrows(derive(new Map([[1, "a"]])), PlanError, "dests[1]");
  assertThrows(derive(new Map([[1, [7]]])), PlanError, "not 7");
  assertThrows(derive({ 1: ["a"] }), PlanError, "Map");
  assertThrows(derive(new Map([[1, ["a"]]]), new Set(["k"])), PlanError, "keys");
  assertThrows(derive(new Map([[1, ["a"]]]), "k"), PlanError, "keys");
  assertThrows(derive(new Map([[1, ["a"]]]), [1]), PlanError, "keys[0]");
});

Deno.test("derivePlan() checks ids and keys against meta", () => {
  const dests = new Map([[1, ["a"]]]);
  const meta = { ids: ["a"], keys: ["k"], dtypes: { k: "int64" }, trailingShapes: { k: [] } };
  assertEquals(twoRanks().derivePlan(dests, ["k"], "bcast", { meta }).length, 1);
  for (const maxPeakBytes of [-1, NaN]) {
    for (const wanted of [dests, new Map()]) {
      const derive = () => twoRanks().derivePlan(wanted, ["k"], "bcast", { meta, maxPeakBytes });
      assertEquals(assertThrows(derive, PlanError).place, "maxPeakBytes");
    }
  }
  assertThrows(() => twoRanks().derivePlan(dests, ["k"], "bcast", { meta: { ...meta, ids: [] } }), PlanError, '"a"');
  assertThrows(() => twoRanks().derivePlan(dests, ["k"], "bcast", { meta: { ...meta, keys: [] } }), PlanError, '"k"');
});

Deno.test("derivePlan(), validatePlan() and simulatePlan() refuse metadata that is none, and name the field", () => {
  const good = { ids: ["a"], keys: ["k"], dtypes: { k: "int64" }, trailingShapes: { k: [] }, seqlens: { k: [[3]] } };
  const cases: [meta: unknown, place: string][] = [
    [null, "meta"],
    [[], "meta"],
    ["meta", "meta"],
    [{ ...good, ids: "a" }, "meta.ids"],
    [{ ...good, ids: [1] }, "meta.ids[0]"],
    [{ ...good, keys: null }, "meta.keys"],
    [{ ...good, keys: ["k", 2] }, "meta.keys[1]"],
    [{ ...good, dtypes: null }, "meta.dtypes"],
    [{ ...good, trailingShapes: undefined }, "meta.trailingShapes"],
    [{ ...good, seqlens: null }, "meta.seqlens"],
    [{ ...good, seqlens: { k: [] } }, "meta.seqlens.k"],
    [{ ...good, seqlens: { k: 5 } }, "meta.seqlens.k"],
    [{ ...good, seqlens: { k: [3] } }, "meta.seqlens.k[0]"],
    [{ ...good, seqlens: { k: [[3, -1]] } }, "meta.seqlens.k[0]"],
    [{ ...good, seqlens: { k: [[0.5]] } }, "meta.seqlens.k[0]"],
  ];
  const cluster = { gpusPerNode: 8 };
  const plan = twoRanks().derivePlan(new Map([[1, ["a"]]]), ["k"], "direct", { meta: good });
  validatePlan(plan, { worldSize: 2, meta: good });
  simulatePlan(plan, good, cluster, { worldSize: 2 });
  // A key may lack lengths, whatever it is called.
  const both = {
    ...good,
    keys: ["k", "constructor"],
    dtypes: { k: "int64", constructor: "int64" },
    trailingShapes: { k: [], constructor: [] },
  };
  simulatePlan(plan, both, cluster, { worldSize: 2 });
  for (const [given, place] of cases) {
    const meta = given as typeof good;
    for (const pattern of AVAILABLE_PATTERNS) {
      const derive = () => twoRanks().derivePlan(new Map([[1, ["a"]]]), ["k"], pattern, { meta });
      assertEquals(assertThrows(derive, PlanError).place, place);
    }
    assertEquals(assertThrows(() => validatePlan(plan, { worldSize: 2, meta }), PlanError).place, place);
    assertEquals(assertThrows(() => simulatePlan(plan, meta, cluster, { worldSize: 2 }), PlanError).place, place);
  }
});

Deno.test("RedistribPlanner() refuses a cluster that cannot be", () => {
  const link = { latencySeconds: 1e-6, bytesPerSecond: 1e9 };
  const costModel = { sameDevice: link, sameNode: link, network: link };
  const plan = (cluster: unknown) => () =>
    new RedistribPlanner(cluster as { gpusPerNode: number }, new GlobalStorageTracker(1));
  plan({ gpusPerNode: 8, costModel })();
  assertThrows(plan({ gpusPerNode: 0 }), PlanError, "gpusPerNode");
  assertThrows(plan({ gpusPerNode: 1.5 }), PlanError, "gpusPerNode");
  assertThrows(plan({ gpusPerNode: 8, costModel: null }), PlanError, "costModel.sameDevice.latencySeconds");
  for (
    const [network, field] of [
      [{ ...link, bytesPerSecond: 0 }, "network.bytesPerSecond"],
      [{ ...link, latencySeconds: -1 }, "network.latencySeconds"],
      [undefined, "network.latencySeconds"],
    ] as const
  ) assertThrows(plan({ gpusPerNode: 8, costModel: { ...costModel, network } }), PlanError, field);
});

Deno.test("RedistribPlanner() keeps the cluster as it was given", () => {
  const tracker = new GlobalStorageTracker(2);
  tracker.addData(0, ["a"], "k", true);
  const cluster = { gpusPerNode: 8 };
  const planner = new RedistribPlanner(cluster, tracker);
  cluster.gpusPerNode = 0;
  assertEquals(planner.derivePlan(new Map([[1, ["a"]]]), ["k"], "auto").length, 1);
});

Deno.test("derivePlan() plans for worlds of more ranks than a call takes arguments", () => {
  const tracker = new GlobalStorageTracker(200_000);
  tracker.addData(199_998, ["a"], "k", true);
  const dests = new Map([[199_999, ["a"]]]);
  for (const pattern of ["gather-scatter", "bcast", "direct", "auto"] satisfies Pattern[]) {
    const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, ["k"], pattern);
    assertEquals(plan.at(-1)!.dsts!.flat(), [199_999], pattern);
  }
});

Deno.test("derivePlan() orders ids by code point, not by UTF-16 code unit", () => {
  const tracker = new GlobalStorageTracker(2);
  tracker.addData(0, ["\u{1f600}", "\uffee", "b", "10", "2"], "k", true);
  const planner = new RedistribPlanner({ gpusPerNode: 8 }, tracker);
  const dests = new Map([[1, ["2", "\u{1f600}", "b", "\uffee", "10"]]]);
  const sorted = ["10", "2", "b", "\uffee", "\u{1f600}"];
  assertEquals(planner.derivePlan(dests, ["k"], "bcast")[0]!.ids, sorted);
  assertEquals(planner.derivePlan(dests, ["k"], "gather-scatter")[0]!.ids, [sorted]);
});

Deno.test("derivePlan() does not depend on the order of destinations and of their ids", () => {
  fc.assert(fc.property(clusterCase, fc.constantFrom(...everyPattern), (spec, pattern) => {
    const { tracker, dests, keys } = buildCluster(spec);
    const planner = new RedistribPlanner({ gpusPerNode: spec.gpusPerNode }, tracker);
    const turned = new Map([...dests].reverse().map(([rank, ids]) => [rank, [...ids].reverse()]));
    assertEquals(planner.derivePlan(turned, keys, pattern), planner.derivePlan(dests, keys, pattern));
  }));
});

Deno.test("derivePlan() brings every destination what it asked for, from ranks that have it by then", () => {
  fc.assert(fc.property(clusterCase, fc.constantFrom(...everyPattern), (spec, pattern) => {
    const { tracker, dests, keys } = buildCluster(spec);
    const owners = (tracker.toJSON() as { data_owner: unknown }).data_owner;
    const plan = new RedistribPlanner({ gpusPerNode: spec.gpusPerNode }, tracker).derivePlan(dests, keys, pattern);
    validatePlan(plan, { worldSize: spec.worldSize });
    for (const step of plan) {
      for (const { src, ids } of deliveriesOf(step)) {
        for (const id of ids) for (const key of step.keys) assert(tracker.keysOf(src, id).includes(key));
      }
      tracker.applyPlan([step]);
    }
    for (const [rank, ids] of dests) {
      for (const id of ids) for (const key of keys) assert(tracker.keysOf(rank, id).includes(key));
    }
    assertEquals((tracker.toJSON() as { data_owner: unknown }).data_owner, owners);
    const again = new RedistribPlanner({ gpusPerNode: spec.gpusPerNode }, tracker);
    assertEquals(again.derivePlan(dests, keys, pattern), []);
  }));
});

Deno.test("derivePlan() in the pattern bcast sends nothing to a rank that has it, and nothing twice", () => {
  fc.assert(fc.property(clusterCase, (spec) => {
    const { tracker, dests, keys } = buildCluster(spec);
    const sent = new Set<string>();
    for (const step of new RedistribPlanner(spec, tracker).derivePlan(dests, keys, "bcast")) {
      assert(step.commType === "bcast" && step.dsts.length > 0 && step.ids.length > 0);
      for (const dst of step.dsts) {
        for (const id of step.ids) {
          const what = JSON.stringify([dst, id, step.keys]);
          assert(!sent.has(what) && !tracker.keysOf(dst, id).includes(step.keys[0]!));
          assert(dests.get(dst)!.includes(id));
          sent.add(what);
        }
      }
    }
  }));
});
