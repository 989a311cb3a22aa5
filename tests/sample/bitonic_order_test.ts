import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { bitonicOrder } from "../../src/sample/bitonic_order.ts";

Deno.test("bitonicOrder() is a permutation that puts the largest first, for any number of values", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 300 }), (values) => {
    const order = bitonicOrder(values);
    assertEquals([...order].sort((a, b) => a - b), values.map((_, i) => i));
    assertEquals(order.map((i) => values[i]), [...values].sort((a, b) => b - a));
  }));
});

Deno.test("bitonicOrder() has equal values in the order of numpy's argsort", () => {
  // np.argsort(-np.array(values)) of numpy 2.4.6 on x86 with AVX-512.
  assertEquals(bitonicOrder([12, 5, 9, 30, 3, 17, 8, 8, 21, 4]), [3, 8, 5, 0, 2, 7, 6, 1, 9, 4]);
  assertEquals(bitonicOrder(new Array(10).fill(1)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(bitonicOrder(Array.from({ length: 20 }, (_, i) => i * 7 % 3)), [
    2,
    5,
    11,
    8,
    14,
    17,
    4,
    7,
    13,
    10,
    16,
    1,
    19,
    6,
    0,
    3,
    15,
    12,
    9,
    18,
  ]);
});
