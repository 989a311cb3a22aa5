/**
 * Standard output.
 *
 * @module
 */

/** Writes all of a text to standard output. */
export function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
