/**
 * A rank's process, as the benchmark's main program holds it.
 *
 * @module
 */

import { linesOf } from "../../src/lines.ts";
import type { Order } from "./rank.ts";

/** One process that takes orders as lines of JSON. */
export class RankProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncGenerator<string>;

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
    this.#answers = linesOf(this.#child.stdout);
  }

  /** Gives an order; resolves with the answer, rejects when the process ends before it. */
  async tell<T>(order: Order): Promise<T> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`));
    const { done, value } = await this.#answers.next();
    if (done === true) throw new Error(`the process of a rank ended in the middle of ${order.op}`);
    return JSON.parse(value) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    while ((await this.#answers.next()).done !== true);
    await this.#child.status;
  }
}
