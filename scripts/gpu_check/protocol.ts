/**
 * How a process of the check takes commands and answers: one line of JSON each. An answer's line begins with a word of its own, because NCCL and others
 * may print to standard output too.
 *
 * @module
 */

import { linesOf } from "../../src/lines.ts";

/** What an answer's line begins with. */
export const ANSWER = "gpu-check-answer ";

/** An answer. */
export interface Answer<Result = unknown> {
  /** The result, where there was no error; undefined and null are the same. */
  readonly ok?: Result;
  /** The error's class and sentence. */
  readonly error?: { readonly name: string; readonly message: string; readonly numbers?: Record<string, number> };
  /** How long the command took, in milliseconds. */
  readonly ms: number;
}

/** Obeys commands from standard input until it closes; the process then ends. */
export async function serveCommands<Command>(obey: (command: Command) => Promise<unknown>): Promise<never> {
  for await (const line of linesOf(Deno.stdin.readable)) {
    const started = performance.now();
    const ms = () => performance.now() - started;
    let answer: Answer;
    try {
      const ok = await obey(JSON.parse(line));
      answer = { ok: ok ?? null, ms: ms() };
    } catch (error) {
      answer = { error: described(error), ms: ms() };
    }
    write(`${ANSWER}${JSON.stringify(answer)}\n`);
  }
  // At once: what a failed check left open must not keep the process.
  Deno.exit(0);
}

function described(error: unknown): NonNullable<Answer["error"]> {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const numbers = "numbers" in error ? error.numbers as Record<string, number> : undefined;
  // A class of the check itself has no name of its own.
  const name = error.constructor.name;
  return { name, message: error.message, ...numbers === undefined ? {} : { numbers } };
}

function write(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let written = 0; written < bytes.length;) written += Deno.stdout.writeSync(bytes.subarray(written));
}
