import { assertEquals, assertThrows } from "@std/assert";
import { PlanError } from "../../src/errors.ts";
import { parsePlan } from "../../src/plan/plan_json.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import { type PlanMeta, validatePlan } from "../../src/plan/validate_plan.ts";
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
  assertEquals(refuse({ ...bcast, dsts: [1, 1] }).place, "plan[0].dsts[1]");
  assertEquals(refuse({ ...bcast, srcs: [1] }).place, "plan[0].srcs");
  assertEquals(refuse({ ...bcast, commType: "ring" }).place, "plan[0].comm_type");
  assertEquals(refuse({ comm_type: "bcast" }).place, "plan[0].comm_type");
  assertEquals(refuse(null).place, "plan[0]");
  assertThrows(() => validatePlan(bcast as unknown as RedistribStep[], { worldSize: 4 }), PlanError, "array");
});
