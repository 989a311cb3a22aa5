/**
 * Errors across the wire: class name, sentence, fields and cause go over as JSON and come out as the same class.
 *
 * @module
 */

import * as errors from "../errors.ts";
import { WaitEndedError } from "../wait.ts";

/** An error as JSON. */
export interface WireError {
  /** The class's name. */
  readonly name: string;
  /** The sentence. */
  readonly message: string;
  /** The class's own fields, such as `rank`, `phase`, `outstanding`, `outcome`, `refusals`. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** What it follows from. */
  readonly cause?: WireError | undefined;
}

/** An error of a class that seqferry does not have, from another process. */
export class RemoteError extends errors.SeqferryError {
  /** The class's name over there. */
  readonly remoteName: string;

  /** Takes the name and the sentence. */
  constructor(remoteName: string, message: string, options?: ErrorOptions) {
    super(`${remoteName}: ${message}`, options);
    this.remoteName = remoteName;
  }
}

/** Causes of causes beyond this are left out. */
const MOST_CAUSES = 8;

/** An error, or whatever was thrown, as JSON. */
export function encodeError(error: unknown, depth = 0): WireError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), fields: {} };
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(error)) {
    if (isField(name) && value !== undefined) fields[name] = plain(value);
  }
  return {
    name: error.name,
    message: error.message,
    fields,
    ...(error.cause === undefined || depth >= MOST_CAUSES ? {} : { cause: encodeError(error.cause, depth + 1) }),
  };
}

/** The error that {@linkcode encodeError} was given: of the same class where seqferry has it, else a {@linkcode RemoteError}. */
export function decodeError(wire: WireError): Error {
  const options = wire.cause === undefined ? {} : { cause: decodeError(wire.cause) };
  const fields = Object.fromEntries(Object.entries(wire.fields).filter(([name]) => isField(name)));
  const known = classes.get(wire.name);
  if (known === undefined) {
    return Object.assign(new RemoteError(wire.name, wire.message, options), fields);
  }
  // Constructors build their sentences anew; here the sentence and the fields are given.
  const error = new Error(wire.message, options);
  Object.setPrototypeOf(error, known.prototype);
  Object.defineProperty(error, "name", { value: wire.name, enumerable: false, configurable: true, writable: true });
  return Object.assign(error, fields);
}

/** Whether a name is one that a class may give to a field of its own: what every error and every object has is not. */
function isField(name: string): boolean {
  return !(name in Error.prototype) && name !== "stack" && name !== "cause";
}

const classes: ReadonlyMap<string, abstract new (...args: never[]) => Error> = new Map(
  [...Object.values(errors), WaitEndedError, TypeError, RangeError].map((one) => [one.name, one]),
);

/** A value that JSON can carry: what it cannot becomes text. */
function plain(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value, (_, part) => typeof part === "bigint" ? String(part) : part)) as unknown;
  } catch {
    return String(value);
  }
}
