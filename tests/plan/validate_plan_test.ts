import { assertEquals, assertThrows } from "@std/assert";
import { PlanError } from "../../src/errors.ts";
import { parsePlan } from "../../src/plan/plan_json.ts";
import { simulatePlan } from "../../src/plan/simulate.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import type { PlanMeta } from "../../src/plan/plan_meta.ts";
import { resolvePlan, validatePlan } from "../../src/plan/validate_plan.ts";
import fc from "fast-check";
import { anyStep } from "./arbitraries.ts";

const meta: PlanMeta = {
  ids: ["a", "b"],
  keys: ["k", "untyped", "unshaped"],
  dtypes: { k: "int64", untyped: null, unshaped: "int64" },
  trailingShapes: { k: [], untyped: [], unshaped: null },
};

const bcast: RedistribStep = { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] };

Deno.test("validatePlan() accepts every well-formed plan whose ranks, ids and keys are known", () => {
  fc.assert(fc.property(fc.array(anyStep), (plan) => {
    const ids = plan.flatMap((step) => step.ids.flat());
    const keys = plan.flatMap((step) => step.keys);
    const each = <T>(value: T): Record<string, T> => Object.fromEntries(keys.map((key) => [key, value]));
    validatePlan(plan, { worldSize: 12 });
    validatePlan(plan, {
      worldSize: 12,
      meta: { ids, keys, dtypes: each("int8"), trailingShapes: each<number[]>([]) },
    });
  }));
});

Deno.test("validatePlan() refuses ranks outside the world wherever they stand", () => {
  const cases: [step: Record<string, unknown>, place: string][] = [
    [{ comm_type: "bcast", root: 4, srcs: [4], dsts: [1], ids: [], keys: ["k"] }, "root"],
    [{ comm_type: "bcast", root: 0, srcs: [0], dsts: [1, 4], ids: [], keys: ["k"] }, "dsts[1]"],
    [{ comm_type: "gather", root: 0, srcs: [4], dsts: null, ids: [[]], keys: ["k"] }, "srcs[0]"],
    [{ comm_type: "scatter", root: 0, srcs: null, dsts: [0, 4], ids: [[], []], keys: ["k"] }, "dsts[1]"],
    [{ comm_type: "exchange", root: null, srcs: [0, 4], dsts: [[], []], ids: [[], []], keys: ["k"] }, "srcs[1]"],
    [{ comm_type: "exchange", root: null, srcs: [0], dsts: [[1, 4]], ids: [[]], keys: ["k"] }, "dsts[0][1]"],
  ];
  for (const [step, place] of cases) {
    const plan = parsePlan([step]);
    validatePlan(plan, { worldSize: 5 });
    const error = assertThrows(() => validatePlan(plan, { worldSize: 4 }), PlanError, "rank 4");
    assertEquals([error.place, error.rank], [`plan[0].${place}`, 4]);
  }
});

Deno.test("validatePlan() refuses ids and keys that the metadata lacks, and keys without data, by name", () => {
  validatePlan([bcast], { worldSize: 2, meta });
  const refuse = (step: RedistribStep): PlanError =>
    assertThrows(() => validatePlan([bcast, step], { worldSize: 2, meta }), PlanError);
  const flat = refuse({ ...bcast, ids: ["a", "z"] });
  assertEquals([flat.place, flat.id], ["plan[1].ids[1]", "z"]);
  const nested = refuse({ commType: "gather", root: 0, srcs: [0, 1], dsts: null, ids: [["a"], ["z"]], keys: ["k"] });
  assertEquals([nested.place, nested.id], ["plan[1].ids[1][0]", "z"]);
  for (const key of ["zz", "untyped", "unshaped", "toString"]) {
    const error = refuse({ ...bcast, keys: ["k", key] });
    assertEquals([error.place, error.key], ["plan[1].keys[1]", key]);
  }
});

Deno.test("validatePlan() refuses a step that was made by hand and is malformed", () => {
  const refuse = (step: unknown): PlanError =>
    assertThrows(() => validatePlan([step as RedistribStep], { worldSize: 4 }), PlanError);
  const ofPairs = { commType: "exchange", root: null, srcs: [0], ids: [["a"]], keys: ["k"] };
  assertEquals(refuse({ ...ofPairs, dsts: new Array(1) }).place, "plan[0].dsts[0]");
  assertEquals(refuse({ ...bcast, srcs: [1] }).place, "plan[0].srcs");
  assertEquals(refuse({ ...bcast, commType: "ring" }).place, "plan[0].comm_type");
  assertEquals(refuse({ comm_type: "bcast" }).place, "plan[0].comm_type");
  assertEquals(refuse(null).place, "plan[0]");
  assertThrows(() => validatePlan(bcast as unknown as RedistribStep[], { worldSize: 4 }), PlanError, "array");
  const sparse = new Array<RedistribStep>(2);
  sparse[1] = bcast;
  for (const options of [{ worldSize: 4 }, { worldSize: 4, meta }]) {
    assertEquals(assertThrows(() => validatePlan(sparse, options), PlanError).place, "plan[0]");
  }
});

Deno.test("validatePlan() names the rank, id or key that is named twice", () => {
  for (const options of [{ worldSize: 4 }, { worldSize: 4, meta }]) {
    const refuse = (step: RedistribStep) => assertThrows(() => validatePlan([step], options), PlanError, "twice");
    const { place: dst, rank } = refuse({ ...bcast, dsts: [1, 1] });
    assertEquals([dst, rank], ["plan[0].dsts[1]", 1]);
    const { place: ids, id } = refuse({ ...bcast, ids: ["b", "a", "a"] });
    assertEquals([ids, id], ["plan[0].ids[2]", "a"]);
    const { place: keys, key } = refuse({ ...bcast, keys: ["k", "k"] });
    assertEquals([keys, key], ["plan[0].keys[1]", "k"]);
  }
});

Deno.test("validatePlan() and simulatePlan() refuse a number of ranks that cannot be", () => {
  for (const worldSize of [0, -1, 2.5, NaN, Infinity, undefined, "4"] as number[]) {
    for (
      const check of [
        () => validatePlan([], { worldSize }),
        () => validatePlan([bcast], { worldSize, meta }),
        () => simulatePlan([bcast], meta, { gpusPerNode: 8 }, { worldSize }),
      ]
    ) assertEquals(assertThrows(check, PlanError).place, "worldSize");
  }
});

Deno.test("resolvePlan() finds the position of every id, whatever the order", () => {
  const ids = Array.from({ length: 40 }, (_, i) => `id-${i}`);
  const known = { ...meta, ids, keys: ["k"] };
  const positions = new Map(ids.map((id, i) => [id, i]));
  const stretch = fc.tuple(fc.nat(39), fc.integer({ min: -7, max: 7 }).filter((step) => step !== 0), fc.nat(12)).map(
    ([first, step, length]) =>
      Array.from({ length }, (_, n) => first + n * step).filter((position) => position >= 0 && position < 40),
  );
  const list = fc.oneof(stretch, fc.uniqueArray(fc.nat(39)), fc.tuple(stretch, stretch).map(([a, b]) => [...a, ...b]))
    .map((list) => [...new Set(list)]);
  fc.assert(fc.property(fc.array(fc.array(list, { minLength: 1, maxLength: 4 })), (steps) => {
    const plan = steps.map((lists): RedistribStep => ({
      commType: "exchange",
      root: null,
      srcs: lists.map(() => 0),
      dsts: lists.map(() => [1]),
      ids: lists.map((list) => list.map((position) => ids[position]!)),
      keys: ["k"],
    }));
    assertEquals([...resolvePlan(plan, { worldSize: 2, meta: known, positions: () => positions })], steps.flat(2));
  }));
});

Deno.test("resolvePlan() refuses what follows a regular stretch as it does anything else", () => {
  const ids = Array.from({ length: 10 }, (_, i) => `id-${i}`);
  const options = {
    worldSize: 2,
    meta: { ...meta, ids, keys: ["k"] },
    positions: () => new Map(ids.map((id, i) => [id, i])),
  };
  const refuse = (ids: unknown[]) =>
    assertThrows(() => resolvePlan([{ ...bcast, ids: ids as string[] }], options), PlanError);
  // Behind the last id there is nothing, which is not an id called undefined.
  assertEquals(refuse(["id-7", "id-8", "id-9", undefined]).place, "plan[0].ids[3]");
  assertEquals(refuse(["id-3", "id-6", "id-9", undefined]).place, "plan[0].ids[3]");
  assertEquals(refuse(["id-2", "id-1", "id-0", undefined]).place, "plan[0].ids[3]");
  assertEquals(refuse(["id-0", "id-1", "id-2", "id-2"]).place, "plan[0].ids[3]");
  const behind = [["id-8", "id-9"], [undefined]].map((ids) => ({ ...bcast, ids: ids as string[] }));
  assertEquals(assertThrows(() => resolvePlan(behind, options), PlanError).place, "plan[1].ids[0]");
  assertEquals(refuse(["id-0", "id-1", "id-2", "id-30"]).place, "plan[0].ids[3]");
});

Deno.test("resolvePlan() asks for no positions where ids come in order", () => {
  const ids = Array.from({ length: 24 }, (_, i) => `id-${i}`);
  const positions = () => {
    throw new Error("asked");
  };
  const options = { worldSize: 4, meta: { ...meta, ids, keys: ["k"] }, positions };
  const inBlocks = [0, 1, 2, 3].map((rank) => ids.slice(6 * rank, 6 * rank + 6));
  const dealtOut = [0, 1, 2, 3].map((rank) => ids.filter((_, i) => i % 4 === rank));
  const ranks = [0, 1, 2, 3];
  const gather = (ids: string[][]): RedistribStep => (
    { commType: "gather", root: 0, srcs: ranks, dsts: null, ids, keys: ["k"] }
  );
  const scatter = (ids: string[][]): RedistribStep => (
    { commType: "scatter", root: 0, srcs: null, dsts: ranks, ids, keys: ["k"] }
  );
  const places = (lists: string[][]) => lists.flat().map((id) => ids.indexOf(id));
  const twice = inBlocks.slice(0, 2).flatMap((list) => [list, [...list]]);
  for (const [lists, others] of [[inBlocks, twice], [inBlocks, inBlocks]] as const) {
    const plan = [gather(lists), scatter(others)];
    assertEquals([...resolvePlan(plan, options)], places([...lists, ...others]));
  }
  // How far they are apart is learnt from the first list.
  const learnt = { ...options, positions: () => new Map(ids.map((id, i) => [id, i])) };
  assertEquals([...resolvePlan([gather(dealtOut)], learnt)], places(dealtOut));
});
