import { assertEquals, assertThrows } from "@std/assert";
import { SampleError } from "../../src/errors.ts";
import { boundariesOf, reorderOutput, type SplitSpec } from "../../src/sample/split.ts";
import type { HostTensor } from "../../src/sample/tensor.ts";

Deno.test("boundariesOf() takes sizes, partitions, or both where they agree", () => {
  assertEquals(boundariesOf({ sizes: [1, 0, 2] }, 3), [0, 1, 1, 3]);
  assertEquals(boundariesOf({ partitions: [[0, 1], [1, 3]] }, 3), [0, 1, 3]);
  assertEquals(boundariesOf({ sizes: [1, 2], partitions: [[0, 1], [1, 3]] }, 3), [0, 1, 3]);
  assertEquals(boundariesOf({ sizes: [] }, 0), [0]);
});

Deno.test("boundariesOf() names what it refuses", () => {
  const refuse = (spec: unknown, field: string) =>
    assertEquals(assertThrows(() => boundariesOf(spec as SplitSpec, 3), SampleError).field, field);
  refuse({}, "spec");
  refuse({ sizes: 3 }, "sizes");
  refuse({ sizes: [4, -1] }, "sizes[1]");
  refuse({ sizes: [1, 1] }, "sizes");
  refuse({ partitions: "all" }, "partitions");
  refuse({ partitions: [[0, 2], [1, 3]] }, "partitions[1]");
  refuse({ partitions: [[0, 1], [2, 3]] }, "partitions[1]");
  refuse({ partitions: [[0, 0], [0, 3]] }, "partitions[0]");
  refuse({ partitions: [[0, 2]] }, "partitions");
  refuse({ partitions: [[0, 3, 1]] }, "partitions[0]");
  refuse({ partitions: [3] }, "partitions[0]");
  refuse({ sizes: [2, 1], partitions: [[0, 1], [1, 3]] }, "sizes");
});

Deno.test("reorderOutput() moves whole blocks of rows back, and refuses what does not fit", () => {
  const output: HostTensor = { dtype: "int16", shape: [4, 1], bytes: Uint8Array.of(1, 1, 2, 2, 3, 3, 4, 4) };
  const seqlens = [[1], [], [2, 1]];
  // In the order 2, 0, 1: three rows, one, none.
  assertEquals(reorderOutput(output, seqlens, [2, 0, 1], [1, 2, 0]), {
    dtype: "int16",
    shape: [4, 1],
    bytes: Uint8Array.of(4, 4, 1, 1, 2, 2, 3, 3),
  });
  const refuse = (run: () => unknown, field: string) => assertEquals(assertThrows(run, SampleError).field, field);
  refuse(() => reorderOutput(output, seqlens, [2, 0], [1, 2, 0]), "forwardIndices");
  refuse(() => reorderOutput(output, seqlens, [2, 0, 1], [1, 2, 2]), "backwardIndices");
  refuse(() => reorderOutput(output, seqlens, [2, 0, 1], [2, 0, 1]), "backwardIndices[0]");
  refuse(() => reorderOutput(output, [[1], [1], [3]], [2, 0, 1], [1, 2, 0]), "output.shape");
  const short = { ...output, bytes: output.bytes.subarray(1) };
  refuse(() => reorderOutput(short, seqlens, [2, 0, 1], [1, 2, 0]), "output.bytes");
});
