/**
 * Rollouts as one sample: each prompt an id, with as many sequences as it has responses.
 *
 * | key | dtype | lengths | from |
 * |---|---|---|---|
 * | `packed_input_ids` | int64 | tokens of prompt and response | the file, tokenized |
 * | `prompt_mask` | bool | the same | the file: true where the token is the prompt's |
 * | `packed_logprobs` | float32 | one fewer | the seed |
 * | `rewards` | float32 | 1 | the file |
 * | `version` | int64, above 2^53 | 1 | the seed |
 * | `values` | bfloat16, trailing shape [4] | tokens | the seed |
 *
 * @module
 */

import { type DType, type HostTensor, SequenceSample } from "../../mod.ts";
import type { Rollout } from "./rollouts.ts";
import { synthesizeLogprobs, synthesizeValues, synthesizeVersions, type Words, words } from "./synthesize.ts";

/** The keys that a rollout file does not hold. */
export const SYNTHESIZED_KEYS: readonly string[] = ["packed_logprobs", "values", "version"];

/** Numbers per token in `values`. */
const VALUE_WIDTH = 4;

/**
 * Tokenizes rollouts into one sample; its metadata has `line`, where each prompt stood in the file.
 *
 * @param seed What {@linkcode SYNTHESIZED_KEYS} are made from.
 * @param tokenize Turns a text into tokens, each an integer from 0 below 2^31.
 */
export function rolloutSample(
  rollouts: readonly Rollout[],
  seed: number,
  tokenize: (text: string) => readonly number[],
): SequenceSample {
  const prompts = rollouts.map(({ prompt }) => tokenize(prompt));
  const sequences = rollouts.map(({ responses }, i) =>
    responses.map((response) => ({ prompt: prompts[i]!, response: tokenize(response) }))
  );
  const tokens = sequences.map((ofId) => ofId.map(({ prompt, response }) => prompt.length + response.length));
  const fewer = tokens.map((lengths) => lengths.map((length) => length - 1));
  const ones = tokens.map((lengths) => lengths.map(() => 1));
  const total = sum(tokens.flat());

  const inputIds = new Int32Array(2 * total);
  const mask = new Uint8Array(total);
  let at = 0;
  for (const { prompt, response } of sequences.flat()) {
    mask.fill(1, at, at + prompt.length);
    // Little-endian int64, whose high word is 0: a token is below 2^31.
    for (const token of prompt) inputIds[2 * at++] = token;
    for (const token of response) inputIds[2 * at++] = token;
  }
  const perId = (key: string, lengths: readonly (readonly number[])[], make: Synthesizer) =>
    concat(rollouts.map(({ id }, i) => make(sum(lengths[i]!), words(seed, key, id))));

  const data: Record<string, HostTensor> = {
    packed_input_ids: tensor("int64", [total], inputIds),
    prompt_mask: tensor("bool", [total], mask),
    packed_logprobs: tensor("float32", [sum(fewer.flat())], perId("packed_logprobs", fewer, synthesizeLogprobs)),
    rewards: tensor("float32", [sum(ones.flat())], Float32Array.from(rollouts.flatMap(({ rewards }) => rewards))),
    version: tensor("int64", [sum(ones.flat())], perId("version", ones, synthesizeVersions)),
    values: tensor(
      "bfloat16",
      [total, VALUE_WIDTH],
      perId("values", tokens, (count, next) => synthesizeValues(count * VALUE_WIDTH, next)),
    ),
  };
  return new SequenceSample({
    ids: rollouts.map(({ id }) => id),
    keys: Object.keys(data),
    dtypes: Object.fromEntries(Object.entries(data).map(([key, { dtype }]) => [key, dtype])),
    trailingShapes: Object.fromEntries(Object.entries(data).map(([key, { shape }]) => [key, shape.slice(1)])),
    seqlens: {
      packed_input_ids: tokens,
      prompt_mask: tokens,
      packed_logprobs: fewer,
      rewards: ones,
      version: ones,
      values: tokens,
    },
    data,
    metadata: { line: rollouts.map(({ line }) => line) },
  });
}

/** Makes `count` elements. */
type Synthesizer = (count: number, next: Words) => ArrayBufferView;

function tensor(dtype: DType, shape: number[], view: ArrayBufferView): HostTensor {
  return { dtype, shape, bytes: new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength) };
}

function concat(parts: readonly ArrayBufferView[]): Uint8Array {
  const bytes = new Uint8Array(sum(parts.map(({ byteLength }) => byteLength)));
  let at = 0;
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
    at += part.byteLength;
  }
  return bytes;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
