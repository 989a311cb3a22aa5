/**
 * What a person got wrong, told in one sentence.
 *
 * @module
 */

import { SeqferryError } from "../errors.ts";

/** Input or usage that cannot be worked with: exit code 2. The message is one sentence that begins with the place. */
export class InputError extends SeqferryError {
  /** Where: `rollouts.jsonl:3`, `--layouts`, a file's path; empty where there is no place. */
  readonly place: string;

  /** `what` is the rest of the sentence, after the place and a colon. */
  constructor(place: string, what: string, options?: ErrorOptions) {
    super(place === "" ? what : `${place}: ${what}`, options);
    this.place = place;
  }
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Why a file could not be read or written, in a few words. */
export function fileTrouble(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file or folder";
  if (error instanceof Deno.errors.PermissionDenied) return "the system does not permit it";
  if (error instanceof Deno.errors.NotCapable) return messageOf(error);
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  if (error instanceof Deno.errors.NotADirectory) return "a part of the path is not a folder";
  return messageOf(error).replace(/ \(os error \d+\).*$/s, "");
}
