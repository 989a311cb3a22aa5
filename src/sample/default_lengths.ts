/**
 * How long the fields of a reinforcement-learning batch are, by their names.
 *
 * The names are those of AReaL's data API: the main length is that of the prompt and response together, in tokens.
 *
 * @module
 */

import { isCount } from "../count.ts";
import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { entryOf } from "./path.ts";
import type { HostTensor } from "./tensor.ts";

/** What `SequenceSample.fromDefault` takes. */
export interface FromDefaultInit {
  /** Names of the samples; numbers become strings. */
  ids: readonly (string | number)[];
  /** Per id the main length: of prompt and response, in tokens. Plain, or each in an array of its own. */
  seqlens: readonly number[] | readonly (readonly number[])[];
  /** Per key the tensor. */
  data: Record<string, HostTensor | null>;
  /** Per name one entry per id. */
  metadata?: Record<string, readonly unknown[]>;
}

/** One value for each sequence. */
const PER_SEQUENCE = [
  "seq_no_eos_mask",
  "greedy_seq_no_eos_mask",
  "loss_mask",
  "rewards",
  "greedy_rewards",
  "base_scores",
  "task_ids",
];

/** One value for each token. */
const PER_TOKEN = [
  "input_ids",
  "packed_seq",
  "seq",
  "packed_logits_mask",
  "logits_mask",
  "prompt_mask",
  "greedy_prompt_mask",
  "packed_input_ids",
  "greedy_packed_input_ids",
  "values",
  "packed_prompts",
];

/** One value for each token but the first: what is known of a token given those before it. */
const PER_TRANSITION = [
  "packed_logprobs",
  "prox_logp",
  "logprobs",
  "packed_ref_logprobs",
  "ref_logprobs",
  "old_logp",
  "ref_logp",
  "advantages",
  "ppo_loss_mask",
  "kl_rewards",
  "returns",
];

const RULES: ReadonlyMap<string, (mainLength: number) => number> = new Map([
  ...PER_SEQUENCE.map((key) => [key, () => 1] as const),
  ...PER_TOKEN.map((key) => [key, (mainLength: number) => mainLength] as const),
  ...PER_TRANSITION.map((key) => [key, (mainLength: number) => mainLength - 1] as const),
]);

/**
 * The lengths under one key.
 *
 * @param key The name of the field.
 * @param mainLengths Per id the length of its one sequence, in tokens.
 * @returns Per id the length of its one sequence under the key.
 * @throws {SampleError} for a key that has no rule, and for an empty sequence under a key that is one shorter.
 */
export function defaultLengths(key: string, mainLengths: readonly number[]): number[][] {
  const rule = RULES.get(key);
  if (rule === undefined) {
    throw new SampleError(
      `the lengths of the key ${show(key)} do not follow from its name: construct the sample with its seqlens`,
      { field: entryOf("data", key), value: key },
    );
  }
  return mainLengths.map((mainLength, i) => {
    const length = rule(mainLength);
    if (length >= 0) return [length];
    throw new SampleError(`seqlens[${i}] is ${mainLength}, and under the key ${show(key)} the length is one less`, {
      field: `seqlens[${i}]`,
      value: mainLength,
    });
  });
}

/**
 * The main lengths, flat: one sequence for each id.
 *
 * @param seqlens Per id its length, or an array that holds just that.
 * @throws {SampleError} when there are none, some are of either form, or one is no length.
 */
export function flatLengths(seqlens: readonly number[] | readonly (readonly number[])[]): number[] {
  if (!Array.isArray(seqlens) || seqlens.length === 0) {
    throw new SampleError(`seqlens is an array with at least one length, not ${show(seqlens)}`, {
      field: "seqlens",
      value: seqlens,
    });
  }
  const nested = Array.isArray(seqlens[0]);
  return seqlens.map((entry: unknown, i) => {
    const length: unknown = !nested ? entry : Array.isArray(entry) && entry.length === 1 ? entry[0] : undefined;
    if (isCount(length)) return length;
    throw new SampleError(
      `seqlens[${i}] is ${nested ? "an array with one integer from 0 up" : "an integer from 0 up"}, not ${show(entry)}`,
      { field: `seqlens[${i}]`, value: entry },
    );
  });
}

/** Ids as strings. Throws a {@linkcode SampleError} for what is neither a string nor a number. */
export function stringIds(ids: readonly (string | number)[]): string[] {
  if (!Array.isArray(ids)) {
    throw new SampleError(`ids is an array of strings or numbers, not ${show(ids)}`, { field: "ids", value: ids });
  }
  return ids.map((id: unknown, i) => {
    if (typeof id === "string" || Number.isFinite(id)) return String(id);
    throw new SampleError(`ids[${i}] is a string or a number, not ${show(id)}`, { field: `ids[${i}]`, value: id });
  });
}
