/**
 * What a check is, and what came of all of them.
 *
 * @module
 */

import { inTime, within } from "../../src/wait.ts";

/** What came of one check. */
export interface CheckResult {
  /** Which part of the script it belongs to. */
  readonly group: string;
  /** What was to hold. */
  readonly name: string;
  /** Whether it held. */
  readonly status: "ok" | "failed" | "skipped";
  /** Why it failed or was skipped, or what is to be known of the numbers; empty where there is nothing to say. */
  readonly why: string;
  /** What was measured; the names say the units. */
  readonly numbers: Readonly<Record<string, number>>;
  /** How long it took, in seconds. */
  readonly seconds: number;
}

/** Numbers that a check measured; the names say the units. */
export type Numbers = Record<string, number>;

/** Thrown by a check that cannot be made here; its message says why. */
export class Skip extends Error {}

/** Thrown by a check that does not hold. What was measured goes into the report all the same. */
export class Missed extends Error {
  /** What was measured. */
  readonly numbers: Numbers;

  constructor(message: string, numbers: Numbers = {}) {
    super(message);
    this.numbers = numbers;
  }
}

/** Throws unless a condition holds. */
export function expect(condition: boolean, what: string, numbers: Numbers = {}): asserts condition {
  if (!condition) throw new Missed(what, numbers);
}

/** How the checks are made. */
export interface ChecksOptions {
  /** Called after each. */
  readonly tell: (result: CheckResult) => void;
  /** Ends all processes that the checks have started: a check that hangs, hangs in one of them. */
  readonly endProcesses: () => Promise<void>;
  /** Longest time of one check, in milliseconds. */
  readonly limitMs: number;
  /** From when on no check is begun any more, on the clock of `performance.now()`. */
  readonly until: number;
  /** Fires when the person wants no more. */
  readonly signal: AbortSignal;
}

/** How long a check may take to come to its end once its processes have been ended, in milliseconds. */
const GRACE_MS = 3000;

/** Makes checks one after another. A check that fails or hangs does not keep those after it from being made. */
export class Checks {
  readonly #options: ChecksOptions;

  constructor(options: ChecksOptions) {
    this.#options = options;
  }

  /** Makes one check. */
  async run(group: string, name: string, check: () => Promise<Numbers | void>): Promise<void> {
    const { signal, until, limitMs, tell } = this.#options;
    if (signal.aborted) return;
    const started = performance.now();
    const settled = started >= until
      ? Promise.reject(new Skip("the time for all checks was up"))
      : this.#within(limitMs, signal, check);
    const outcome = await settled.then(
      (numbers): Pick<CheckResult, "status" | "why" | "numbers"> => ({ status: "ok", why: "", numbers: numbers ?? {} }),
      (error) => ({
        status: error instanceof Skip ? "skipped" as const : "failed" as const,
        why: error instanceof Error ? error.message : String(error),
        numbers: error instanceof Missed ? error.numbers : {},
      }),
    );
    tell({ group, name, ...outcome, seconds: (performance.now() - started) / 1000 });
  }

  /** What a check answers, unless it takes too long: then its processes are ended, and with them the check. */
  async #within(limitMs: number, signal: AbortSignal, check: () => Promise<Numbers | void>): Promise<Numbers | void> {
    const checked = check();
    try {
      return await inTime(checked, limitMs, () => new Missed(`it took more than ${limitMs / 1000} s`), signal);
    } catch (error) {
      if (error instanceof Skip) throw error;
      await this.#options.endProcesses();
      await within(GRACE_MS, checked.catch(() => {}));
      throw signal.aborted && error === signal.reason ? new Missed("it was interrupted") : error;
    }
  }
}

/** The median: the middle one, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
