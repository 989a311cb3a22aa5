/**
 * The assertions that the tests of {@linkcode checkSuite} use, from Deno alone: on a machine without a network `@std/assert` may not be there.
 *
 * @module
 */

import { AssertionError, deepStrictEqual, notDeepStrictEqual } from "node:assert";

/** As `assert` of `@std/assert`. */
export function assert(condition: unknown, message = "the condition does not hold"): asserts condition {
  if (!condition) throw new AssertionError({ message });
}

/** As `assertEquals` of `@std/assert`. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  try {
    deepStrictEqual(actual, expected);
  } catch (error) {
    throw new AssertionError({ message: `${message === undefined ? "" : `${message}: `}${(error as Error).message}` });
  }
}

/** As `assertNotEquals` of `@std/assert`. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  notDeepStrictEqual(actual, expected, message);
}

/** As `assertStringIncludes` of `@std/assert`. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  assert(
    actual.includes(expected),
    message ?? `${JSON.stringify(actual)} does not include ${JSON.stringify(expected)}`,
  );
}

type ErrorClass<E extends Error> = abstract new (...args: never[]) => E;

function checkError<E extends Error>(error: unknown, errorClass: ErrorClass<E>, includes: string): E {
  assert(error instanceof errorClass, `what was thrown is no ${errorClass.name}: ${error}`);
  assertStringIncludes(error.message, includes);
  return error;
}

/** As `assertThrows` of `@std/assert`, with a class. */
export function assertThrows<E extends Error>(fn: () => unknown, errorClass: ErrorClass<E>, includes = ""): E {
  try {
    fn();
  } catch (error) {
    return checkError(error, errorClass, includes);
  }
  throw new AssertionError({ message: "nothing was thrown" });
}

/** As `assertRejects` of `@std/assert`, with a class. */
export async function assertRejects<E extends Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  includes = "",
): Promise<E> {
  try {
    await fn();
  } catch (error) {
    return checkError(error, errorClass, includes);
  }
  throw new AssertionError({ message: "the promise was not rejected" });
}
