import { assertEquals, assertThrows } from "@std/assert";
import { PlanError } from "../../src/errors.ts";
import { parsePlan, planToJSON } from "../../src/plan/plan_json.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import fc from "fast-check";
import { anyStep } from "./arbitraries.ts";

const bcast = { comm_type: "bcast", root: 0, srcs: [0], dsts: [2, 1], ids: ["a", "b"], keys: ["k"] };
const gather = { comm_type: "gather", root: 0, srcs: [0, 3], dsts: null, ids: [["a"], ["b"]], keys: ["k", "m"] };
const scatter = { comm_type: "scatter", root: 0, srcs: null, dsts: [4, 2], ids: [["b", "a"], []], keys: ["k"] };
const exchange = {
  comm_type: "exchange",
  root: null,
  srcs: [1, 1],
  dsts: [[0, 2], [3]],
  ids: [["a"], ["b"]],
  keys: ["k"],
};
const everyKind = [bcast, gather, scatter, exchange];

Deno.test("parsePlan() reads every kind of step, from a value and from text", () => {
  const expected: RedistribStep[] = [
    { commType: "bcast", root: 0, srcs: [0], dsts: [2, 1], ids: ["a", "b"], keys: ["k"] },
    { commType: "gather", root: 0, srcs: [0, 3], dsts: null, ids: [["a"], ["b"]], keys: ["k", "m"] },
    { commType: "scatter", root: 0, srcs: null, dsts: [4, 2], ids: [["b", "a"], []], keys: ["k"] },
    { commType: "exchange", root: null, srcs: [1, 1], dsts: [[0, 2], [3]], ids: [["a"], ["b"]], keys: ["k"] },
  ];
  assertEquals(parsePlan(everyKind), expected);
  assertEquals(parsePlan(JSON.stringify(everyKind)), expected);
  assertEquals(parsePlan([]), []);
});

Deno.test("planToJSON() writes the reference's fields in their order, nulls included", () => {
  assertEquals(JSON.stringify(planToJSON(parsePlan(everyKind))), JSON.stringify(everyKind));
});

Deno.test("parsePlan() undoes planToJSON() for every well-formed plan", () => {
  fc.assert(fc.property(fc.array(anyStep, { maxLength: 6 }), (plan) => {
    assertEquals(parsePlan(planToJSON(plan)), plan);
    assertEquals(parsePlan(JSON.stringify(planToJSON(plan))), plan);
  }));
});

Deno.test("parsePlan() and planToJSON() share nothing with what they are given", () => {
  const json = structuredClone(everyKind);
  const plan = parsePlan(json);
  const written = planToJSON(plan);
  json[1]!.ids[0] = ["changed"];
  json[3]!.dsts![0] = [9];
  assertEquals(planToJSON(plan), everyKind);
  plan[1]!.keys[0] = "changed";
  (plan[2]!.ids[0] as string[]).push("c");
  assertEquals(written, everyKind);
});

Deno.test("parsePlan() accepts what can run although nothing, or little, moves in it", () => {
  for (
    const step of [
      { ...bcast, dsts: [0] },
      { ...bcast, dsts: [0, 1] },
      { ...bcast, dsts: [] },
      { ...bcast, ids: [] },
      { ...gather, srcs: [3, 1] },
      { ...gather, srcs: [0], ids: [["a"]] },
      { ...gather, ids: [["a"], ["a"]] },
      { ...gather, ids: [[], []] },
      { ...scatter, dsts: [0, 4] },
      { ...scatter, ids: [["a", "b"], ["b", "a"]] },
      { ...scatter, ids: [[], []] },
      { ...exchange, srcs: [1, 0], dsts: [[1], []] },
      { ...exchange, srcs: [], dsts: [], ids: [] },
    ]
  ) assertEquals(planToJSON(parsePlan([step])), [step]);
});

Deno.test("parsePlan() refuses anything else and names the place", () => {
  const cases: [step: unknown, place: string][] = [
    [null, ""],
    [[], ""],
    ["bcast", ""],
    [{ ...bcast, comm_type: "ring" }, ".comm_type"],
    [{ ...bcast, comm_type: null }, ".comm_type"],
    [{ ...bcast, commType: "bcast" }, ".commType"],
    [{ ...bcast, extra: 1 }, ".extra"],
    ...["comm_type", "root", "srcs", "dsts", "ids", "keys"].map((name): [unknown, string] => {
      const { [name as "root"]: _, ...rest } = bcast;
      return [rest, `.${name}`];
    }),
    [{ ...bcast, root: -1 }, ".root"],
    [{ ...bcast, root: 0.5 }, ".root"],
    [{ ...bcast, root: "0" }, ".root"],
    [{ ...bcast, root: null }, ".root"],
    [{ ...bcast, root: 2 ** 53 }, ".root"],
    [{ ...bcast, srcs: null }, ".srcs"],
    [{ ...bcast, srcs: [] }, ".srcs"],
    [{ ...bcast, srcs: [1] }, ".srcs"],
    [{ ...bcast, srcs: [0, 1] }, ".srcs"],
    [{ ...bcast, dsts: null }, ".dsts"],
    [{ ...bcast, dsts: [[1]] }, ".dsts[0]"],
    [{ ...bcast, dsts: [1, -2] }, ".dsts[1]"],
    [{ ...bcast, dsts: [1, 2, 1] }, ".dsts[2]"],
    [{ ...bcast, dsts: "12" }, ".dsts"],
    [{ ...bcast, ids: [["a"]] }, ".ids[0]"],
    [{ ...bcast, ids: ["a", 2] }, ".ids[1]"],
    [{ ...bcast, ids: ["a", "a"] }, ".ids[1]"],
    [{ ...bcast, ids: null }, ".ids"],
    [{ ...bcast, keys: [] }, ".keys"],
    [{ ...bcast, keys: "k" }, ".keys"],
    [{ ...bcast, keys: [null] }, ".keys[0]"],
    [{ ...bcast, keys: ["k", "k"] }, ".keys[1]"],
    [{ ...gather, dsts: [0] }, ".dsts"],
    [{ ...gather, srcs: null }, ".srcs"],
    [{ ...gather, srcs: [3, 3] }, ".srcs[1]"],
    [{ ...gather, ids: ["a", "b"] }, ".ids[0]"],
    [{ ...gather, ids: [["a"]] }, ".ids"],
    [{ ...gather, ids: [["a"], ["b", "b"]] }, ".ids[1][1]"],
    [{ ...scatter, srcs: [0] }, ".srcs"],
    [{ ...scatter, root: null }, ".root"],
    [{ ...scatter, dsts: [4, 4] }, ".dsts[1]"],
    [{ ...scatter, ids: [["a"], [], []] }, ".ids"],
    [{ ...exchange, root: 1 }, ".root"],
    [{ ...exchange, dsts: [0, 3] }, ".dsts[0]"],
    [{ ...exchange, dsts: [[0, 2]] }, ".dsts"],
    [{ ...exchange, dsts: [[0, 0], [3]] }, ".dsts[0][1]"],
    [{ ...exchange, dsts: [[0, 2], [1.5]] }, ".dsts[1][0]"],
    [{ ...exchange, ids: [["a"]] }, ".ids"],
  ];
  for (const [step, place] of cases) {
    const error = assertThrows(() => parsePlan([gather, step]), PlanError, `plan[1]${place}`);
    assertEquals(error.place, `plan[1]${place}`, error.message);
  }
  for (const json of [undefined, null, 7, {}, "", "{}", "[", bcast, '"[]"']) {
    assertEquals(assertThrows(() => parsePlan(json), PlanError).place, "plan");
  }
});

Deno.test("planToJSON() refuses what is no step", () => {
  for (const plan of [[null], [, parsePlan([bcast])[0]], [3]] as unknown as RedistribStep[][]) {
    const { place } = assertThrows(() => planToJSON(plan), PlanError, "a step is an object");
    assertEquals(place, "plan[0]");
  }
});
