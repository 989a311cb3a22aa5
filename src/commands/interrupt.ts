/**
 * Being told to stop: SIGINT, SIGTERM, SIGHUP.
 *
 * @module
 */

import { SeqferryError } from "../errors.ts";

/** A signal ended the command. */
export class Interrupted extends SeqferryError {
  /** 128 and the signal's number, as shells have it. */
  readonly exitCode: number;

  /** Takes the signal's name and number. */
  constructor(signal: string, number: number) {
    super(`stopped by ${signal}`);
    this.exitCode = 128 + number;
  }
}

const SIGNALS = [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]] as const;

/** Listens for signals for as long as it lives. */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #listeners: readonly { signal: Deno.Signal; listener: () => void }[];

  /** `again` is what a second signal does: the person is in a hurry. */
  constructor(again: (interrupted: Interrupted) => void) {
    this.#listeners = SIGNALS.map(([signal, number]) => ({
      signal,
      listener: () => {
        const interrupted = new Interrupted(signal, number);
        if (this.#controller.signal.aborted) again(interrupted);
        else this.#controller.abort(interrupted);
      },
    }));
    for (const { signal, listener } of this.#listeners) Deno.addSignalListener(signal, listener);
  }

  /** Fires with an {@linkcode Interrupted}. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Signals do again what they do by default. */
  [Symbol.dispose](): void {
    for (const { signal, listener } of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}
