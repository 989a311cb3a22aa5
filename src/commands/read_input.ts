/**
 * The input of a run: rollouts as JSON Lines, or a sample as safetensors.
 *
 * @module
 */

import { SequenceSample } from "../../mod.ts";
import { fileTrouble, InputError, messageOf } from "./input_error.ts";
import { rolloutSample, SYNTHESIZED_KEYS } from "./rollout_sample.ts";
import { parseRollouts } from "./rollouts.ts";
import { tokenize, TOKENIZER } from "./tokenize.ts";
import { counted } from "./units.ts";

/** What a run moves, and what a person should know of it. */
export interface Input {
  /** All of it, on the host; every key has data. */
  readonly sample: SequenceSample;
  /** The keys that were made from the seed, since the file does not hold them. */
  readonly synthesizedKeys: readonly string[];
  /** What turned text into tokens; null where the file holds tokens. */
  readonly tokenizer: string | null;
  /** In a few words. */
  readonly summary: string;
  /** What was left out, in sentences. */
  readonly notes: readonly string[];
}

/** The rollouts that come with the project. */
export const defaultInput: URL = new URL("./data/rollouts.jsonl", import.meta.url);

/**
 * Reads the input: a file whose name ends in `.safetensors` as such, any other as JSON Lines.
 *
 * @param file Its path; {@linkcode defaultInput} where it is undefined.
 * @param seed What the keys that a rollout file does not hold are made from.
 * @throws {InputError} that begins with the place.
 */
export async function readInput(file: string | undefined, seed: number): Promise<Input> {
  const name = file ?? "rollouts.jsonl";
  let bytes: Uint8Array;
  try {
    bytes = file === undefined
      ? new Uint8Array(await (await fetch(defaultInput)).arrayBuffer())
      : await Deno.readFile(file);
  } catch (error) {
    throw new InputError(name, `it cannot be read: ${fileTrouble(error)}`, { cause: error });
  }
  return name.endsWith(".safetensors") ? fromSafetensors(bytes, name) : fromRollouts(bytes, name, seed);
}

function fromRollouts(bytes: Uint8Array, name: string, seed: number): Input {
  const sample = rolloutSample(parseRollouts(bytes, name), seed, tokenize);
  const tokens = sample.seqlens.packed_input_ids!.flat();
  return {
    sample,
    synthesizedKeys: SYNTHESIZED_KEYS,
    tokenizer: TOKENIZER,
    summary: `${counted(sample.batchSize, "prompt")}, ${counted(tokens.length, "response")}, ${
      counted(tokens.reduce((sum, length) => sum + length, 0), "token")
    } from ${name}`,
    notes: [],
  };
}

function fromSafetensors(bytes: Uint8Array, name: string): Input {
  let sample: SequenceSample;
  try {
    sample = SequenceSample.fromSafetensors(bytes);
  } catch (error) {
    throw new InputError(name, messageOf(error), { cause: error });
  }
  if (sample.ids.length === 0) throw new InputError(name, "there is no id in it");
  const keys = sample.keys.filter((key) => sample.dtypes[key] !== null && sample.data?.[key] != null);
  if (keys.length === 0) throw new InputError(name, "no key in it has data");
  const absent = sample.keys.filter((key) => !keys.includes(key));
  return {
    sample: absent.length === 0 ? sample : sample.select(keys),
    synthesizedKeys: [],
    tokenizer: null,
    summary: `${counted(sample.ids.length, "id")} with ${counted(keys.length, "key")} from ${name}`,
    notes: absent.map((key) => `${key} has no data in ${name} and stays behind`),
  };
}
