/**
 * Text on standard output and standard error.
 *
 * @module
 */

/** A stream that takes bytes at once, some or all of them: `Deno.stdout`, `Deno.stderr`. */
export interface ByteSink {
  /** Takes bytes from the beginning; returns how many. */
  writeSync(bytes: Uint8Array): number;
}

/** Writes all of a text to a stream. Where nobody reads any more (`| head`), it goes nowhere, and the work goes on. */
export function writeText(stream: ByteSink, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Writes a text to standard output, as {@linkcode writeText} does. */
export function print(text: string): void {
  writeText(Deno.stdout, text);
}
