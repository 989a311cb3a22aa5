import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { SampleError } from "../../src/errors.ts";
import { type DType, DTYPES, itemSize } from "../../src/sample/dtype.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import type { HostTensor } from "../../src/sample/tensor.ts";
import { arbitrarySample } from "./arbitrary.ts";

/** One id with one key. */
function single(dtype: DType, bytes: Uint8Array): SequenceSample {
  const count = bytes.byteLength / itemSize(dtype);
  return new SequenceSample({
    ids: ["i"],
    keys: ["x"],
    dtypes: { x: dtype },
    trailingShapes: { x: [] },
    seqlens: { x: [[count]] },
    data: { x: { dtype, shape: [count], bytes } },
  });
}

const elements = (dtype: DType, bytes: Uint8Array) => single(dtype, bytes).toJSON().data!.x;
const bytesOf = (dtype: DType, ...items: unknown[]) =>
  (SequenceSample.fromJSON({
    ...single(dtype, new Uint8Array(items.length * itemSize(dtype))).toJSON(),
    data: { x: items },
  })
    .data!.x as HostTensor).bytes;

Deno.test("fromJSON() gives back the sample that toJSON() wrote, in memory and as text", () => {
  const integers = DTYPES.filter((dtype) => /int/.test(dtype));
  fc.assert(fc.property(arbitrarySample({ dtypes: integers }), (sample) => {
    assertEquals(SequenceSample.fromJSON(sample.toJSON()), sample);
    assertEquals(SequenceSample.fromJSON(JSON.parse(JSON.stringify(sample))), sample);
  }));
});

Deno.test("fromJSON() gives back bits of every dtype, but for which NaN it is and the sign of 0 in text", () => {
  fc.assert(fc.property(arbitrarySample(), (sample) => {
    const once = SequenceSample.fromJSON(sample.toJSON());
    assertEquals(once.toJSON(), sample.toJSON());
    assertEquals(SequenceSample.fromJSON(once.toJSON()), once);
  }));
  // All bytes whose elements are finite come back as they are; booleans are 0 or 1.
  fc.assert(fc.property(arbitrarySample({ bytes: fc.integer({ min: 0, max: 1 }) }), (sample) => {
    assertEquals(SequenceSample.fromJSON(sample.toJSON()), sample);
  }));
});

Deno.test("toJSON() writes integers beyond 2^53 as decimal strings", () => {
  const signed = [
    0n,
    -1n,
    2n ** 53n - 1n,
    -(2n ** 53n) + 1n,
    2n ** 53n + 1n,
    -(2n ** 53n) - 1n,
    2n ** 63n - 1n,
    -(2n ** 63n),
  ];
  const written = [
    0,
    -1,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
  ];
  const bytes = new Uint8Array(BigInt64Array.from(signed).buffer);
  assertEquals(elements("int64", bytes), written);
  assertEquals(bytesOf("int64", ...written), bytes);
  const unsigned = new Uint8Array(BigUint64Array.of(2n ** 64n - 1n, 5n).buffer);
  assertEquals(elements("uint64", unsigned), ["18446744073709551615", 5]);
  assertEquals(bytesOf("uint64", "18446744073709551615", "5"), unsigned);
  assertEquals(bytesOf("uint8", "255", 7), Uint8Array.of(255, 7));
});

Deno.test("toJSON() writes NaN and infinities as strings, for all floating-point types that have them", () => {
  for (const dtype of ["float16", "bfloat16", "float32", "float64", "float8_e5m2"] as const) {
    const items = ["NaN", "Infinity", "-Infinity", 1.5, -0.25];
    assertEquals(elements(dtype, bytesOf(dtype, ...items)), items, dtype);
  }
  assertEquals(elements("float8_e4m3fn", bytesOf("float8_e4m3fn", "NaN", 448, -1.5)), ["NaN", 448, -1.5]);
  assertEquals(elements("bool", Uint8Array.of(0, 1, 2)), [false, true, true]);
});

Deno.test("toJSON() makes metadata fit for JSON", () => {
  const meta = (value: unknown) =>
    new SequenceSample({
      ids: ["i"],
      keys: [],
      dtypes: {},
      trailingShapes: {},
      seqlens: {},
      metadata: { m: [value] },
    });
  const written = meta({ big: 2n ** 60n, small: 7n, nan: NaN, none: undefined, list: [undefined, -Infinity, null] })
    .toJSON();
  assertEquals(written.metadata.m, [{
    big: "1152921504606846976",
    small: 7,
    nan: "NaN",
    list: [null, "-Infinity", null],
  }]);
  assertEquals(meta(new Date(0)).toJSON().metadata.m, ["1970-01-01T00:00:00.000Z"]);
  for (const value of [() => 1, Symbol("s"), new Map(), { deep: [new Set()] }]) {
    assertThrows(() => meta(value).toJSON(), SampleError, "metadata.m[0]");
    assertThrows(() => meta(value).toSafetensors(), SampleError, "metadata.m[0]");
  }
});

Deno.test("fromJSON() turns numbers among the ids into strings, as the reference does", () => {
  const json = single("int8", Uint8Array.of(1)).toJSON();
  assertEquals(SequenceSample.fromJSON({ ...json, ids: [7] }).ids, ["7"]);
});

Deno.test("fromJSON() refuses elements that the dtype cannot hold, and names them", () => {
  const refused: [DType, unknown[]][] = [
    ["bool", [0, 1, "true", null]],
    ["uint8", [-1, 256, 0.5, "256", "-1", "1.0", "", "0x1", "01", "NaN", true, null, [1], Infinity]],
    ["int8", [128, -129, "128"]],
    ["int16", [32768, -32769]],
    ["uint16", [65536, -1]],
    ["int32", [2 ** 31, -(2 ** 31) - 1]],
    ["uint32", [2 ** 32, -1]],
    ["int64", [2 ** 53, "9223372036854775808", "-9223372036854775809", "9".repeat(1000), "1e3"]],
    ["uint64", [-1, "-1", "18446744073709551616"]],
    ["float16", [65520, -1e5, "1.5", true, "inf"]],
    ["bfloat16", [3.5e38, "0"]],
    ["float8_e4m3fn", [500, "Infinity", "-Infinity"]],
    ["float8_e5m2", [70000]],
    ["float32", [1e39, "1", null]],
    ["float64", ["1", "nan", null, {}]],
  ];
  for (const [dtype, items] of refused) {
    for (const item of items) {
      const error = assertThrows(() => bytesOf(dtype, dtype === "bool" ? true : 0, item), SampleError, dtype);
      assertEquals(error.field, "data.x[1]", `${dtype} ${item}`);
      assertEquals(error.value, item);
    }
  }
});

Deno.test("fromJSON() refuses what is not of the form, and names the field", () => {
  const good = JSON.parse(JSON.stringify(
    new SequenceSample({
      ids: ["i", "j"],
      keys: ["x"],
      dtypes: { x: "float32" },
      trailingShapes: { x: [2] },
      seqlens: { x: [[1], [1]] },
      data: { x: { dtype: "float32", shape: [2, 2], bytes: new Uint8Array(16) } },
      metadata: { m: [1, 2] },
    }),
  )) as Record<string, unknown>;
  SequenceSample.fromJSON(good);
  const { data: _data, metadata: _metadata, ...needed } = good;
  assertEquals(SequenceSample.fromJSON(needed).data, null);
  const refuse = (fields: Record<string, unknown>, field: string | undefined) => {
    const error = assertThrows(() => SequenceSample.fromJSON({ ...good, ...fields }), SampleError);
    assertEquals(error.field, field);
  };
  refuse({ ids: ["i", "i"] }, "ids[1]");
  refuse({ ids: ["i", 0.5] }, "ids[1]");
  refuse({ keys: "x" }, "keys");
  refuse({ dtypes: { x: "float32" } }, "dtypes.x");
  refuse({ dtypes: { x: "torch.float31" } }, "dtypes.x");
  refuse({ dtypes: { x: 3 } }, "dtypes.x");
  refuse({ dtypes: { x: null } }, "data.x");
  refuse({ dtypes: null }, "dtypes");
  refuse({ trailing_shapes: { x: [2.5] } }, "trailing_shapes.x[0]");
  refuse({ trailing_shapes: {} }, "trailing_shapes");
  refuse({ seqlens: { x: [[1], [-1]] } }, "seqlens.x[1][0]");
  refuse({ seqlens: { x: [[1], [2 ** 40]] } }, "data.x");
  refuse({ trailing_shapes: { x: [2 ** 40] } }, "data.x[0]");
  refuse({ data: [] }, "data");
  refuse({ data: { x: [[0, 0]], y: null } }, "data");
  refuse({ data: { x: [[0, 0]] } }, "data.x");
  refuse({ data: { x: [[0, 0], [0]] } }, "data.x[1]");
  refuse({ data: { x: [[0, 0], [0, [0]]] } }, "data.x[1][1]");
  refuse({ data: { x: [[0, 0], 0] } }, "data.x[1]");
  refuse({ metadata: { m: [1] } }, "metadata.m");
  refuse({ meta: {} }, "meta");
  for (const name of Object.keys(needed)) {
    const { [name]: _, ...rest } = good;
    assertEquals(assertThrows(() => SequenceSample.fromJSON(rest), SampleError).field, name);
  }
  for (const json of [null, undefined, 3, "{}", [], [good]]) {
    assertThrows(() => SequenceSample.fromJSON(json), SampleError);
  }
});
