/**
 * Standard output.
 *
 * @module
 */

/** Writes all of a text to standard output. Where nobody reads any more (`| head`), it goes nowhere, and the work goes on. */
export function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
