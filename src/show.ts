/**
 * Values in the sentences of errors.
 *
 * @module
 */

/** A value as it reads in an error's sentence: JSON where it has such a form, cut after 120 characters. */
export function show(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint" || value === undefined) return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // Cyclic, or holds a bigint: its type has to do.
  }
  text ??= typeof value;
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}
