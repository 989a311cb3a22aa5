/**
 * Waiting no longer than that.
 *
 * @module
 */

/** The longest that a timer goes: one for longer would go off at once. */
export const LONGEST_MS = 2 ** 31 - 1;

/** What a promise resolves to, or undefined when that takes longer than `ms` milliseconds; the promise goes on. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) =>
    timer = setTimeout(() => resolve(undefined), Math.min(ms, LONGEST_MS))
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
