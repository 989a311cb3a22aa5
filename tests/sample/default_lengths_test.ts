import { assertEquals, assertThrows } from "@std/assert";
import { SampleError } from "../../src/errors.ts";
import { type FromDefaultInit, SequenceSample } from "../../src/sample/sequence_sample.ts";

const good: FromDefaultInit = {
  ids: ["u", 7],
  seqlens: [3, 2],
  data: {
    values: { dtype: "uint8", shape: [5], bytes: Uint8Array.of(1, 2, 3, 4, 5) },
    advantages: { dtype: "uint8", shape: [3], bytes: Uint8Array.of(1, 2, 3) },
    rewards: { dtype: "uint8", shape: [2], bytes: Uint8Array.of(1, 2) },
  },
};

Deno.test("fromDefault() derives the lengths of every key from the main length", () => {
  const sample = SequenceSample.fromDefault(good);
  assertEquals(sample.ids, ["u", "7"]);
  assertEquals(sample.seqlens, { values: [[3], [2]], advantages: [[2], [1]], rewards: [[1], [1]] });
});

Deno.test("fromDefault() refuses what does not fit, and names the field", () => {
  const refuse = (fields: Record<string, unknown>, field: string) => {
    const error = assertThrows(
      () => SequenceSample.fromDefault({ ...good, ...fields } as FromDefaultInit),
      SampleError,
    );
    assertEquals(error.field, field);
  };
  refuse({ seqlens: [3, -2] }, "seqlens[1]");
  refuse({ seqlens: [3, 2.5] }, "seqlens[1]");
  refuse({ seqlens: [3, [2]] }, "seqlens[1]");
  refuse({ seqlens: [[3], 2] }, "seqlens[1]");
  refuse({ seqlens: [[3], [2, 1]] }, "seqlens[1]");
  refuse({ seqlens: [[3], []] }, "seqlens[1]");
  refuse({ seqlens: [3, 0] }, "seqlens[1]");
  refuse({ seqlens: [3] }, "seqlens.values");
  refuse({ seqlens: [3, 3] }, "data.values.shape");
  refuse({ ids: ["7", 7] }, "ids[1]");
  refuse({ ids: ["u", null] }, "ids[1]");
  refuse({ ids: "uv" }, "ids");
  refuse({ data: { unheard_of: null } }, "data.unheard_of");
  refuse({ data: { toString: null } }, "data.toString");
  refuse({ data: { values: [1, 2, 3, 4, 5] } }, "dtypes.values");
  refuse({ data: { values: { dtype: "uint8", shape: 5, bytes: new Uint8Array(5) } } }, "data.values");
  refuse({ data: null }, "data");
});
