/**
 * Reading rollouts: JSON Lines, one prompt with all its responses a line.
 *
 * @module
 */

import { show } from "../show.ts";
import { InputError, messageOf } from "./input_error.ts";

/** One prompt, and what a model answered to it. */
export interface Rollout {
  /** Its `id` field, or its number among the rollouts of the file, from 0. */
  readonly id: string;
  /** The prompt's text. */
  readonly prompt: string;
  /** At least one response. */
  readonly responses: readonly string[];
  /** One number per response, finite as float32. */
  readonly rewards: readonly number[];
  /** The line in the file, from 1. */
  readonly line: number;
}

/**
 * Reads rollouts. Each line is an object with `prompt` (a string), `responses` or `generateds` (strings), `rewards`
 * (numbers, finite as float32, one per response) and, if it likes, `id` (a string or an integer); further fields are
 * passed over, and so are blank lines.
 *
 * @param bytes The file's content, in UTF-8.
 * @param file The file's name, for errors.
 * @throws {InputError} with the file and the line, for the first line that is not so; for an id that is there twice, and for a file without rollouts.
 */
export function parseRollouts(bytes: Uint8Array, file: string): Rollout[] {
  const rollouts: Rollout[] = [];
  const lineOf = new Map<string, number>();
  for (const { text, line } of lines(bytes, file)) {
    const place = `${file}:${line}`;
    const rollout = parseRollout(text, place, line, rollouts.length);
    const first = lineOf.get(rollout.id);
    if (first !== undefined) {
      throw new InputError(place, `the id ${show(rollout.id)} is that of line ${first} already`);
    }
    lineOf.set(rollout.id, line);
    rollouts.push(rollout);
  }
  if (rollouts.length === 0) throw new InputError(file, "there is no rollout in it");
  return rollouts;
}

/** The lines that are not blank. */
function* lines(bytes: Uint8Array, file: string): Generator<{ text: string; line: number }> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const newline = 0x0a;
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const found = bytes.indexOf(newline, start);
    const end = found === -1 ? bytes.length : found;
    let text: string;
    try {
      text = decoder.decode(bytes.subarray(start, end)).trim();
    } catch {
      throw new InputError(`${file}:${line}`, "the line is not UTF-8");
    }
    if (text !== "") yield { text, line };
    start = end + 1;
  }
}

function parseRollout(text: string, place: string, line: number, number: number): Rollout {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new InputError(place, `the line is not JSON (${messageOf(error)})`, { cause: error });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new InputError(place, `a rollout is an object, not ${show(json)}`);
  }
  const fields: Record<string, unknown> = { ...json };
  const { prompt, rewards } = fields;
  if (prompt === undefined) throw new InputError(place, 'the field "prompt" is missing');
  if (typeof prompt !== "string") throw new InputError(place, `"prompt" is a string, not ${show(prompt)}`);
  const responses = responsesOf(fields, place);
  for (const [i, response] of responses.entries()) {
    if (prompt === "" && response === "") {
      throw new InputError(
        place,
        `the prompt and response ${i} are both empty, which leaves a sequence without tokens`,
      );
    }
  }
  if (rewards === undefined) throw new InputError(place, 'the field "rewards" is missing');
  if (!Array.isArray(rewards)) throw new InputError(place, `"rewards" is an array of numbers, not ${show(rewards)}`);
  if (rewards.length !== responses.length) {
    throw new InputError(place, `there are ${responses.length} responses, but ${rewards.length} rewards`);
  }
  for (const [i, reward] of rewards.entries()) {
    if (typeof reward !== "number" || !Number.isFinite(Math.fround(reward))) {
      throw new InputError(place, `rewards[${i}] is a number that is finite as float32, not ${show(reward)}`);
    }
  }
  return { id: idOf(fields.id, place) ?? String(number), prompt, responses, rewards: rewards as number[], line };
}

function responsesOf(fields: Record<string, unknown>, place: string): string[] {
  const name = fields.responses !== undefined ? "responses" : "generateds";
  const responses = fields[name];
  if (responses === undefined) throw new InputError(place, 'the field "responses" (or "generateds") is missing');
  if (fields.responses !== undefined && fields.generateds !== undefined) {
    throw new InputError(place, 'there are both "responses" and "generateds"; keep one');
  }
  if (!Array.isArray(responses)) {
    throw new InputError(place, `"${name}" is an array of strings, not ${show(responses)}`);
  }
  if (responses.length === 0) throw new InputError(place, `"${name}" is empty; a prompt has at least one response`);
  for (const [i, response] of responses.entries()) {
    if (typeof response !== "string") {
      throw new InputError(place, `${name}[${i}] is a string, not ${show(response)}`);
    }
  }
  return responses as string[];
}

function idOf(id: unknown, place: string): string | undefined {
  if (id === undefined || id === null) return undefined;
  if (typeof id === "string" && id !== "") return id;
  if (typeof id === "number" && Number.isSafeInteger(id)) return String(id);
  throw new InputError(place, `"id" is a string that is not empty, or an integer, not ${show(id)}`);
}
