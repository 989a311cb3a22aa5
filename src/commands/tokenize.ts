/**
 * Text to tokens, with the byte-pair encoding o200k_base. Its vocabulary comes inside the npm package: nothing is fetched when it runs.
 *
 * @module
 */

import { decode, encode } from "npm:gpt-tokenizer@4.0.0/encoding/o200k_base";

/** What the report calls it. */
export const TOKENIZER = "gpt-tokenizer 4.0.0, o200k_base";

/** Names of special tokens in a prompt are a person's text, and are encoded as such. */
const asText = { disallowedSpecial: new Set<string>() };

/** The tokens of a text, each an integer from 0 below 2^18. */
export function tokenize(text: string): number[] {
  return encode(text, asText);
}

/** The text of tokens; the text that was tokenized, where it was well-formed Unicode. */
export function detokenize(tokens: Iterable<number>): string {
  return decode(tokens);
}
