import { assert, assertEquals } from "@std/assert";
import { compareCodePoints, sortCodePoints } from "../../src/plan/code_points.ts";
import fc from "fast-check";

/** Strings over code units where the two orders differ, lone surrogates included. */
const awkward = fc.array(
  fc.constantFrom("a", "\ud83d", "\ude00", "\udbff", "\ue000", "\uffff", "\u{1f600}", "\u{10ffff}"),
  {
    maxLength: 4,
  },
).map((parts) => parts.join(""));

/** The definition: the lists of code points compare one after another. */
function byDefinition(a: string, b: string): number {
  const [x, y] = [a, b].map((text) => Array.from(text, (point) => point.codePointAt(0)!)) as [number[], number[]];
  for (let i = 0; i < x.length && i < y.length; i++) if (x[i] !== y[i]) return Math.sign(x[i]! - y[i]!);
  return Math.sign(x.length - y.length);
}

Deno.test("compareCodePoints() puts U+FFFF before U+1F600 although its code unit is higher", () => {
  assert(compareCodePoints("\uffff", "\u{1f600}") < 0);
  assert("\uffff" > "\u{1f600}");
});

Deno.test("compareCodePoints() agrees with the definition, for lone surrogates too", () => {
  fc.assert(
    fc.property(awkward, awkward, (a, b) => assertEquals(Math.sign(compareCodePoints(a, b)), byDefinition(a, b))),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (a, b) => {
    assertEquals(Math.sign(compareCodePoints(a, b)), byDefinition(a, b));
  }));
});

Deno.test("sortCodePoints() sorts by the definition and leaves its argument", () => {
  fc.assert(fc.property(fc.array(fc.oneof(awkward, fc.string({ maxLength: 3 }))), (ids) => {
    const before = [...ids];
    assertEquals(sortCodePoints(ids), [...ids].sort(byDefinition));
    assertEquals(ids, before);
  }));
});
