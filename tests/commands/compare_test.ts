import { assertEquals } from "@std/assert";
import { type HostTensor, SequenceSample, type SequenceSampleInit } from "../../mod.ts";
import { Source } from "../../src/commands/compare.ts";

function make(
  ids: readonly string[],
  bytes: readonly number[],
  change: Partial<SequenceSampleInit> = {},
): SequenceSample {
  const tensor: HostTensor = { dtype: "uint8", shape: [bytes.length], bytes: new Uint8Array(bytes) };
  return new SequenceSample({
    ids,
    keys: ["k"],
    dtypes: { k: "uint8" },
    trailingShapes: { k: [] },
    seqlens: { k: ids.map(() => [bytes.length / ids.length]) },
    data: { k: tensor },
    metadata: { line: ids.map((_, i) => i) },
    ...change,
  });
}

const source = new Source(make(["a", "b"], [1, 2, 3, 4]));

Deno.test("Source.compare() counts tensors and bytes when all is the same", () => {
  assertEquals(source.compare(3, make(["a", "b"], [1, 2, 3, 4])), { tensors: 2, bytes: 4, wrong: 0, differences: [] });
});

Deno.test("Source.compare() finds one byte that differs", () => {
  assertEquals(source.compare(3, make(["a", "b"], [1, 2, 3, 5])), {
    tensors: 2,
    bytes: 4,
    wrong: 1,
    differences: [{ rank: 3, id: "b", key: "k", what: "its bytes differ from the source's at byte 1 of 2" }],
  });
});

const changed: readonly (readonly [string, Partial<SequenceSampleInit>])[] = [
  ["its metadata is", { metadata: { line: [9] } }],
  ["its metadata is", { metadata: {} }],
  ["its lengths are", { seqlens: { k: [[1, 1]] } }],
  ["its dtype is", {
    dtypes: { k: "int8" },
    data: { k: { dtype: "int8", shape: [2], bytes: new Uint8Array([1, 2]) } },
  }],
  ["its shape is", {
    seqlens: { k: [[3]] },
    data: { k: { dtype: "uint8", shape: [3], bytes: new Uint8Array([1, 2, 3]) } },
  }],
];
for (const [what, change] of changed) {
  Deno.test(`Source.compare() says "${what} ..." for ${JSON.stringify(Object.keys(change))}`, () => {
    const { wrong, differences } = source.compare(0, make(["a"], [1, 2], change));
    assertEquals([wrong, differences[0]!.what.slice(0, what.length)], [1, what]);
  });
}

Deno.test("Source.compare() finds a key that is missing and one that is too many", () => {
  const other = make(["a"], [1, 2], {
    keys: ["m"],
    dtypes: { m: "uint8" },
    trailingShapes: { m: [] },
    seqlens: { m: [[2]] },
    data: { m: { dtype: "uint8", shape: [2], bytes: new Uint8Array([1, 2]) } },
  });
  assertEquals(source.compare(0, other).differences.map(({ key, what }) => [key, what]), [
    ["k", "the key is missing"],
    ["m", "the source has no such key"],
  ]);
});

Deno.test("Source.compareIds() finds ids that are missing and ids that are too many", () => {
  const { wrong, differences } = source.compareIds(1, new Set(["a", "b"]), new Set(["b", "c"]));
  assertEquals(wrong, 2);
  assertEquals(differences.map(({ id, what }) => [id, what]), [
    ["a", "it should be there, and is not"],
    ["c", "it is there, and should not be"],
  ]);
});
