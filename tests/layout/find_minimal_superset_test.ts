import { assert, assertEquals } from "@std/assert";
import { findMinimalSuperset } from "../../src/layout/find_minimal_superset.ts";
import fc from "fast-check";
import { readFixture } from "../fixtures/read_fixture.ts";

const vectors = await readFixture<{ A: number[][]; B: number[]; result: number[] | null }[]>(
  "layout/find_minimal_superset.json",
);

Deno.test("findMinimalSuperset() agrees with the vectors", () => {
  for (const { A, B, result } of vectors) assertEquals(findMinimalSuperset(A, B), result);
});

Deno.test("findMinimalSuperset() counts a repeated rank once and sorts", () => {
  assertEquals(findMinimalSuperset([[3, 1, 2], [2, 2, 1, 1]], [1]), [1, 2]);
});

Deno.test("findMinimalSuperset() finds a set exactly when one contains the wanted ranks, and none is smaller", () => {
  const ranks = fc.uniqueArray(fc.integer({ min: 0, max: 6 }));
  fc.assert(fc.property(fc.array(ranks), ranks, (sets, wanted) => {
    const contains = (set: number[]): boolean => wanted.every((rank) => set.includes(rank));
    const found = findMinimalSuperset(sets, wanted);
    if (found === null) return assert(!sets.some(contains));
    assert(contains(found));
    assert(sets.filter(contains).every((set) => set.length >= found.length));
    const first = sets.find((set) => contains(set) && set.length === found.length)!;
    assertEquals(found, [...first].sort((a, b) => a - b));
  }));
});
