import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { Scratch } from "../src/scratch.ts";

Deno.test("Scratch gives out the same memory again after a reset, all zero", () => {
  const scratch = new Scratch();
  for (let round = 0; round < 3; round++) {
    scratch.reset();
    const [bytes, signed, unsigned, floats] = [
      scratch.uint8(3),
      scratch.int32(5),
      scratch.uint32(7),
      scratch.float64(9),
    ];
    for (const array of [bytes, signed, unsigned, floats]) {
      assertEquals(array.byteOffset % array.BYTES_PER_ELEMENT, 0);
      assert(array.every((value) => value === 0));
      array.fill(255);
    }
    // None reaches into another.
    assertEquals([bytes, signed, unsigned, floats].map(({ length }) => length), [3, 5, 7, 9]);
    assert([bytes, signed, unsigned, floats].every((array) => array.every((value) => value === 255)));
  }
  scratch.reset();
  const first = scratch.float64(9).buffer;
  scratch.reset();
  assertStrictEquals(scratch.float64(9).buffer, first);
});

Deno.test("Scratch grows to what was asked for, and gives memory up that was too much many times in a row", () => {
  const scratch = new Scratch();
  const alone = scratch.int32(1000);
  assertEquals(scratch.byteLength, 0);
  scratch.reset();
  assertEquals(scratch.byteLength, 5000);
  assertNotStrictEquals(scratch.int32(1000).buffer, alone.buffer);
  // Beyond what there is, memory of its own.
  assertNotStrictEquals(scratch.int32(1000).buffer, scratch.int32(1).buffer);
  scratch.reset();
  const large = scratch.byteLength;
  for (let round = 0; round < 15; round++) {
    scratch.int32(10);
    scratch.reset();
    assertEquals(scratch.byteLength, large);
  }
  scratch.int32(10);
  scratch.reset();
  assertEquals(scratch.byteLength, 56);
});
