import { assert, assertEquals, assertThrows } from "@std/assert";
import { SampleError } from "../../src/errors.ts";
import type { DType } from "../../src/sample/dtype.ts";
import { firstFitDecreasing } from "../../src/sample/first_fit_decreasing.ts";
import { type MicroBatchSpec, SequenceSample, type SplitResult } from "../../src/sample/sequence_sample.ts";
import { boundariesOf, reorderOutput } from "../../src/sample/split.ts";
import type { HostTensor } from "../../src/sample/tensor.ts";
import {
  allocations,
  bytesOf,
  type Case,
  initOf,
  plain,
  tensorOf,
  unusedVectors,
  vector,
  type VectorSample,
  vectorsOf,
  type VectorTensor,
} from "./vectors.ts";

const make = (sample: unknown) => new SequenceSample(initOf(sample as VectorSample));
const makeAll = (samples: unknown) => (samples as VectorSample[]).map(make);
const [a, b] = makeAll(vector("gather([a,b])").inputs) as [SequenceSample, SequenceSample];
const p = make(vector("unpack(p)").inputs);
const v2 = make(vector("unpack(v2)").inputs);
const big = make(vector("split(big,{'n_mbs': 1})").inputs);

function withoutMetadata(sample: SequenceSample): SequenceSample {
  const { ids, keys, dtypes, trailingShapes, seqlens, data } = sample;
  return new SequenceSample({ ids, keys, dtypes, trailingShapes, seqlens, data });
}

/** Runs what the vector ran, and compares what came of it with a sample or samples. */
function agrees(vector: Case, run: () => SequenceSample | SequenceSample[]): void {
  assert(vector.note === undefined, vector.op);
  if (vector.error) {
    assertThrows(run, SampleError, undefined, vector.op);
    return;
  }
  const result = run();
  const expected = Array.isArray(vector.ok) ? vector.ok.map((ok) => plain(make(ok))) : plain(make(vector.ok));
  assertEquals(Array.isArray(result) ? result.map(plain) : plain(result), expected, vector.op);
}

Deno.test("gather() agrees with the vectors", () => {
  for (const op of ["gather([a,b])", "gather([a.meta(),b.meta()])", "gather([p])", "gather([none])"]) {
    agrees(vector(op), () => SequenceSample.gather(makeAll(vector(op).inputs)));
  }
  const some = vector("gather([a,b],keys=[rewards,input_ids])");
  agrees(some, () => SequenceSample.gather(makeAll(some.inputs), ["rewards", "input_ids"]));
  agrees(vector("gather([a,p]) keys missing in 2nd"), () => SequenceSample.gather([a, p]));
  agrees(vector("gather([a,b without metadata])"), () => SequenceSample.gather([a, withoutMetadata(b)]));
  agrees(vector("gather([])"), () => SequenceSample.gather([]));
  agrees(vector("gather([a, b.meta()])"), () => SequenceSample.gather([a, b.meta()]));
  agrees(vector("gather([a.meta(), b])"), () => SequenceSample.gather([a.meta(), b]));
});

Deno.test("gather() refuses what the reference wrongly accepts", () => {
  assert(vector("gather([a,a]) duplicate ids").note);
  assertThrows(() => SequenceSample.gather([a, a]), SampleError, '"a"');
  assert(vector("gather([b without metadata, a])").note);
  assertThrows(() => SequenceSample.gather([withoutMetadata(b), a]), SampleError, "metadata");
});

Deno.test("unpack(), meta() and gather(unpack()) agree with the vectors", () => {
  for (const name of ["a", "p", "v2", "none", "a.meta()"]) {
    const unpacked = vector(`unpack(${name})`);
    agrees(unpacked, () => make(unpacked.inputs).unpack());
    const meta = vector(`meta(${name})`);
    agrees(meta, () => make(meta.inputs).meta());
    const gathered = vector(`gather(unpack(${name}))`);
    agrees(gathered, () => SequenceSample.gather(make(gathered.inputs).unpack()));
  }
});

Deno.test("toJSON() and fromJSON() agree with the vectors", () => {
  for (const name of ["a", "p", "v2", "none"]) {
    const written = vector(`as_json_compatible(${name})`);
    const json = make(written.inputs).toJSON();
    assertEquals<unknown>(json, written.ok, name);
    assertEquals(Object.keys(json), Object.keys(written.ok as object));
    agrees(vector(`from_json(as_json(${name}))`), () => SequenceSample.fromJSON(written.ok));
  }
});

Deno.test("toJSON() writes a metadata-only sample, where the reference raises", () => {
  const { inputs, error } = vector("as_json_compatible(a.meta())");
  assert(error && vector("from_json(as_json(a.meta()))").error);
  const sample = make(inputs);
  assertEquals(sample.toJSON().data, null);
  assertEquals(SequenceSample.fromJSON(sample.toJSON()), sample);
});

Deno.test("splitWithSpec() agrees with the vectors", () => {
  for (
    const [text, spec] of [
      ["{'sizes': [2, 1]}", { sizes: [2, 1] }],
      ["{'partitions': [(0, 1), (1, 3)]}", { partitions: [[0, 1], [1, 3]] }],
      ["{'sizes': [1, 1, 1]}", { sizes: [1, 1, 1] }],
      ["{'sizes': [3]}", { sizes: [3] }],
    ] as const
  ) {
    for (const name of ["a", "p"]) {
      const split = vector(`split_with_spec(${name},${text})`);
      agrees(split, () => make(split.inputs).splitWithSpec(spec));
    }
  }
  agrees(vector("split_with_spec(a,sizes=[0,3]) empty part"), () => a.splitWithSpec({ sizes: [0, 3] }));
});

Deno.test("splitWithSpec() refuses sizes that do not add up, which the reference wrongly accepts", () => {
  assert(vector("split_with_spec(a,sizes=[1,1]) too short").note);
  assertThrows(() => a.splitWithSpec({ sizes: [1, 1] }), SampleError, "cover 2 ids");
  assert(vector("split_with_spec(a,sizes=[2,3]) too long").note);
  assertThrows(() => a.splitWithSpec({ sizes: [2, 3] }), SampleError, "cover 5 ids");
});

Deno.test("boundariesOf() agrees with the vectors of SequenceSplitSpec", () => {
  for (const { op, ok, error } of vectorsOf("SequenceSplitSpec(")) {
    const text = op.slice("SequenceSplitSpec(".length, -1).replaceAll("(", "[").replaceAll(")", "]");
    const spec = JSON.parse(text.replaceAll("'", '"')) as { sizes?: number[]; partitions?: [number, number][] };
    const batchSize = (spec.sizes ?? spec.partitions?.map(([start, end]) => end - start) ?? []).reduce(
      (sum, size) => sum + size,
      0,
    );
    // The reference takes a negative size.
    if (error || op.includes("-1")) {
      assertThrows(() => boundariesOf(spec, batchSize), SampleError, undefined, op);
    } else {
      const { partitions } = ok as { partitions: [number, number][] };
      assertEquals(boundariesOf(spec, batchSize), [0, ...partitions.map(([, end]) => end)], op);
    }
  }
});

Deno.test("split() and splitWithLengths() agree with the vectors", () => {
  interface Expected {
    parts: string[][];
    forward_indices: number[];
    backward_indices: number[];
    samples_meta?: VectorSample[] | null;
  }
  const check = ({ op, ok, error }: Case, run: () => SplitResult) => {
    if (error) {
      assertThrows(run, SampleError, undefined, op);
      return;
    }
    const { samples, forwardIndices, backwardIndices } = run();
    const expected = ok as Expected;
    assertEquals(samples.map(({ ids }) => ids), expected.parts, op);
    assertEquals(forwardIndices, expected.forward_indices, op);
    assertEquals(backwardIndices, expected.backward_indices, op);
    if (expected.samples_meta) assertEquals(samples.map(plain), expected.samples_meta.map((s) => plain(make(s))), op);
  };
  const splits = vectorsOf("split(big,");
  assertEquals(splits.length, 9);
  for (const split of splits) {
    const spec = JSON.parse(split.op.slice("split(big,".length, -1).replaceAll("'", '"')) as Record<string, number>;
    const micro: MicroBatchSpec = { nMbs: spec.n_mbs! };
    if (spec.max_tokens_per_mb !== undefined) micro.maxTokensPerMb = spec.max_tokens_per_mb;
    check(split, () => big.split(micro));
  }
  check(
    vector("split_with_lengths(big,n_mbs=4,lens=[1]*10)"),
    () => big.splitWithLengths({ nMbs: 4 }, new Array<number>(10).fill(1)),
  );
});

Deno.test("firstFitDecreasing() agrees with the vectors", () => {
  assertEquals(allocations.length, 8);
  for (const { values, capacity, min_groups: minGroups, ok } of allocations) {
    if (ok === undefined) assertThrows(() => firstFitDecreasing(values, capacity, minGroups), SampleError);
    else assertEquals(firstFitDecreasing(values, capacity, minGroups), ok);
  }
});

Deno.test("reorder() agrees with the vectors, and refuses repeats", () => {
  agrees(vector("reorder(a,[2,0,1])"), () => a.reorder([2, 0, 1]));
  agrees(vector("reorder(a,[0,1])"), () => a.reorder([0, 1]));
  assert(vector("reorder(a,[0,1,2,2])").note);
  assertThrows(() => a.reorder([0, 1, 2, 2]), SampleError);
});

Deno.test("reorderOutput() agrees with the vectors", () => {
  const { inputs, ok } = vector("reorder_output");
  const { input, output, equals_original: equalsOriginal } = ok as {
    input: VectorTensor;
    output: VectorTensor;
    equals_original: boolean;
  };
  const sample = make(inputs);
  const split = sample.split({ nMbs: 3 });
  assertEquals(SequenceSample.gather(split.samples).data!.packed_logprobs, tensorOf(input));
  const result = reorderOutput(
    tensorOf(input),
    sample.seqlens.packed_logprobs!,
    split.forwardIndices,
    split.backwardIndices,
  );
  assertEquals(result, tensorOf(output));
  assert(equalsOriginal);
  assertEquals(result, sample.data!.packed_logprobs as HostTensor);
});

Deno.test("select() agrees with the vectors", () => {
  for (
    const [op, keys] of [["select(a,[rewards])", ["rewards"]], ["select(a,[])", []], ["select(a,[nope])", [
      "nope",
    ]]] as const
  ) {
    agrees(vector(op), () => a.select(keys));
  }
  agrees(vector("select(a.meta(),[rewards,input_ids])"), () => a.meta().select(["rewards", "input_ids"]));
});

Deno.test("update() agrees with the vectors", () => {
  const updated = (sample: SequenceSample, other: SequenceSample) => {
    const copy = sample.select(sample.keys);
    copy.update(other);
    return copy;
  };
  agrees(vector("update_(a,v2)"), () => updated(a, v2));
  agrees(vector("update_(a.meta(),v2.meta())"), () => updated(a.meta(), v2.meta()));
  agrees(vector("update_(a,v2.meta())"), () => updated(a, v2.meta()));
  agrees(vector("update_(a,b) other ids"), () => updated(a, b));
  const overwrite = vector("update_(a,a2) overwrite");
  agrees(overwrite, () => updated(a, makeAll(overwrite.inputs)[1]!));
  // The note says that a metadata-only sample stays one: so it does here.
  assertEquals(plain(updated(a.meta(), v2)), plain(make(vector("update_(a.meta(),v2)").ok)));
});

Deno.test("remapKeys() agrees with the vectors", () => {
  for (
    const [op, map] of [
      ["remap_keys_(a,{rewards:scores})", { rewards: "scores" }],
      ["remap_keys_(a,{nope:x})", { nope: "x" }],
      ["remap_keys_(a.meta(),{input_ids:packed_input_ids})", { input_ids: "packed_input_ids" }],
    ] as const
  ) {
    agrees(vector(op), () => {
      const sample = make(vector(op).inputs);
      sample.remapKeys(map);
      return sample;
    });
  }
});

Deno.test("remapKeys() swaps names and refuses a collision, where the reference loses data", () => {
  const { inputs, note } = vector("remap_keys_ swap {x:y,y:x}");
  assert(note);
  const sample = make(inputs);
  const before = make(inputs);
  sample.remapKeys({ x: "y", y: "x" });
  assertEquals(sample.data, { x: before.data!.y!, y: before.data!.x! });
  assertEquals(sample.seqlens, { x: before.seqlens.y!, y: before.seqlens.x! });
  sample.remapKeys({ x: "y", y: "x" });
  assertEquals(plain(sample), plain(before));

  const collision = vector("remap_keys_ collision {x:y}");
  assert(collision.note);
  const kept = make(collision.inputs);
  assertThrows(() => kept.remapKeys({ x: "y" }), SampleError, '"y"');
  assertEquals(kept, make(collision.inputs));
});

/** Elements 0, 1, 2, ... of the types that the vectors of `from_default` and of the constructor use. */
const arange = (length: number): HostTensor => ({
  dtype: "int64",
  shape: [length],
  bytes: bytesOf("int64", Array.from({ length }, (_, i) => i)),
});
const floats = (values: number[]): HostTensor => ({
  dtype: "float32",
  shape: [values.length],
  bytes: bytesOf("float32", values),
});

Deno.test("fromDefault() agrees with the vectors", () => {
  const ids = ["u", "v"];
  const data = { input_ids: arange(5) };
  const { fromDefault } = SequenceSample;
  agrees(vector("from_default ok"), () => fromDefault({ ids, seqlens: [3, 2], data }));
  agrees(vector("from_default nested seqlens [[3],[2]]"), () => fromDefault({ ids, seqlens: [[3], [2]], data }));
  agrees(
    vector("from_default nested seqlens [[3,1]]"),
    () => fromDefault({ ids: ["u"], seqlens: [[3, 1]], data: { input_ids: arange(4) } }),
  );
  agrees(vector("from_default int ids become str"), () => fromDefault({ ids: [10, 11], seqlens: [3, 2], data }));
  agrees(
    vector("from_default None data"),
    () => fromDefault({ ids, seqlens: [3, 2], data: { ...data, rewards: null } }),
  );
  const mask: HostTensor = { dtype: "bool", shape: [5, 3], bytes: new Uint8Array(15).fill(1) };
  agrees(vector("from_default trailing"), () => fromDefault({ ids, seqlens: [3, 2], data: { logits_mask: mask } }));
  agrees(
    vector("from_default seqlen 1 logprobs"),
    () => fromDefault({ ids, seqlens: [1, 2], data: { packed_logprobs: floats([0.5]) } }),
  );
  agrees(vector("from_default unknown key"), () => fromDefault({ ids, seqlens: [3, 2], data: { foo: arange(5) } }));
  const one = { ids: ["u"], seqlens: [3], data: { input_ids: arange(3) } };
  agrees(vector("from_default bad metadata length"), () => fromDefault({ ...one, metadata: { m: [1, 2] } }));
  agrees(
    vector("from_default metadata not list"),
    () => fromDefault({ ...one, metadata: { m: "x" } as unknown as Record<string, unknown[]> }),
  );
  agrees(
    vector("from_default tensor seqlens"),
    () => fromDefault({ ids, seqlens: arange(2) as unknown as number[], data }),
  );
  agrees(vector("from_default empty"), () => fromDefault({ ids: [], seqlens: [], data: { input_ids: arange(0) } }));
});

Deno.test("fromDefault() has all length rules of the reference", () => {
  const rules = vector("from_default all length rules").ok as Record<string, number[][]>;
  assertEquals(Object.keys(rules).length, 29);
  for (const [key, seqlens] of Object.entries(rules)) {
    const data = { [key]: floats(new Array<number>(seqlens.flat().reduce((sum, n) => sum + n)).fill(0)) };
    assertEquals(SequenceSample.fromDefault({ ids: ["u", "v"], seqlens: [4, 7], data }).seqlens, { [key]: seqlens });
  }
});

Deno.test("fromDefault() refuses a log probability of nothing, which the reference takes for -1", () => {
  assert(vector("from_default seqlen 0 logprobs").note);
  assertThrows(
    () => SequenceSample.fromDefault({ ids: ["u", "v"], seqlens: [0, 2], data: { packed_logprobs: floats([]) } }),
    SampleError,
    "seqlens[0] is 0",
  );
});

const init = {
  ids: ["i", "j"],
  keys: ["x"],
  dtypes: { x: "int64" as DType },
  trailingShapes: { x: [] as number[] },
  seqlens: { x: [[2], [3]] },
  data: { x: arange(5) },
  metadata: {},
};

/** The constructor's argument with other fields, of whatever type. */
const construct = (fields: Record<string, unknown>) => () => new SequenceSample({ ...init, ...fields } as typeof init);

Deno.test("the constructor agrees with the vectors", () => {
  agrees(vector("ctor ok"), construct({}));
  agrees(vector("ctor duplicate ids"), construct({ ids: ["i", "i"] }));
  agrees(vector("ctor duplicate ids after str()"), construct({ ids: [1, "1"] }));
  agrees(vector("ctor ids/seqlens length mismatch"), construct({ ids: ["i"] }));
  agrees(vector("ctor keys mismatch"), construct({ keys: ["x", "y"] }));
  agrees(vector("ctor data key mismatch"), construct({ data: { z: arange(5) } }));
  agrees(vector("ctor shape mismatch"), construct({ data: { x: arange(6) } }));
  agrees(vector("ctor trailing mismatch"), construct({ trailingShapes: { x: [2] } }));
  agrees(vector("ctor dtype mismatch"), construct({ data: { x: floats([0, 1, 2, 3, 4]) } }));
  agrees(vector("ctor seqlens flat list"), construct({ seqlens: { x: [2, 3] } }));
  agrees(vector("ctor seqlens float"), construct({ seqlens: { x: [[2.5], [2.5]] } }));
  agrees(vector("ctor seqlens float integral"), construct({ seqlens: { x: [[2.0], [3.0]] } }));
  agrees(vector("ctor trailing None with data"), construct({ trailingShapes: { x: null } }));
  agrees(vector("ctor data not tensor"), construct({ data: { x: [0, 1, 2, 3, 4] } }));
  agrees(vector("ctor metadata not list"), construct({ metadata: { m: 3 } }));
  agrees(vector("ctor missing dtypes arg"), construct({ dtypes: undefined }));
  agrees(vector("ctor empty bs"), construct({ ids: [], seqlens: { x: [] }, data: { x: arange(0) } }));
});

Deno.test("the constructor refuses what the reference wrongly accepts", () => {
  assert(vector("ctor keys list with duplicates").note);
  assertThrows(construct({ keys: ["x", "x"] }), SampleError, "keys[1]");
  assert(vector("ctor metadata wrong length").note);
  assertThrows(construct({ metadata: { m: [1] } }), SampleError, "metadata.m");
  assert(vector("ctor seqlens negative").ok);
  assertThrows(construct({ seqlens: { x: [[6], [-1]] } }), SampleError, "seqlens.x[1][0]");
  // Python's conversion of text has no place in a typed interface.
  assert(vector("ctor seqlens str").ok);
  assertThrows(construct({ seqlens: { x: [["2"], ["3"]] } }), SampleError, "seqlens.x[0][0]");
});

Deno.test("all vectors are used", () => assertEquals(unusedVectors(), []));
