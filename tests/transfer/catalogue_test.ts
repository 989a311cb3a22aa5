import { assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { Catalogue, SequenceSample } from "../../mod.ts";
import { LatestCatalogue } from "../../src/transfer/catalogue.ts";

function sample(lengths: readonly (readonly number[])[]): SequenceSample {
  return new SequenceSample({
    ids: lengths.map((_, i) => `id-${i}`),
    keys: ["k"],
    dtypes: { k: "float32" },
    trailingShapes: { k: [2] },
    seqlens: { k: lengths },
  });
}

Deno.test("a catalogue has lengths and sizes by item, and sums of sizes", () => {
  const catalogue = new Catalogue(sample([[1], [2, 3], [], [4]]));
  assertEquals([...catalogue.lengths], [1, 5, 0, 4]);
  assertEquals([...catalogue.bytes], [8, 40, 0, 32]);
  assertEquals([...catalogue.isSingle], [1, 0, 0, 1]);
  assertEquals(catalogue.idIndex("id-2"), 2);
  assertEquals(catalogue.idIndex("id-4"), undefined);
  assertEquals(catalogue.bytesBetween(1, 4), 72);
  for (const items of [[], [0], [0, 1, 2, 3], [1, 3], [0, 2, 3], [3, 0, 1]]) {
    const expected = items.reduce((total, item) => total + catalogue.bytes[item]!, 0);
    assertEquals(catalogue.totalBytes(Uint32Array.from(items)), expected);
  }
});

Deno.test("LatestCatalogue.of() gives the same for the same sample, until another is asked for", () => {
  const catalogues = new LatestCatalogue();
  const meta = sample([[1], [2, 3], []]);
  const catalogue = catalogues.of(meta);
  assertStrictEquals(catalogues.of(meta), catalogue);
  assertNotStrictEquals(catalogues.of(sample([[7], [8], [9], [1], [2]])), catalogue);
  assertEquals([...catalogues.of(sample([[2]])).bytes], [16]);
  const again = catalogues.of(meta);
  assertEquals([[...again.lengths], [...again.bytes], [...again.isSingle]], [[1, 5, 0], [8, 40, 0], [1, 0, 0]]);
  assertEquals(again.totalBytes(Uint32Array.of(0, 1, 2)), 48);
});

Deno.test("LatestCatalogue.of() makes a new one when the sample was changed", () => {
  const catalogues = new LatestCatalogue();
  const meta = sample([[1], [2]]);
  catalogues.of(meta);
  meta.update(sample([[4], [5]]));
  assertEquals([...catalogues.of(meta).lengths], [4, 5]);
  meta.remapKeys({ k: "other" });
  assertEquals(catalogues.of(meta).keys.map(({ name }) => name), ["other"]);
});
