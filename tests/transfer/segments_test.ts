import { assert, assertEquals } from "@std/assert";
import type { Places } from "../../src/transfer/places.ts";
import { LARGE_BYTES, LARGE_BYTES_BY_KERNEL, segmentsAt, segmentsOf } from "../../src/transfer/segments.ts";

const KIB = 1024;

/** A message of items of these sizes in KiB, each of which lies in a slab of its own, and how a rank of so many cuts it. */
function cut(sizes: readonly number[], worldSize: number, largeBytes = LARGE_BYTES) {
  const bytes = Float64Array.from(sizes, (size) => size * KIB);
  const items = Uint32Array.from(sizes.keys());
  const places = { slabNumberOf: (item: number) => item, offsetOf: () => 0 } as unknown as Places;
  return { items, bytes, segments: segmentsOf({ items }, bytes, places, worldSize, largeBytes) };
}

/** Segments as [start, end, runs]. */
const listed = (segments: ReturnType<typeof segmentsOf>) => segments.map(({ start, end, runs }) => [start, end, runs]);

Deno.test("large runs leave from where they lie, and small ones in a row are packed together", () => {
  assertEquals(listed(cut([4, 128, 127, 3, 200, 5], 8).segments), [[0, 1, 1], [1, 2, 1], [2, 4, 2], [4, 5, 1], [
    5,
    6,
    1,
  ]]);
});

Deno.test("a long message of large runs is not packed where its operations are few", () => {
  // As a batch lies that came sample by sample: memory that grew by a quarter again and again.
  const sizes = Array.from({ length: 18 }, (_, i) => Math.floor(256 * 1.25 ** i));
  for (const worldSize of [2, 4, 8, 14]) {
    assertEquals(cut(sizes, worldSize).segments.filter(({ runs }) => runs > 1), [], `${worldSize} ranks`);
  }
});

Deno.test("what a kernel copies is packed up to a larger size", () => {
  const { segments } = cut([256, 300, 2047, 2048, 200, 5000], 8, LARGE_BYTES_BY_KERNEL);
  assertEquals(listed(segments), [[0, 3, 3], [3, 4, 1], [4, 5, 1], [5, 6, 1]]);
});

Deno.test("where large runs are too many, the largest leave from where they lie", () => {
  const sizes = Array.from({ length: 40 }, (_, i) => i % 4 === 0 ? 4096 : 130);
  const { segments } = cut(sizes, 8);
  assertEquals(segments.length, 20);
  const apart = segments.filter(({ runs }) => runs === 1).map(({ start }) => start);
  assertEquals(apart, Array.from({ length: 10 }, (_, i) => 4 * i));
});

Deno.test("the segments of a message are together the message, and no more than its share of the operations", () => {
  for (const worldSize of [1, 2, 8, 100, 256, 5000]) {
    for (const count of [1, 2, 31, 33, 700]) {
      const { items, bytes, segments } = cut(Array.from({ length: count }, (_, i) => 1 + (i * 7919) % 900), worldSize);
      assert(segments.length <= Math.max(1, 256 / worldSize), `${count} runs, ${worldSize} ranks: ${segments.length}`);
      assertEquals([segments[0]!.start, segments.at(-1)!.end], [0, count]);
      for (const [i, { start, end, runs }] of segments.entries()) {
        assertEquals([start, runs], [segments[i - 1]?.end ?? 0, end - start]);
      }
      const cuts = segments.slice(1).map(({ start }) => start);
      assertEquals(segmentsAt(items, bytes, cuts), segments.map(({ start, end, bytes }) => ({ start, end, bytes })));
    }
  }
});
