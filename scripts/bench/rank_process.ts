/**
 * A rank's process, as the benchmark's main program holds it.
 *
 * @module
 */

import type { Order } from "./rank.ts";

/** One process that takes orders as lines of JSON. */
export class RankProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #rest = "";

  /** Starts the process on a stand-in that is built already. */
  constructor(library: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", new URL("rank.ts", import.meta.url).href],
      env: { SEQFERRY_CPU_LIBRARY: library },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#output = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Gives an order; resolves with the answer, rejects when the process ends before it. */
  async tell<T>(order: Order): Promise<T> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`));
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return JSON.parse(line) as T;
      }
      const { done, value } = await this.#output.read();
      if (done) throw new Error(`the process of a rank ended in the middle of ${order.op}`);
      this.#rest += value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    while (!(await this.#output.read()).done);
    await this.#child.status;
  }
}
