import {
  assert,
  assertEquals,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { SampleError } from "../../src/errors.ts";
import { SequenceSample, type SequenceSampleInit } from "../../src/sample/sequence_sample.ts";
import { type HostTensor, isHostTensor, type TensorHandle } from "../../src/sample/tensor.ts";
import { arbitrarySample } from "./arbitrary.ts";

const u8 = (...bytes: number[]): HostTensor => ({
  dtype: "uint8",
  shape: [bytes.length],
  bytes: Uint8Array.from(bytes),
});

/** Two ids; tokens in several sequences, none for the second id's extras. */
function batch(): SequenceSample {
  return new SequenceSample({
    ids: ["i", "j"],
    keys: ["tokens", "extras"],
    dtypes: { tokens: "uint8", extras: "uint8" },
    trailingShapes: { tokens: [], extras: [2] },
    seqlens: { tokens: [[2, 1], [3]], extras: [[1], []] },
    data: { tokens: u8(1, 2, 3, 4, 5, 6), extras: { dtype: "uint8", shape: [1, 2], bytes: Uint8Array.of(7, 8) } },
    metadata: { note: [{ deep: [1] }, null] },
  });
}

/** A tensor that is elsewhere, and counts how often it was fetched. */
class Remote implements TensorHandle {
  readonly dtype = "uint8";
  readonly shape: number[];
  readonly byteLength: number;
  fetched = 0;
  readonly #content: HostTensor | TensorHandle;

  constructor(content: HostTensor) {
    this.#content = content;
    this.shape = [...content.shape];
    this.byteLength = content.bytes.byteLength;
  }

  toHost(): Promise<HostTensor> {
    this.fetched++;
    return Promise.resolve(this.#content as HostTensor);
  }
}

function remote(ids = ["i"]): SequenceSample {
  const lengths = ids.map(() => [2]);
  const bytes = ids.flatMap((_, i) => [i, i]);
  return new SequenceSample({
    ids,
    keys: ["x", "y"],
    dtypes: { x: "uint8", y: "uint8" },
    trailingShapes: { x: [], y: [] },
    seqlens: { x: lengths, y: lengths },
    data: { x: new Remote(u8(...bytes)), y: u8(...bytes) },
  });
}

Deno.test("gather() puts together what unpack() took apart, for all dtypes", () => {
  fc.assert(fc.property(arbitrarySample({ minIds: 1 }), (sample) => {
    assertEquals(SequenceSample.gather(sample.unpack()), sample);
  }));
});

Deno.test("unpack() gives each id its own bytes", () => {
  const [i, j] = batch().unpack() as [SequenceSample, SequenceSample];
  assertEquals(i.data, { tokens: u8(1, 2, 3), extras: { dtype: "uint8", shape: [1, 2], bytes: Uint8Array.of(7, 8) } });
  assertEquals(j.data, { tokens: u8(4, 5, 6), extras: { dtype: "uint8", shape: [0, 2], bytes: new Uint8Array(0) } });
  assertEquals(j.seqlens, { tokens: [[3]], extras: [[]] });
});

Deno.test("reorder() by the inverse undoes reorder(), and moves whole ids", () => {
  const permuted = arbitrarySample().chain((sample) =>
    fc.tuple(
      fc.constant(sample),
      fc.shuffledSubarray(sample.ids.map((_, i) => i), { minLength: sample.ids.length }),
    )
  );
  fc.assert(fc.property(permuted, ([sample, order]) => {
    const inverse: number[] = [];
    order.forEach((from, to) => inverse[from] = to);
    const reordered = sample.reorder(order);
    assertEquals(reordered.reorder(inverse), sample);
    const parts = sample.unpack();
    assertEquals(reordered.unpack(), order.map((i) => parts[i]!));
  }));
});

Deno.test("split() covers the batch once, keeps to the limit, and its indices lead back", () => {
  const specs = arbitrarySample({ minIds: 1, maxIds: 12 }).filter((sample) => sample.keys.length > 0).chain((sample) =>
    fc.tuple(fc.constant(sample), fc.integer({ min: 1, max: sample.ids.length }), fc.integer({ min: 12, max: 40 }))
  );
  fc.assert(fc.property(specs, ([sample, nMbs, maxTokensPerMb]) => {
    const { samples, forwardIndices, backwardIndices } = sample.split({ nMbs, maxTokensPerMb });
    assert(samples.length >= nMbs);
    assertEquals(SequenceSample.gather(samples), sample.reorder(forwardIndices));
    assertEquals(SequenceSample.gather(samples).reorder(backwardIndices), sample);
    // The limit is on the key with the most tokens in all.
    const tokens = (of: SequenceSample, key: string) => of.seqlens[key]!.flat().reduce((sum, n) => sum + n, 0);
    const longest = sample.keys.reduce((best, key) => tokens(sample, key) > tokens(sample, best) ? key : best);
    for (const part of samples) assert(part.batchSize > 0 && tokens(part, longest) <= maxTokensPerMb);
  }));
});

Deno.test("split() refuses numbers that cannot be", () => {
  const sample = batch();
  for (const nMbs of [0, -1, 1.5, NaN]) assertThrows(() => sample.split({ nMbs }), SampleError, "nMbs");
  for (const maxTokensPerMb of [NaN, -1]) assertThrows(() => sample.split({ nMbs: 1, maxTokensPerMb }), SampleError);
  assertThrows(() => sample.select([]).split({ nMbs: 1 }), SampleError, "without keys");
  assertThrows(() => sample.splitWithLengths({ nMbs: 1 }, [1]), SampleError, "lens");
  for (const length of [-1, 0.5, NaN]) {
    assertThrows(() => sample.splitWithLengths({ nMbs: 1 }, [1, length]), SampleError, "lens[1]");
  }
});

Deno.test("a sample shares no array or record with what it was made from", () => {
  const init: SequenceSampleInit = structuredClone({ ...batch() });
  const sample = new SequenceSample(init);
  const before = new SequenceSample(init);
  const loose = init as unknown as Record<string, Record<string, unknown[]> & unknown[]>;
  loose.ids!.push("k");
  loose.keys!.push("z");
  loose.dtypes!.z = [];
  loose.trailingShapes!.extras!.push(3);
  (loose.seqlens!.tokens as number[][])[0]!.push(9);
  (loose.data!.tokens as unknown as { shape: number[] }).shape.push(1);
  (loose.metadata!.note as { deep: number[] }[])[0]!.deep.push(2);
  assertEquals(sample, before);
});

Deno.test("samples made from another share no array or record with it or with one another", () => {
  const structures = (sample: SequenceSample): object[] => {
    const found: object[] = [];
    const visit = (value: unknown) => {
      if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
      found.push(value);
      Object.values(value).forEach(visit);
    };
    const { data, ...fields } = sample;
    Object.values(fields).forEach(visit);
    if (data !== null) found.push(data);
    return found;
  };
  const sample = batch();
  const samples = [
    sample,
    ...sample.unpack(),
    sample.meta(),
    ...sample.meta().unpack(),
    sample.select(["tokens", "extras"]),
    ...sample.splitWithSpec({ sizes: [2] }),
    sample.reorder([1, 0]),
    sample.reorder([0, 1]),
    SequenceSample.gather([sample]),
    ...sample.split({ nMbs: 1 }).samples,
    ...sample.split({ nMbs: 2 }).samples,
  ];
  const seen = new Map<object, number>();
  samples.forEach((made, i) => {
    for (const structure of structures(made)) {
      const owner = seen.get(structure);
      assert(owner === undefined || owner === i, `samples ${owner} and ${i} share ${JSON.stringify(structure)}`);
      seen.set(structure, i);
    }
  });
});

Deno.test("update() of one unpacked sample leaves its siblings and the whole alone", () => {
  const whole = batch();
  const [i, j] = whole.unpack() as [SequenceSample, SequenceSample];
  const other = new SequenceSample({
    ids: ["i"],
    keys: ["score"],
    dtypes: { score: "uint8" },
    trailingShapes: { score: [] },
    seqlens: { score: [[1]] },
    data: { score: u8(9) },
    metadata: { round: [3] },
  });
  i.update(other);
  assertEquals(i.keys, ["tokens", "extras", "score"]);
  assertEquals(i.data!.score, u8(9));
  assertEquals(i.metadata, { note: [{ deep: [1] }], round: [3] });
  assertEquals(j, batch().unpack()[1]!);
  assertEquals(whole, batch());
  // What was taken over is the sample's own.
  i.remapKeys({ score: "reward" });
  assertEquals(other.keys, ["score"]);
  assertNotStrictEquals(i.seqlens.reward, other.seqlens.score);
});

Deno.test("update() replaces type, shape and lengths together with the data", () => {
  const sample = batch();
  sample.update(
    new SequenceSample({
      ids: ["i", "j"],
      keys: ["tokens"],
      dtypes: { tokens: "int16" },
      trailingShapes: { tokens: [2] },
      seqlens: { tokens: [[1], [0]] },
      data: { tokens: { dtype: "int16", shape: [1, 2], bytes: new Uint8Array(4) } },
    }),
  );
  assertEquals(sample.keys, ["tokens", "extras"]);
  assertEquals(new SequenceSample(sample), sample);
  assertEquals(sample.dtypes.tokens, "int16");
});

Deno.test("update() and remapKeys() change nothing when they throw", () => {
  const sample = batch();
  const [i] = batch().unpack();
  assertThrows(() => sample.update(i!), SampleError, "ids");
  assertThrows(() => sample.update(batch().reorder([1, 0])), SampleError, "ids");
  assertThrows(() => sample.update(batch().meta()), SampleError, "metadata-only");
  assertThrows(() => sample.update({ ...batch() } as unknown as SequenceSample), SampleError);
  assertThrows(() => sample.remapKeys({ tokens: "extras" }), SampleError, "would both be called");
  assertThrows(() => sample.remapKeys({ tokens: "x", extras: "x" }), SampleError, "would both be called");
  assertThrows(() => sample.remapKeys({ tokens: 3 as unknown as string }), SampleError, "map.tokens");
  assertThrows(() => sample.remapKeys({ tokens: "__proto__" }), SampleError);
  assertEquals(sample, batch());
});

Deno.test("remapKeys() renames all at once, in chains and cycles", () => {
  const sample = batch();
  const { tokens, extras } = sample.data!;
  sample.remapKeys({ tokens: "extras", extras: "more", absent: "tokens" });
  assertEquals(sample.keys, ["extras", "more"]);
  assertStrictEquals(sample.data!.extras, tokens);
  assertStrictEquals(sample.data!.more, extras);
  assertEquals(new SequenceSample(sample), sample);
});

Deno.test("gather() refuses samples that do not go together", () => {
  const sample = (fields: Partial<SequenceSampleInit>) =>
    new SequenceSample({
      ids: ["k"],
      keys: ["x"],
      dtypes: { x: "uint8" },
      trailingShapes: { x: [] },
      seqlens: { x: [[1]] },
      data: { x: u8(1) },
      ...fields,
    });
  const first = sample({ ids: ["i"] });
  assertEquals(SequenceSample.gather([first, sample({})]).ids, ["i", "k"]);
  assertThrows(() => SequenceSample.gather([first, first]), SampleError, '"i"');
  assertThrows(
    () => SequenceSample.gather([first, sample({ dtypes: { x: "int8" }, data: { x: { ...u8(1), dtype: "int8" } } })]),
    SampleError,
    "int8",
  );
  assertThrows(
    () =>
      SequenceSample.gather([
        first,
        sample({ trailingShapes: { x: [1] }, data: { x: { dtype: "uint8", shape: [1, 1], bytes: Uint8Array.of(1) } } }),
      ]),
    SampleError,
    "trailing shape",
  );
  assertThrows(() => SequenceSample.gather([first, sample({ data: { x: null } })]), SampleError, "no data");
  assertThrows(() => SequenceSample.gather([first, sample({ metadata: { m: [1] } })]), SampleError, "metadata");
  assertThrows(() => SequenceSample.gather([first, sample({})], ["y"]), SampleError, '"y"');
  assertThrows(() => SequenceSample.gather([first, {} as SequenceSample]), SampleError, "SequenceSample");
});

Deno.test("reorder() refuses what is no permutation", () => {
  for (const indices of [[], [0], [0, 0], [0, 2], [0, -1], [0, 0.5], [0, 1, 1], [, 1] as number[]]) {
    assertThrows(() => batch().reorder(indices), SampleError, "indices");
  }
});

Deno.test("splitWithSpec() refuses sizes and partitions that do not cover the batch", () => {
  const sample = batch();
  for (const sizes of [[], [1], [3], [-1, 3], [0.5, 1.5], [2, NaN]]) {
    assertThrows(() => sample.splitWithSpec({ sizes }), SampleError, "sizes");
  }
  for (const partitions of [[], [[0, 1]], [[0, 3]], [[0, 1], [0, 2]], [[1, 2], [0, 1]], [[0, 2], [2, 2]], [[0, 1.5]]]) {
    assertThrows(
      () => sample.splitWithSpec({ partitions: partitions as [number, number][] }),
      SampleError,
      "partitions",
    );
  }
  assertThrows(() => sample.splitWithSpec({}), SampleError, "sizes or partitions");
  assertThrows(() => sample.splitWithSpec(null as unknown as { sizes: number[] }), SampleError, "sizes or partitions");
});

Deno.test("the constructor names the field and the value of what it refuses", () => {
  const good = { ...batch() };
  const refuse = (fields: Record<string, unknown>, field: string, value?: unknown) => {
    const error = assertThrows(() => new SequenceSample({ ...good, ...fields } as SequenceSampleInit), SampleError);
    assertEquals(error.field, field);
    if (value !== undefined) assertEquals(error.value, value);
  };
  refuse({ ids: ["i", 2] }, "ids[1]", 2);
  refuse({ ids: ["i", "i"] }, "ids[1]", "i");
  refuse({ ids: "ij" }, "ids", "ij");
  refuse({ dtypes: { tokens: "uint8", extras: "float" } }, "dtypes.extras", "float");
  refuse({ dtypes: { tokens: "uint8" } }, "dtypes");
  refuse({ dtypes: { tokens: "uint8", extras: "uint8", more: "uint8" } }, "dtypes");
  refuse({ dtypes: { tokens: "uint8", extras: null } }, "data.extras");
  refuse({ trailingShapes: { tokens: [], extras: [-2] } }, "trailingShapes.extras[0]", -2);
  refuse({ trailingShapes: { tokens: [], extras: 2 } }, "trailingShapes.extras", 2);
  refuse({ trailingShapes: { tokens: [], extras: new Array(64).fill(1) } }, "trailingShapes.extras");
  refuse({ seqlens: { tokens: [[2, 1], [-3]], extras: [[1], []] } }, "seqlens.tokens[1][0]", -3);
  refuse({ seqlens: { tokens: [[2, 1], [2.5]], extras: [[1], []] } }, "seqlens.tokens[1][0]", 2.5);
  refuse({ seqlens: { tokens: [[2, 1], 3], extras: [[1], []] } }, "seqlens.tokens[1]", 3);
  refuse({ seqlens: { tokens: [[2, 1], [2 ** 53]], extras: [[1], []] } }, "seqlens.tokens[1][0]", 2 ** 53);
  refuse({ seqlens: { tokens: [[2, 1], [2 ** 53 - 1]], extras: [[1], []] } }, "seqlens.tokens");
  const endless = new Array(25).fill(9e15);
  for (const trailingShape of [endless, [...endless, 0]]) {
    const structure = { trailingShapes: { tokens: trailingShape, extras: [] }, data: null };
    refuse({ ...structure, seqlens: { tokens: [[0], [0]], extras: [[1], []] } }, "seqlens.tokens");
  }
  refuse({ seqlens: { tokens: [[6]], extras: [[1]] } }, "seqlens.tokens");
  refuse({ metadata: { note: [1] } }, "metadata.note");
  refuse({ metadata: [] }, "metadata");
  refuse({ data: { tokens: u8(1, 2, 3, 4, 5), extras: null } }, "data.tokens.shape");
  refuse({ data: { tokens: { ...u8(1, 2, 3, 4, 5, 6), dtype: "int8" }, extras: null } }, "data.tokens.dtype", "int8");
  refuse({ data: { tokens: { ...u8(1), shape: [6] }, extras: null } }, "data.tokens.bytes", 1);
  refuse(
    { data: { tokens: { ...new Remote(u8(1)), shape: [6], toHost() {} }, extras: null } },
    "data.tokens.byteLength",
    1,
  );
  refuse({ data: { tokens: undefined, extras: null } }, "data.tokens");
  refuse({ data: { tokens: null } }, "data");
  const circle: unknown[] = [];
  circle.push(circle);
  refuse({ metadata: { note: [circle, 0] } }, "metadata.note");
  assertThrows(() => new SequenceSample(null as unknown as SequenceSampleInit), SampleError);
  assertThrows(
    () =>
      new SequenceSample(JSON.parse('{"ids":[],"keys":["__proto__"],"dtypes":{},"trailingShapes":{},"seqlens":{}}')),
    SampleError,
    "__proto__",
  );
});

Deno.test("names of an object's own methods are keys like any other", () => {
  const keys = ["constructor", "toString", "hasOwnProperty"];
  const record = <T>(value: T): Record<string, T> => Object.fromEntries(keys.map((key) => [key, value]));
  const sample = new SequenceSample({
    ids: ["i"],
    keys,
    dtypes: record("uint8"),
    trailingShapes: record([]),
    seqlens: record([[1]]),
    data: record(u8(1)),
    metadata: record([1]),
  });
  // As text: the assertion itself stumbles over an entry called "constructor".
  assertEquals(JSON.stringify(SequenceSample.gather(sample.unpack())), JSON.stringify(sample));
  assertThrows(() => batch().select(["constructor"]), SampleError, '"constructor"');
  assertThrows(() => batch().lengthOf("constructor", 0), SampleError);
});

Deno.test("indexOf() and lengthOf() look up ids and lengths", () => {
  const sample = batch();
  assertEquals(["i", "j", "k"].map((id) => sample.indexOf(id)), [0, 1, undefined]);
  assertEquals([sample.lengthOf("tokens", 0), sample.lengthOf("tokens", 1), sample.lengthOf("extras", 1)], [3, 3, 0]);
  assertThrows(() => sample.lengthOf("tokens", 2), SampleError, "position 2");
});

Deno.test("what needs no bytes works with tensors that are elsewhere", () => {
  const sample = remote();
  const { x } = sample.data!;
  assertStrictEquals(sample.unpack()[0]!.data!.x, x);
  assertStrictEquals(sample.select(["x"]).data!.x, x);
  assertStrictEquals(sample.split({ nMbs: 1 }).samples[0]!.data!.x, x);
  assertEquals(sample.meta().data, null);
  const copy = sample.select(["y"]);
  copy.update(sample);
  copy.remapKeys({ x: "z" });
  assertStrictEquals(copy.data!.z, x);
});

Deno.test("what needs bytes refuses tensors that are elsewhere, and names the key", () => {
  const sample = remote(["i", "j"]);
  for (
    const run of [
      () => sample.unpack(),
      () => sample.reorder([1, 0]),
      () => SequenceSample.gather([remote(["i"]), remote(["j"])]),
      () => sample.splitWithSpec({ sizes: [1, 1] }),
      () => sample.toJSON(),
      () => sample.toSafetensors(),
    ]
  ) {
    const error = assertThrows(run, SampleError, '"x"');
    assertEquals(error.field, "data.x");
  }
});

Deno.test("what needs bytes refuses a tensor whose buffer was given away or resized since, and names the key", () => {
  const of = (bytes: Uint8Array) =>
    new SequenceSample({
      ids: ["i", "j"],
      keys: ["k"],
      dtypes: { k: "int64" },
      trailingShapes: { k: [] },
      seqlens: { k: [[1], [1]] },
      data: { k: { dtype: "int64", shape: [2], bytes } },
    });
  const given = new Uint8Array(16);
  const buffer = new ArrayBuffer(16, { maxByteLength: 32 });
  const samples = [of(given), of(new Uint8Array(buffer))];
  structuredClone(given.buffer, { transfer: [given.buffer] });
  buffer.resize(4);
  for (const [i, sample] of samples.entries()) {
    const needsBytes: (() => unknown)[] = [
      () => sample.unpack(),
      () => sample.reorder([1, 0]),
      () => sample.split({ nMbs: 2 }),
      () => SequenceSample.gather([sample]),
      () => sample.toJSON(),
      () => sample.toSafetensors(),
    ];
    for (const use of needsBytes) {
      const error = assertThrows(use, SampleError, "int64 of shape [2] takes 16");
      assertEquals([error.field, error.value], ["data.k.bytes", [0, 4][i]]);
    }
    assertEquals(sample.select(["k"]).ids, ["i", "j"]);
  }
});

Deno.test("select() and gather() take a list of keys, one named twice once, and nothing else", () => {
  const names = ["extras", "tokens", "extras"];
  assertEquals(batch().select(names).keys, ["extras", "tokens"]);
  assertEquals(SequenceSample.gather([batch()], names).keys, ["extras", "tokens"]);
  for (const keys of ["tokens", 5, new Set(["tokens"]), null, [7]] as unknown[]) {
    for (
      const use of [() => batch().select(keys as string[]), () => SequenceSample.gather([batch()], keys as string[])]
    ) {
      assertThrows(use, SampleError, "keys");
    }
  }
});

Deno.test("toHost() fetches every handle once and leaves the sample as it was", async () => {
  const sample = remote(["i", "j"]);
  const handle = sample.data!.x as Remote;
  const host = await sample.toHost();
  assertEquals(host.data, { x: u8(0, 0, 1, 1), y: u8(0, 0, 1, 1) });
  assertEquals(handle.fetched, 1);
  assertStrictEquals(sample.data!.x, handle);
  assertEquals(host.unpack()[1]!.data!.x, u8(1, 1));
  assertEquals((await sample.meta().toHost()).data, null);
});

Deno.test("toHost() fetches all handles at the same time and passes the options on", async () => {
  const waiting: (() => void)[] = [];
  const seen: unknown[] = [];
  const slow = (): TensorHandle => ({
    dtype: "uint8",
    shape: [1],
    byteLength: 1,
    async toHost(options) {
      seen.push(options);
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        // Nobody goes on before both have come.
        if (waiting.length === 2) waiting.forEach((go) => go());
      });
      return u8(5);
    },
  });
  const record = <T>(value: () => T) => ({ x: value(), y: value() });
  const sample = new SequenceSample({
    ids: ["i"],
    keys: ["x", "y"],
    dtypes: record(() => "uint8" as const),
    trailingShapes: record(() => []),
    seqlens: record(() => [[1]]),
    data: record(slow),
  });
  const options = { timeoutMs: 5 };
  assertEquals((await sample.toHost(options)).data, record(() => u8(5)));
  assertEquals(seen, [options, options]);
});

Deno.test("toHost() refuses a handle that brings another tensor than it stands for", async () => {
  for (
    const brought of [u8(1), { ...u8(1, 1), dtype: "int8" as const }, new Remote(u8(1, 1)) as unknown as HostTensor]
  ) {
    const sample = remote();
    (sample.data!.x as Remote).toHost = () => Promise.resolve(brought);
    await assertRejects(() => sample.toHost(), SampleError, "data.x");
  }
});

Deno.test("isHostTensor() tells tensors from handles", () => {
  assert(isHostTensor(u8(1)));
  assert(!isHostTensor(new Remote(u8(1))));
});

Deno.test("a batch of 65,536 ids is taken apart in time that is linear", () => {
  const count = 65_536;
  const ids = Array.from({ length: count }, (_, i) => `prompt-${i}`);
  const keys = ["a", "b", "c"];
  const record = <T>(value: T): Record<string, T> => Object.fromEntries(keys.map((key) => [key, value]));
  const lengths = ids.map((_, i) => [i % 7]);
  const total = lengths.flat().reduce((sum, n) => sum + n, 0);
  const sample = new SequenceSample({
    ids,
    keys,
    dtypes: record("uint8"),
    trailingShapes: record([]),
    seqlens: record(lengths),
    data: record({ dtype: "uint8", shape: [total], bytes: new Uint8Array(total) }),
  });
  // Quadratic work would take minutes.
  const parts = sample.unpack();
  assertEquals(parts.length, count);
  assertEquals(SequenceSample.gather(parts).batchSize, count);
  assertEquals(sample.meta().split({ nMbs: 1, maxTokensPerMb: 20 }).forwardIndices.length, count);
});
