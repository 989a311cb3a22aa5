/**
 * JSON: values made fit for it, and text that is read more strictly than `JSON.parse` does.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { floatToJSON, integerToJSON } from "./element_codec.ts";

/**
 * A value as JSON can hold it: big integers as numbers or decimal strings, NaN and infinities as strings, undefined as null.
 *
 * @param value A value of metadata, of limited depth.
 * @param field Where it stands, for the error.
 * @throws {SampleError} for what has no JSON form: a function, a symbol, an object of another class without `toJSON`.
 */
export function toJSONValue(value: unknown, field: string): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return floatToJSON(value);
    case "bigint":
      return integerToJSON(value);
    case "undefined":
      return null;
    case "object":
      if (value === null) return null;
      if (Array.isArray(value)) return value.map((item, i) => toJSONValue(item, `${field}[${i}]`));
      if ("toJSON" in value && typeof value.toJSON === "function") return value.toJSON();
      if (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null) {
        return Object.fromEntries(
          Object.entries(value).filter(([, item]) => item !== undefined)
            .map(([name, item]) => [name, toJSONValue(item, `${field}[${JSON.stringify(name)}]`)]),
        );
      }
  }
  throw new SampleError(`${field} has no JSON form: it is ${show(value)}`, { field, value });
}

/**
 * Parses JSON text, and refuses an object that has a name twice, of which `JSON.parse` would keep the last.
 *
 * @param text What to parse.
 * @param field What it is, for the error.
 * @throws {SampleError} when it is no JSON, or a name is there twice.
 */
export function parseJSON(text: string, field: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SampleError(`${field} is no JSON: ${cause instanceof Error ? cause.message : cause}`, {
      field,
      value: text,
      cause,
    });
  }
  const twice = repeatedName(text);
  if (twice !== undefined) {
    throw new SampleError(`${field} has the name ${show(twice)} twice in one object`, { field, value: twice });
  }
  return value;
}

/** The first name that an object in valid JSON text has twice. */
function repeatedName(text: string): string | undefined {
  /** The names seen so far of each open object; null for an open array. */
  const open: (Set<string> | null)[] = [];
  let nameComes = false;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case "{":
        open.push(new Set());
        nameComes = true;
        break;
      case "[":
        open.push(null);
        break;
      case "}":
      case "]":
        open.pop();
        break;
      case ",":
        nameComes = true;
        break;
      case '"': {
        const start = at;
        at = endOfString(text, at);
        const names = open.at(-1) ?? null;
        if (names === null || !nameComes) break;
        nameComes = false;
        const name = JSON.parse(text.slice(start, at + 1)) as string;
        if (names.has(name)) return name;
        names.add(name);
      }
    }
  }
  return undefined;
}

/** The position of the quote that ends the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1);; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}
