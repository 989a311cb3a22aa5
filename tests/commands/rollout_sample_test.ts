import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { readInput } from "../../src/commands/read_input.ts";
import { rolloutSample, SYNTHESIZED_KEYS } from "../../src/commands/rollout_sample.ts";
import type { Rollout } from "../../src/commands/rollouts.ts";
import { detokenize, tokenize } from "../../src/commands/tokenize.ts";
import { xoshiro128 } from "../../src/commands/synthesize.ts";
import type { HostTensor, SequenceSample } from "../../mod.ts";

const rollouts: readonly Rollout[] = [
  { id: "a", prompt: "Is 91 a prime?", responses: ["No: 91 = 7 × 13.", "はい 🎉"], rewards: [1, -0.5], line: 1 },
  { id: "b", prompt: "", responses: ["x"], rewards: [0.25], line: 3 },
];

function bytesOf(sample: SequenceSample, key: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from((sample.data![key] as HostTensor).bytes);
}

Deno.test("tokenize() loses nothing, names of special tokens included", () => {
  for (const text of ["", "plain", "naïve 日本語 👩‍👧‍👦", "a <|endoftext|> b", "tabs\tand\r\nlines"]) {
    assertEquals(detokenize(tokenize(text)), text);
  }
});

Deno.test("rolloutSample() packs prompt and response tokens into one sequence per response", () => {
  const sample = rolloutSample(rollouts, 1, tokenize);
  assertEquals([...sample.ids], ["a", "b"]);
  const tokens = [...new BigInt64Array(bytesOf(sample, "packed_input_ids").buffer)].map(Number);
  const mask = [...bytesOf(sample, "prompt_mask")];
  let at = 0;
  for (const [i, { prompt, responses }] of rollouts.entries()) {
    for (const [j, response] of responses.entries()) {
      const length = sample.seqlens.packed_input_ids![i]![j]!;
      const promptLength = tokenize(prompt).length;
      assertEquals(detokenize(tokens.slice(at, at + length)), prompt + response);
      assertEquals(mask.slice(at, at + length), Array.from({ length }, (_, k) => k < promptLength ? 1 : 0));
      at += length;
    }
  }
  assertEquals(at, tokens.length);
});

Deno.test("rolloutSample() gives each key its dtype, trailing shape and lengths", () => {
  const sample = rolloutSample(rollouts, 1, tokenize);
  const lengths = sample.seqlens.packed_input_ids!;
  assertEquals({ ...sample.dtypes }, {
    packed_input_ids: "int64",
    prompt_mask: "bool",
    packed_logprobs: "float32",
    rewards: "float32",
    version: "int64",
    values: "bfloat16",
  });
  assertEquals(sample.trailingShapes.values, [4]);
  assertEquals(sample.seqlens.packed_logprobs, lengths.map((ofId) => ofId.map((length) => length - 1)));
  assertEquals(sample.seqlens.rewards, [[1, 1], [1]]);
  assertEquals([...new Float32Array(bytesOf(sample, "rewards").buffer)], [1, -0.5, 0.25]);
  assertEquals(sample.metadata, { line: [1, 3] });
});

Deno.test("rolloutSample() makes versions that no float64 holds, and log-probabilities that are none above 0", () => {
  const sample = rolloutSample(rollouts, 1, tokenize);
  for (const version of new BigInt64Array(bytesOf(sample, "version").buffer)) {
    assert(version > 2n ** 53n);
    assertNotEquals(BigInt(Number(version)), version);
  }
  const logprobs = [...new Float32Array(bytesOf(sample, "packed_logprobs").buffer)];
  assert(logprobs.length > 5 && logprobs.every((value) => value <= 0 && value >= -5.5));
  assert(new Set(logprobs).size > 5);
});

Deno.test("rolloutSample() synthesizes the same bytes from the same seed, whatever stands before an id", () => {
  const whole = rolloutSample(rollouts, 7, tokenize).unpack();
  const alone = rolloutSample([rollouts[1]!], 7, tokenize);
  const other = rolloutSample([rollouts[1]!], 8, tokenize);
  for (const key of SYNTHESIZED_KEYS.filter((key) => alone.seqlens[key]!.flat().some((length) => length > 0))) {
    assertEquals(bytesOf(whole[1]!, key), bytesOf(alone, key));
  }
  assertNotEquals(bytesOf(alone, "values"), bytesOf(other, "values"));
});

Deno.test("xoshiro128() is the published generator", () => {
  const next = xoshiro128([1, 2, 3, 4]);
  assertEquals(Array.from({ length: 6 }, next), [11520, 0, 5927040, 70819200, 2031721883, 1637235492]);
});

Deno.test("rolloutSample() makes these bytes on every machine", () => {
  const sample = rolloutSample([rollouts[1]!], 1, tokenize);
  assertEquals(bytesOf(sample, "version").toHex(), "d506000000002000");
  assertEquals(bytesOf(sample, "values").toHex(), "cdbf33bedbbf1ebe");
});

Deno.test("readInput() reads the rollouts that come with the project", async () => {
  const { sample, synthesizedKeys } = await readInput(undefined, 1);
  assert(sample.ids.length >= 8);
  assertEquals(synthesizedKeys, SYNTHESIZED_KEYS);
  for (const lengths of sample.seqlens.packed_input_ids!) assertEquals(lengths.length, 4);
});
