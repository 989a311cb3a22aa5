import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseLayouts } from "../../mod.ts";
import { balancedParts, contiguousShares, planStages } from "../../src/commands/stages.ts";

Deno.test("contiguousShares() cuts ids into runs of about the same count", () => {
  assertEquals(contiguousShares(["a", "b", "c", "d", "e"], 2), [["a", "b"], ["c", "d", "e"]]);
  assertEquals(contiguousShares(["a"], 3), [[], [], ["a"]]);
});

Deno.test("balancedParts() gives each part as many ids, and about as many bytes", () => {
  const bytesOf = new Map([["a", 100], ["b", 10], ["c", 90], ["d", 20]]);
  assertEquals(balancedParts(["a", "b", "c", "d"], 2, bytesOf), [["a", "b"], ["c", "d"]]);
});

Deno.test("balancedParts() leaves no id out and none twice", () => {
  fc.assert(fc.property(
    fc.array(fc.nat(1000), { maxLength: 40 }),
    fc.integer({ min: 1, max: 9 }),
    (sizes, parts) => {
      const ids = sizes.map((_, i) => `id${i}`);
      const result = balancedParts(ids, parts, new Map(ids.map((id, i) => [id, sizes[i]!])));
      assertEquals(result.length, parts);
      assertEquals(result.flat().sort(), [...ids].sort());
      const counts = result.map(({ length }) => length);
      assert(Math.max(...counts) - Math.min(...counts) <= 1);
    },
  ));
});

const ids = Array.from({ length: 10 }, (_, i) => String(i));
const layout = parseLayouts("actor=pp1,dp4,tp1 critic@4=pp1,dp2,tp2 trainer=pp2,dp2,tp2");

for (const pattern of ["gather-scatter", "bcast"] as const) {
  Deno.test(`planStages() with ${pattern} brings every rank of a dp rank that dp rank's ids`, () => {
    const { shares, stages } = planStages(layout, { ids, keys: ["k", "l"] }, pattern);
    assertEquals([...shares.keys()], [0, 1, 2, 3]);
    assertEquals([...shares.values()].flat(), ids);
    assertEquals(stages.map(({ from, to }) => [from, to]), [["actor/0", "critic/0"], ["critic/0", "trainer/0"]]);
    for (const { to, dests, holds } of stages) {
      const perDp = Array.from({ length: 2 }, (_, data) => {
        const ranks = layout.ranksOf(to, { data });
        for (const rank of ranks) assertEquals(dests.get(rank), dests.get(ranks[0]!));
        return dests.get(ranks[0]!)!;
      });
      assertEquals(perDp.flat().sort(), ids);
      for (const [rank, wanted] of dests) assert(new Set(wanted).isSubsetOf(holds[rank]!));
    }
  });

  Deno.test(`planStages() with ${pattern} keeps what ranks had`, () => {
    const { shares, stages } = planStages(layout, { ids, keys: ["k"] }, pattern);
    let before = Array.from({ length: 8 }, (_, rank) => new Set(shares.get(rank)));
    for (const { holds } of stages) {
      for (const [rank, held] of before.entries()) assert(held.isSubsetOf(holds[rank]!));
      before = holds.map((held) => new Set(held));
    }
  });
}

Deno.test("planStages() with bcast sends nothing to ranks that have it", () => {
  const there = parseLayouts("a=pp1,dp2,tp1 b=pp1,dp1,tp2 c=pp1,dp2,tp1");
  const { stages } = planStages(there, { ids, keys: ["k"] }, "bcast");
  assertEquals(stages[1]!.plan, []);
});
