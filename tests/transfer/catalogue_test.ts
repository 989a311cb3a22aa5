import { assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { SequenceSample } from "../../mod.ts";
import { catalogueOf } from "../../src/transfer/catalogue.ts";

function sample(lengths: readonly (readonly number[])[]): SequenceSample {
  return new SequenceSample({
    ids: lengths.map((_, i) => `id-${i}`),
    keys: ["k"],
    dtypes: { k: "float32" },
    trailingShapes: { k: [2] },
    seqlens: { k: lengths },
  });
}

Deno.test("catalogueOf() makes one for each sample", () => {
  const meta = sample([[1], [2, 3], []]);
  const catalogue = catalogueOf(meta);
  assertStrictEquals(catalogueOf(meta), catalogue);
  assertNotStrictEquals(catalogueOf(sample([[1], [2, 3], []])), catalogue);
  assertEquals([...catalogue.lengths], [1, 5, 0]);
  assertEquals([...catalogue.bytes], [8, 40, 0]);
  assertEquals([...catalogue.isSingle], [1, 0, 0]);
});

Deno.test("catalogueOf() makes a new one when the sample was changed", () => {
  const meta = sample([[1], [2]]);
  catalogueOf(meta);
  meta.update(sample([[4], [5]]));
  assertEquals([...catalogueOf(meta).lengths], [4, 5]);
  meta.remapKeys({ k: "other" });
  assertEquals(catalogueOf(meta).keys.map(({ name }) => name), ["other"]);
});
