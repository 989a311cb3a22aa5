import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { SampleError } from "../../src/errors.ts";
import { bitonicOrder } from "../../src/sample/bitonic_order.ts";
import { firstFitDecreasing } from "../../src/sample/first_fit_decreasing.ts";

/** What is documented, by trying all groups for each value. */
function byTrying(values: number[], capacity: number, minGroups: number): number[][] {
  const groups: number[][] = [];
  const sum = (group: number[]) => group.reduce((total, i) => total + values[i]!, 0);
  for (const i of bitonicOrder(values)) {
    const room = groups.filter((group) => sum(group) + values[i]! <= capacity);
    if (groups.length < minGroups || room.length === 0) {
      groups.push([i]);
      continue;
    }
    // A sort is stable: of groups that are equal in both the oldest comes first.
    room.sort((a, b) => a.length - b.length || sum(a) - sum(b))[0]!.push(i);
  }
  return groups;
}

Deno.test("firstFitDecreasing() allocates as trying all groups would", () => {
  const inputs = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 60 }).chain((values) =>
    fc.tuple(fc.constant(values), fc.integer({ min: 20, max: 100 }), fc.integer({ min: 1, max: values.length }))
  );
  fc.assert(fc.property(inputs, ([values, capacity, minGroups]) => {
    const groups = firstFitDecreasing(values, capacity, minGroups);
    assertEquals(groups, byTrying(values, capacity, minGroups));
    assert(groups.length >= minGroups);
    assertEquals(groups.flat().sort((a, b) => a - b), values.map((_, i) => i));
  }));
});

Deno.test("firstFitDecreasing() refuses a value above the capacity, and fewer values than groups", () => {
  assertEquals(assertThrows(() => firstFitDecreasing([1, 8], 7, 1), SampleError).field, "lens[1]");
  assertEquals(assertThrows(() => firstFitDecreasing([1, 2], 7, 3), SampleError).field, "nMbs");
  assertThrows(() => firstFitDecreasing([], 7, 1), SampleError);
});
