import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { LayoutError } from "../../src/errors.ts";
import { parseLayouts } from "../../src/layout/parse_layouts.ts";

Deno.test("parseLayouts() places consecutive ranks in training order and pairs each model with the next", () => {
  assertEquals(parseLayouts("actor=pp1,dp4,tp1 critic@4=pp2,dp1,tp2 actor/1=pp1,dp2,tp2").toJSON(), {
    worldSize: 8,
    models: [
      { name: "actor/0", axes: ["pipe", "data", "tensor"], dims: [1, 4, 1], ranks: [0, 1, 2, 3] },
      { name: "critic/0", axes: ["pipe", "data", "tensor"], dims: [2, 1, 2], ranks: [4, 5, 6, 7] },
      { name: "actor/1", axes: ["pipe", "data", "tensor"], dims: [1, 2, 2], ranks: [0, 1, 2, 3] },
    ],
    transferPairs: [["actor/0", "critic/0"], ["critic/0", "actor/1"]],
  });
});

Deno.test("parseLayouts() keeps training order however the sizes are ordered, and takes any white space", () => {
  const layout = parseLayouts("\n actor=tp2,dp4,pp1\tcritic/3@1=dp1,pp1,tp1 \n");
  assertEquals(layout.models[0]!.topology.axes.join(), "pipe,data,tensor");
  assertEquals(layout.models[0]!.topology.dims.join(), "1,4,2");
  assertEquals(layout.dpHeads("actor/0"), [0, 2, 4, 6]);
  assertEquals(layout.ranksOf("critic/3"), [1]);
});

Deno.test("parseLayouts() takes the smallest world that fits unless told a larger one", () => {
  assertEquals(parseLayouts("a=pp1,dp1,tp1 b@6=pp1,dp2,tp1").worldSize, 8);
  assertEquals(parseLayouts("a=pp1,dp1,tp1", { worldSize: 16 }).worldSize, 16);
  const error = assertThrows(
    () => parseLayouts("a=pp1,dp1,tp1 b@6=pp1,dp2,tp1", { worldSize: 7 }),
    LayoutError,
    "ranks 6 to 7, but there are 7 ranks; 8 are needed",
  );
  assertEquals(error.field, "layouts[1]");
  assertThrows(() => parseLayouts("a=pp1,dp1,tp1", { worldSize: NaN }), LayoutError, "worldSize");
});

Deno.test("parseLayouts() refuses what it cannot read, naming the layout and the reason", () => {
  const cases: [word: string, reason: string][] = [
    ["actor", "no ="],
    ["=pp1,dp1,tp1", "no name"],
    ["@2=pp1,dp1,tp1", "no name"],
    ["actor/x=pp1,dp1,tp1", "actor/x"],
    ["actor/0/1=pp1,dp1,tp1", "actor/0/1"],
    ["ok=pp1,dp1,tp1", "another replica, such as ok/1"],
    ["actor@=pp1,dp1,tp1", 'not ""'],
    ["actor@x=pp1,dp1,tp1", 'not "x"'],
    ["actor@-1=pp1,dp1,tp1", 'not "-1"'],
    ["actor@1@2=pp1,dp1,tp1", '"1@2"'],
    ["actor=", '""'],
    ["actor=pp1,dp1", "tp is missing"],
    ["actor=pp1,dp1,tp1,", '""'],
    ["actor=pp1,dp1,tp1,tp2", "tp is given twice"],
    ["actor=pp1,dp1,ep1", '"ep1"'],
    ["actor=pp1,dp1,constructor1", '"constructor1"'],
    ["actor=pp0,dp1,tp1", '"pp0"'],
    ["actor=pp1,dp-2,tp1", '"dp-2"'],
    ["actor=pp1,dp1.5,tp1", '"dp1.5"'],
    ["actor=pp1,dp,tp1", '"dp"'],
    ["actor=pp1,dp9999999999999999999,tp1", '"dp9999999999999999999"'],
    ["actor=pp4096,dp4096,tp1", "4096 x 4096 x 1"],
  ];
  for (const [word, reason] of cases) {
    const error = assertThrows(() => parseLayouts(`ok=pp1,dp1,tp1 ${word}`), LayoutError);
    assertEquals(error.field, "layouts[1]");
    assertStringIncludes(error.message, reason);
    assertEquals(error.value, word);
  }
  for (const text of ["", " \n"]) assertThrows(() => parseLayouts(text), LayoutError, "no layout");
});

Deno.test("parseLayouts() refuses what is no text", () => {
  assertThrows(() => parseLayouts(5 as unknown as string), LayoutError, "layouts is a text, not 5");
});
