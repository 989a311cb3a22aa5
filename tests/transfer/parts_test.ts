import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { partsOf } from "../../src/transfer/parts.ts";

Deno.test("partsOf() lets large items travel alone and packs what lies between", () => {
  const bytes = Float64Array.of(10, 1 << 20, 20, 30, 1 << 21, 1 << 21);
  assertEquals(partsOf(Uint32Array.of(0, 1, 2, 3, 4, 5), bytes, 2), [
    { start: 0, end: 1, bytes: 10 },
    { start: 1, end: 2, bytes: 1 << 20 },
    { start: 2, end: 4, bytes: 50 },
    { start: 4, end: 5, bytes: 1 << 21 },
    { start: 5, end: 6, bytes: 1 << 21 },
  ]);
});

Deno.test("partsOf() cuts without gaps, keeps every byte, and bounds the operations of a rank that sends to all", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1 << 17, max: 1 << 22 })), {
        minLength: 1,
      }),
      fc.integer({ min: 2, max: 512 }),
      (sizes, worldSize) => {
        const bytes = Float64Array.from(sizes);
        const items = Uint32Array.from(sizes.keys());
        const parts = partsOf(items, bytes, worldSize);
        let position = 0;
        for (const { start, end, bytes: sum } of parts) {
          assertEquals(start, position);
          assertEquals(sum, sizes.slice(start, end).reduce((total, size) => total + size, 0));
          position = end;
        }
        assertEquals(position, items.length);
        assertEquals(parts.length <= Math.max(1, 256 / worldSize + 1), true);
      },
    ),
  );
});
