import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { SampleError } from "../../src/errors.ts";
import { DTYPES, safetensorsName } from "../../src/sample/dtype.ts";
import { decodeSafetensors, encodeSafetensors } from "../../src/sample/safetensors.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import { type HostTensor, rowBytes } from "../../src/sample/tensor.ts";
import { arbitrarySample } from "./arbitrary.ts";

/** A file with this header and data. */
function fileOf(header: unknown, data = new Uint8Array(0)): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.byteLength + data.byteLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.byteLength), true);
  file.set(text, 8);
  file.set(data, 8 + text.byteLength);
  return file;
}

function headerOf(file: Uint8Array): Record<string, Record<string, unknown>> {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  return JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
}

/** One tensor of each dtype, its bytes counting up. */
function ofEveryDType(): Map<string, HostTensor> {
  return new Map(DTYPES.map((dtype, i) => {
    const shape = [3, 2];
    const bytes = Uint8Array.from(
      { length: rowBytes(dtype, shape) },
      (_, at) => dtype === "bool" ? at % 2 : i * 16 + at,
    );
    return [dtype, { dtype, shape, bytes }];
  }));
}

Deno.test("fromSafetensors() gives back bit for bit what toSafetensors() wrote, for all dtypes", () => {
  fc.assert(fc.property(arbitrarySample(), (sample) => {
    const file = sample.toSafetensors();
    const back = SequenceSample.fromSafetensors(file);
    assertEquals(back, sample);
    assertEquals(back.toSafetensors(), file);
  }));
});

Deno.test("toSafetensors() has the entries of the format, and nothing that is absent", () => {
  const sample = new SequenceSample({
    ids: ["i", "j"],
    keys: ["x", "none", "typed"],
    dtypes: { x: "int64", none: null, typed: "bfloat16" },
    trailingShapes: { x: [2], none: null, typed: [4] },
    seqlens: { x: [[1, 2], []], none: [[5], [6]], typed: [[0], [1]] },
    data: { x: { dtype: "int64", shape: [3, 2], bytes: new Uint8Array(48) }, none: null, typed: null },
    metadata: { tag: ["a", { b: [1n, NaN] }] },
  });
  const header = headerOf(sample.toSafetensors());
  assertEquals(header, {
    __metadata__: {
      format: "seqferry/1",
      ids: '["i","j"]',
      keys: '["x","none","typed"]',
      seqlens: '{"x":[[1,2],[]],"none":[[5],[6]],"typed":[[0],[1]]}',
      metadata: '{"tag":["a",{"b":[1,"NaN"]}]}',
      absent: '["none","typed"]',
      absent_specs: '{"typed":{"dtype":"torch.bfloat16","trailing_shape":[4]}}',
    },
    x: { dtype: "I64", shape: [3, 2], data_offsets: [0, 48] },
  });
  assertEquals(headerOf(sample.select(["x"]).meta().toSafetensors()).__metadata__!.data, "null");
  assertEquals("absent" in headerOf(sample.select(["x"]).toSafetensors()).__metadata__!, false);
});

Deno.test("toSafetensors() refuses a key that the format has taken", () => {
  const sample = SequenceSample.fromDefault({
    ids: ["i"],
    seqlens: [1],
    data: { rewards: { dtype: "int8", shape: [1], bytes: new Uint8Array(1) } },
  });
  sample.remapKeys({ rewards: "__metadata__" });
  assertThrows(() => sample.toSafetensors(), SampleError, "__metadata__");
});

Deno.test("fromSafetensors() reads a file without format, metadata and keys", () => {
  const file = fileOf({
    __metadata__: { ids: '["i"]', seqlens: '{"x":[[2]]}' },
    x: { dtype: "U8", shape: [2], data_offsets: [0, 2] },
  }, Uint8Array.of(3, 4));
  const sample = SequenceSample.fromSafetensors(file);
  assertEquals(sample.keys, ["x"]);
  assertEquals(sample.metadata, {});
  assertEquals(sample.data, { x: { dtype: "uint8", shape: [2], bytes: Uint8Array.of(3, 4) } });
});

Deno.test("fromSafetensors() reads what the format's own Python library wrote", async () => {
  // safetensors 0.8.0, numpy 2.4.6: save_file({"values": float32 [[1.5, -2], [nan, inf], [0, 3]], "version": int64 [2**53 + 1, -7],
  // "prompt_mask": bool [True, False, True]}, metadata={...}).
  const file = await Deno.readFile(new URL("../fixtures/sample/python.safetensors", import.meta.url));
  const sample = SequenceSample.fromSafetensors(file);
  assertEquals(sample.toJSON(), {
    ids: ["p-0", "p-1"],
    keys: ["prompt_mask", "values", "version"],
    trailing_shapes: { prompt_mask: [], values: [2], version: [] },
    dtypes: { prompt_mask: "torch.bool", values: "torch.float32", version: "torch.int64" },
    seqlens: { prompt_mask: [[2], [1]], values: [[1, 1], [1]], version: [[1], [1]] },
    data: {
      prompt_mask: [true, false, true],
      values: [[1.5, -2], ["NaN", "Infinity"], [0, 3]],
      version: ["9007199254740993", -7],
    },
    metadata: { source: ["math", null] },
  });
});

Deno.test("encodeSafetensors() places every tensor aligned to its item size, without holes", () => {
  const tensors = new Map([...ofEveryDType()].reverse());
  tensors.set("empty", { dtype: "float64", shape: [0, 5], bytes: new Uint8Array(0) });
  const file = encodeSafetensors({ tensors, metadata: new Map([["note", "ä"]]) });
  const { tensors: back, metadata } = decodeSafetensors(file);
  assertEquals(new Map([...back].sort()), new Map([...tensors].sort()));
  assertEquals(metadata, new Map([["note", "ä"]]));
  for (const { dtype, bytes } of back.values()) {
    assertEquals((bytes.byteOffset - file.byteOffset) % rowBytes(dtype, []), 0);
  }
  const header = headerOf(file);
  for (const [name, { dtype }] of tensors) assertEquals(header[name]!.dtype, safetensorsName(dtype));
});

Deno.test("decodeSafetensors() gives views of the file, wherever it lies in its buffer", () => {
  const whole = encodeSafetensors({ tensors: ofEveryDType(), metadata: new Map() });
  const buffer = new Uint8Array(whole.byteLength + 3);
  buffer.set(whole, 3);
  const { tensors } = decodeSafetensors(buffer.subarray(3));
  assertEquals(new Map([...tensors].sort()), new Map([...ofEveryDType()].sort()));
  for (const { bytes } of tensors.values()) assertStrictEquals(bytes.buffer, buffer.buffer);
});

Deno.test("decodeSafetensors() refuses every file that is cut short or has bytes left over", () => {
  const whole = encodeSafetensors({ tensors: ofEveryDType(), metadata: new Map([["a", "b"]]) });
  for (let length = 0; length < whole.byteLength; length++) {
    assertThrows(() => decodeSafetensors(whole.subarray(0, length)), SampleError);
  }
  const longer = new Uint8Array(whole.byteLength + 1);
  longer.set(whole);
  assertThrows(() => decodeSafetensors(longer), SampleError, "there are");
});

Deno.test("fromSafetensors() answers any damage with a SampleError or a valid sample", () => {
  const files = arbitrarySample().map((sample) => sample.toSafetensors()).chain((file) =>
    fc.tuple(
      fc.constant(file),
      fc.array(fc.tuple(fc.nat(file.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
    )
  );
  fc.assert(
    fc.property(files, ([file, damages]) => {
      const damaged = file.slice();
      for (const [at, byte] of damages) damaged[at] = byte;
      try {
        const sample = SequenceSample.fromSafetensors(damaged);
        assertEquals(new SequenceSample(sample), sample);
      } catch (error) {
        if (!(error instanceof SampleError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("decodeSafetensors() refuses a header that is none, and names the place", () => {
  const two = new Uint8Array(2);
  const entry = { dtype: "U8", shape: [2], data_offsets: [0, 2] };
  const refuse = (header: unknown, field: string, data = two) => {
    const error = assertThrows(() => decodeSafetensors(fileOf(header, data)), SampleError);
    assertEquals(error.field, field, JSON.stringify(header));
  };
  assertEquals(decodeSafetensors(fileOf({ x: entry }, two)).tensors.size, 1);
  refuse("", "header");
  refuse("[]", "header");
  refuse(" {}", "header");
  refuse('{"x":', "header");
  refuse(`{"x":${JSON.stringify(entry)},"\\u0078":${JSON.stringify(entry)}}`, "header");
  refuse('{"x":{"dtype":"U8","shape":[2],"shape":[2],"data_offsets":[0,2]}}', "header");
  refuse({ x: [] }, "header.x");
  refuse({ x: null }, "header.x");
  refuse({ x: { ...entry, dtype: "U9" } }, "header.x.dtype");
  refuse({ x: { ...entry, dtype: 8 } }, "header.x.dtype");
  refuse({ x: { ...entry, dtype: "U16" } }, "header.x.data_offsets");
  refuse({ x: { ...entry, shape: [-2] } }, "header.x.shape");
  refuse({ x: { ...entry, shape: [2.5] } }, "header.x.shape");
  refuse({ x: { ...entry, shape: "2" } }, "header.x.shape");
  refuse({ x: { ...entry, shape: [2 ** 53] } }, "header.x.shape");
  refuse({ x: { ...entry, shape: [2 ** 52, 2 ** 52] } }, "header.x.data_offsets");
  refuse({ x: { ...entry, shape: [1] } }, "header.x.data_offsets");
  refuse({ x: { ...entry, data_offsets: [2, 0] } }, "header.x.data_offsets");
  refuse({ x: { ...entry, data_offsets: [1, 3] } }, "header.x.data_offsets");
  refuse({ x: { ...entry, data_offsets: [-1, 1] } }, "header.x.data_offsets");
  refuse({ x: { ...entry, data_offsets: [0, 1, 2] } }, "header.x.data_offsets");
  refuse({ x: { ...entry, data_offsets: [0, 2 ** 60] } }, "header.x.data_offsets");
  refuse({ x: entry }, "file", new Uint8Array(3));
  refuse({ x: entry, y: entry }, "header.y.data_offsets");
  refuse({ x: entry, y: { ...entry, data_offsets: [1, 3] } }, "header.y.data_offsets", new Uint8Array(3));
  refuse({ x: entry, y: { ...entry, data_offsets: [3, 5] } }, "header.y.data_offsets", new Uint8Array(5));
  refuse({ __metadata__: { a: 1 }, x: entry }, "header.__metadata__.a");
  refuse({ __metadata__: [], x: entry }, "header.__metadata__");
  const invalid = fileOf('{"x":1}');
  invalid[9] = 0xff;
  assertEquals(assertThrows(() => decodeSafetensors(invalid), SampleError).field, "header");
  for (const length of [100_000_001n, 2n ** 63n, 2n ** 64n - 1n, 50n]) {
    const file = fileOf({ x: entry }, two).slice();
    new DataView(file.buffer).setBigUint64(0, length, true);
    const error = assertThrows(() => decodeSafetensors(file), SampleError);
    assertEquals(error.field, "header");
  }
  assertThrows(() => decodeSafetensors("{}" as unknown as Uint8Array), SampleError);
});

Deno.test("fromSafetensors() refuses metadata that does not go with the tensors, and names it", () => {
  const good = { ids: '["i"]', seqlens: '{"x":[[2]],"y":[[1]]}', absent: '["y"]' };
  const entry = { dtype: "U8", shape: [2], data_offsets: [0, 2] };
  const read = (metadata: Record<string, string>, tensors: Record<string, unknown> = { x: entry }) =>
    SequenceSample.fromSafetensors(fileOf({ __metadata__: metadata, ...tensors }, new Uint8Array(2)));
  assertEquals(read(good).data!.y, null);
  const refuse = (change: Record<string, string>, field: string, tensors?: Record<string, unknown>) => {
    const error = assertThrows(() => read({ ...good, ...change }, tensors), SampleError);
    assertEquals(error.field, field);
  };
  const { ids: _ids, ...withoutIds } = good;
  assertEquals(assertThrows(() => read(withoutIds), SampleError).field, "header.__metadata__.ids");
  const { seqlens: _seqlens, ...withoutSeqlens } = good;
  assertEquals(assertThrows(() => read(withoutSeqlens), SampleError).field, "header.__metadata__.seqlens");
  refuse({ format: "seqferry/2" }, "header.__metadata__.format");
  refuse({ ids: "i" }, "header.__metadata__.ids");
  refuse({ ids: '{"i":1}' }, "header.__metadata__.ids");
  refuse({ ids: '["i","i"]' }, "ids[1]");
  refuse({ ids: '["i","j"]' }, "seqlens.x");
  refuse({ seqlens: '{"x":[[2]],"x":[[2]],"y":[[1]]}' }, "header.__metadata__.seqlens");
  refuse({ seqlens: '{"x":[[3]],"y":[[1]]}' }, "data.x.shape");
  refuse({ seqlens: '{"x":[[-2]],"y":[[1]]}' }, "seqlens.x[0][0]");
  refuse({ seqlens: '{"x":[[2]]}' }, "header.y");
  refuse({ seqlens: '{"x":[[2]],"y":[[1]],"__proto__":[[1]]}' }, "header.__proto__");
  refuse({ absent: "[]" }, "header.y");
  refuse({ absent: '["y","x"]' }, "header.x");
  refuse({ absent: '["y","z"]' }, "header.z");
  refuse({ absent_specs: '{"y":3}' }, "header.__metadata__.absent_specs.y");
  refuse({ absent_specs: '{"y":{"dtype":"int8"}}' }, "header.__metadata__.absent_specs.y.dtype");
  refuse({ keys: '["x"]' }, "header.y");
  refuse({ keys: '["x","y","y"]' }, "keys[2]");
  refuse({ metadata: '{"m":[1,2]}' }, "metadata.m");
  refuse({ metadata: "[" }, "header.__metadata__.metadata");
  refuse({ metadata: `{"m":[${"[".repeat(5000)}${"]".repeat(5000)}]}` }, "metadata.m");
  refuse({ data: "null" }, "header.__metadata__.data");
  refuse({ data: "{}" }, "header.__metadata__.data");
  refuse({}, "data.x.shape", { x: { dtype: "U16", shape: [], data_offsets: [0, 2] } });
  refuse({}, "header.z", { z: entry });
  assert(read({ ...good, format: "seqferry/1", extra: "is passed over" }).batchSize === 1);
});
