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

/** How long a full pipe is left to its reader, in milliseconds. */
const FULL_MS = 1;

/**
 * Writes all of a text to a stream. Where nobody reads any more (`| head`), it goes nowhere, and the work goes on; a pipe that is full, and does not block, is
 * waited for.
 */
export function writeText(stream: ByteSink, text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) {
    try {
      at += stream.writeSync(bytes.subarray(at));
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe) return;
      if (!(error instanceof Deno.errors.WouldBlock)) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_MS);
    }
  }
}

/** Writes a text to standard output, as {@linkcode writeText} does. */
export function print(text: string): void {
  writeText(Deno.stdout, text);
}
