import { assertEquals, assertThrows } from "@std/assert";
import { PlanError } from "../../src/errors.ts";
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import fc from "fast-check";
import { readFixture } from "../fixtures/read_fixture.ts";
import { anyStep, buildCluster, clusterCase } from "./arbitraries.ts";

const vectors = await readFixture<{ op: string; after: unknown }[]>("plan/tracker.json");

Deno.test("GlobalStorageTracker agrees with the vectors after every call", () => {
  const tracker = new GlobalStorageTracker(3);
  for (const { op, after } of vectors) {
    const [call, text] = /^(\w+)\((.*)\)$/.exec(op)!.slice(1) as [string, string];
    const args = JSON.parse(`[${text.replace("True", "true").replace("False", "false")}]`);
    if (call === "clear_data") tracker.clearData(args[0]);
    else tracker.addData(args[0], args[1], args[2], args[3]);
    assertEquals(tracker.toJSON(), after, op);
    assertEquals(GlobalStorageTracker.fromJSON(after).toJSON(), after, op);
  }
});

Deno.test("keysOf() keeps the order in which keys came to the rank", () => {
  const tracker = new GlobalStorageTracker(2);
  tracker.addData(0, ["a"], "x", true);
  tracker.addData(0, ["a"], "y", true);
  tracker.addData(1, ["a"], "y", false);
  tracker.addData(1, ["a"], "x", false);
  assertEquals(tracker.keysOf(0, "a"), ["x", "y"]);
  assertEquals(tracker.keysOf(1, "a"), ["y", "x"]);
  assertEquals(tracker.keysOf(1, "nowhere"), []);
  tracker.keysOf(1, "a").push("z");
  assertEquals(tracker.keysOf(1, "a"), ["y", "x"]);
});

Deno.test("ownerOf() follows the last owner and stays when others hold the data too", () => {
  const tracker = new GlobalStorageTracker(3);
  assertEquals(tracker.ownerOf("a", "x"), undefined);
  tracker.addData(0, ["a"], "x", false);
  assertEquals(tracker.ownerOf("a", "x"), undefined);
  tracker.addData(2, ["a"], "x", true);
  tracker.addData(1, ["a"], "x", true);
  tracker.addData(0, ["a"], "x", false);
  assertEquals(tracker.ownerOf("a", "x"), 1);
  assertEquals(tracker.holdingsOf("a")!.get("x")!.holders, [0, 1, 2]);
  tracker.clearData(["a", "nowhere"]);
  assertEquals(tracker.ownerOf("a", "x"), undefined);
  assertEquals(tracker.holdingsOf("a"), undefined);
});

Deno.test("applyPlan() gives gather roots and all destinations what they receive and leaves owners", () => {
  const tracker = new GlobalStorageTracker(6);
  tracker.addData(1, ["a"], "k", true);
  tracker.addData(2, ["b"], "k", true);
  tracker.applyPlan([
    { commType: "gather", root: 0, srcs: [1, 2], dsts: null, ids: [["a"], ["b"]], keys: ["k"] },
    { commType: "scatter", root: 0, srcs: null, dsts: [4, 3], ids: [["b", "a"], ["a"]], keys: ["k"] },
    { commType: "bcast", root: 2, srcs: [2], dsts: [1], ids: ["b"], keys: ["k"] },
    { commType: "exchange", root: null, srcs: [1, 1], dsts: [[5], [2]], ids: [["b"], ["a"]], keys: ["k"] },
  ]);
  const held = [0, 1, 2, 3, 4, 5].map((rank) =>
    ["a", "b"].filter((id) => tracker.keysOf(rank, id).length > 0).join("")
  );
  assertEquals(held, ["ab", "ab", "ab", "a", "ab", "b"]);
  assertEquals([tracker.ownerOf("a", "k"), tracker.ownerOf("b", "k")], [1, 2]);
});

Deno.test("applyPlan() notes nothing of a plan that it refuses", () => {
  const tracker = new GlobalStorageTracker(2);
  const good: RedistribStep = { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys: ["k"] };
  assertThrows(() => tracker.applyPlan([good, { ...good, dsts: [2] }]), PlanError, "plan[1].dsts[0]");
  assertEquals(tracker.keysOf(1, "a"), []);
});

Deno.test("fromJSON() undoes toJSON(), whatever the ids are called", () => {
  fc.assert(fc.property(clusterCase, fc.array(anyStep, { maxLength: 3 }), (spec, plan) => {
    const { tracker } = buildCluster({ ...spec, worldSize: 12 });
    tracker.applyPlan(plan);
    tracker.addData(3, ["__proto__", "constructor", "7"], "__proto__", true);
    const text = JSON.stringify(tracker);
    const copy = GlobalStorageTracker.fromJSON(JSON.parse(text));
    assertEquals(JSON.stringify(copy), text);
    assertEquals(JSON.stringify(GlobalStorageTracker.fromJSON(text)), text);
    assertEquals(copy.worldSize, 12);
    assertEquals(copy.keysOf(3, "__proto__"), ["__proto__"]);
    assertEquals(copy.keysOf(2, "constructor"), tracker.keysOf(2, "constructor"));
  }));
});

Deno.test("fromJSON() refuses what is no tracker's state and names the place", () => {
  const storages = [{ a: ["k"] }, {}];
  const data_owner = [["a", "k", 0]];
  const cases: [state: unknown, place: string][] = [
    [null, "tracker"],
    [[], "tracker"],
    ["{", "tracker"],
    [{ data_owner }, "storages"],
    [{ storages }, "data_owner"],
    [{ storages, data_owner, more: 1 }, "more"],
    [{ storages: [], data_owner: [] }, "storages"],
    [{ storages: [null], data_owner: [] }, "storages[0]"],
    [{ storages: [{ a: "k" }], data_owner: [] }, 'storages[0]["a"]'],
    [{ storages: [{ a: [] }], data_owner: [] }, 'storages[0]["a"]'],
    [{ storages: [{ a: [1] }], data_owner: [] }, 'storages[0]["a"]'],
    [{ storages: [{ a: ["k", "k"] }], data_owner: [] }, 'storages[0]["a"]'],
    [{ storages, data_owner: {} }, "data_owner"],
    [{ storages, data_owner: [["a", "k"]] }, "data_owner[0]"],
    [{ storages, data_owner: [[1, "k", 0]] }, "data_owner[0][0]"],
    [{ storages, data_owner: [["a", null, 0]] }, "data_owner[0][1]"],
    [{ storages, data_owner: [["a", "k", 2]] }, "data_owner[0][2]"],
    [{ storages, data_owner: [["a", "k", -1]] }, "data_owner[0][2]"],
    [{ storages, data_owner: [["a", "k", 1]] }, "data_owner[0]"],
    [{ storages, data_owner: [["a", "m", 0]] }, "data_owner[0]"],
    [{ storages, data_owner: [["toString", "k", 0]] }, "data_owner[0]"],
    [{ storages, data_owner: [...data_owner, ...data_owner] }, "data_owner[1]"],
  ];
  assertEquals(GlobalStorageTracker.fromJSON({ storages, data_owner }).ownerOf("a", "k"), 0);
  for (const [state, place] of cases) {
    assertEquals(assertThrows(() => GlobalStorageTracker.fromJSON(state), PlanError).place, place);
  }
});

Deno.test("GlobalStorageTracker refuses ranks that are none, and names that are no strings", () => {
  for (const worldSize of [0, -1, 1.5, NaN, "2"]) {
    assertThrows(() => new GlobalStorageTracker(worldSize as number), PlanError, "worldSize");
  }
  const tracker = new GlobalStorageTracker(2);
  for (const rank of [2, -1, 0.5, NaN, "0"]) {
    assertThrows(() => tracker.addData(rank as number, ["a"], "k", true), PlanError, "rank");
    assertThrows(() => tracker.keysOf(rank as number, "a"), PlanError, "rank");
  }
  assertThrows(() => tracker.addData(0, ["a", 1 as unknown as string], "k", true), PlanError, "ids[1]");
  assertThrows(() => tracker.addData(0, ["a"], 1 as unknown as string, true), PlanError, "key");
  assertThrows(() => tracker.addData(0, "ab" as unknown as string[], "k", true), PlanError, "ids");
  assertEquals(tracker.keysOf(0, "a"), []);
  tracker.addData(0, ["a", "b"], "k", true);
  for (const ids of ["ab", undefined, ["a", 1]]) {
    assertThrows(() => tracker.clearData(ids as string[]), PlanError, "ids");
  }
  assertEquals(tracker.keysOf(0, "a"), ["k"]);
});
