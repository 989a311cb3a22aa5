import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { NumberSet } from "../../src/plan/number_set.ts";

Deno.test("NumberSet gives each number once, ascending, and is empty then", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 5000 }).chain((limit) =>
      fc.tuple(fc.constant(limit), fc.array(fc.array(fc.nat({ max: limit - 1 })), { maxLength: 4 }))
    ),
    ([limit, rounds]) => {
      const set = new NumberSet(limit);
      for (const numbers of rounds) {
        for (const n of numbers) set.add(n);
        assertEquals([...set.takeAll()], [...new Set(numbers)].sort((a, b) => a - b));
      }
      assertEquals(set.takeAll().length, 0);
    },
  ));
});

Deno.test("NumberSet has room for its first and last number and for all at once", () => {
  for (const limit of [1, 31, 32, 33, 1023, 1024, 1025]) {
    const set = new NumberSet(limit);
    for (let n = limit - 1; n >= 0; n--) set.add(n);
    assertEquals([...set.takeAll()], Array.from({ length: limit }, (_, n) => n));
  }
});
