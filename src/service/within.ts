/**
 * Waiting no longer than that.
 *
 * @module
 */

import { LONGEST_TIMER_MS } from "../wait.ts";

/** What a promise resolves to, or undefined when that takes longer than `ms` milliseconds; the promise goes on. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) =>
    timer = setTimeout(() => resolve(undefined), Math.min(ms, LONGEST_TIMER_MS))
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
