/**
 * Text that comes line by line, as processes exchange it.
 *
 * @module
 */

/** The lines of a stream of UTF-8, as they come, without their ends. What follows the last end is a line too, unless it is empty. */
export async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}
