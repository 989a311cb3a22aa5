/**
 * Waiting no longer than that.
 *
 * @module
 */

/** The longest that a timer goes: one for longer would go off at once. */
const LONGEST_MS = 2 ** 31 - 1;

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

/**
 * What a promise resolves to, as long as it does so in time; the promise goes on in any case.
 *
 * @param ms The longest wait, in milliseconds; may be Infinity.
 * @param late Makes what is thrown when that has passed.
 * @param signal Ends the wait when it fires; its reason is thrown.
 */
export async function inTime<T>(
  promise: Promise<T>,
  ms: number,
  late: () => Error,
  signal?: AbortSignal,
): Promise<T> {
  const { promise: ended, reject: end } = Promise.withResolvers<never>();
  const timer = setTimeout(() => end(late()), Math.min(ms, LONGEST_MS));
  const giveUp = () => end(signal?.reason);
  signal?.addEventListener("abort", giveUp);
  if (signal?.aborted === true) giveUp();
  try {
    return await Promise.race([promise, ended]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}
