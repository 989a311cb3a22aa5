import { assertEquals } from "@std/assert";
import { NumberColumn, numbersUpTo } from "../../src/device/number_column.ts";

Deno.test("numbersUpTo() takes no more room than the largest number needs", () => {
  const kinds = [0, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1].map((largest) => numbersUpTo(largest, 2));
  assertEquals(kinds.map(({ BYTES_PER_ELEMENT }) => BYTES_PER_ELEMENT), [1, 1, 4, 4, 8, 8]);
  assertEquals(kinds.map(({ length }) => length), [2, 2, 2, 2, 2, 2]);
});

Deno.test("NumberColumn keeps every number, whatever it has room for at first", () => {
  const column = new NumberColumn(new Uint8Array([7, 255]));
  const expected = [7, 255];
  for (const value of [0, 256, 255, 2 ** 32 - 1, 2 ** 32, 3, 2 ** 53 - 1]) {
    assertEquals(column.push(value), expected.push(value) - 1);
    assertEquals(expected.map((_, i) => column.at(i)), expected);
  }
  assertEquals(column.length, expected.length);
  const other = new NumberColumn(new Uint8Array(1));
  other.push(1);
  other.set(0, 300);
  assertEquals([other.at(0), other.at(1), other.length], [300, 1, 2]);
});
