/**
 * Progress on standard error: a bar on a terminal, plain lines elsewhere.
 *
 * @module
 */

import { writeText } from "./print.ts";

/** Where progress is drawn. */
export interface ProgressTarget {
  /** Whether it is a terminal, on which a line can be drawn over. */
  readonly isTerminal: boolean;
  /** Writes text as it is. */
  write(text: string): void;
}

/** Standard error. */
export const standardError: ProgressTarget = {
  isTerminal: Deno.stderr.isTerminal(),
  write: (text) => writeText(Deno.stderr, text),
};

const BAR_COLUMNS = 24;
const ERASE_LINE = "\r\x1b[K";

/** The progress of one piece of work. */
export class Progress {
  readonly #target: ProgressTarget;
  readonly #label: string;
  #drawnAt = -Infinity;

  /** Starts a bar, on a terminal. */
  constructor(label: string, target: ProgressTarget = standardError) {
    this.#label = label;
    this.#target = target;
    this.update(0, 0);
  }

  /** Draws the bar anew, at most 20 times a second; elsewhere than on a terminal nothing happens. */
  update(bytes: number, totalBytes: number): void {
    if (!this.#target.isTerminal) return;
    const now = performance.now();
    if (now - this.#drawnAt < 50) return;
    this.#drawnAt = now;
    const part = totalBytes === 0 ? 0 : Math.min(1, bytes / totalBytes);
    const full = Math.round(part * BAR_COLUMNS);
    const bar = "█".repeat(full) + "░".repeat(BAR_COLUMNS - full);
    const percent = totalBytes === 0 ? "" : ` ${Math.floor(100 * part)}%`;
    this.#target.write(`${ERASE_LINE}${this.#label} ${bar}${percent}`);
  }

  /** Ends the work: the bar gives way to one line. */
  done(sentence: string): void {
    this.#target.write(`${this.#target.isTerminal ? ERASE_LINE : ""}${this.#label}: ${sentence}\n`);
  }

  /** Takes the bar away without a word, so that an error stands on a line of its own. */
  clear(): void {
    if (this.#target.isTerminal) this.#target.write(ERASE_LINE);
  }
}
