/**
 * Numbers of things.
 *
 * @module
 */

/** Whether `value` is a whole number from 0 up that a number holds exactly. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
