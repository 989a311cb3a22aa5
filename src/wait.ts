/**
 * Waiting without blocking the event loop and never for ever.
 *
 * A native library is asked again and again whether it is done: at first from one turn of the event loop to the next, then at growing
 * intervals, until it is, or a deadline passes, or an AbortSignal fires.
 *
 * @module
 */

import { DeadlineError, SeqferryError } from "./errors.ts";
import { show } from "./show.ts";

/** What everything that can wait takes. */
export interface WaitOptions {
  /** The longest wait, in milliseconds; 60,000 unless given. */
  timeoutMs?: number;
  /** Ends the wait at once when it fires. */
  signal?: AbortSignal;
}

/** The default of {@linkcode WaitOptions.timeoutMs}. */
export const DEFAULT_TIMEOUT_MS = 60_000;

/**
 * A wait of this rank alone ended before what it waited for came: a copy to or from the host, say. Where peers are concerned a {@linkcode DeadlineError} tells
 * more.
 */
export class WaitEndedError extends SeqferryError {
  /** The deadline passed, or the signal fired. */
  readonly why: "deadline" | "signal";

  /** `what` names what was waited for. */
  constructor(what: string, why: "deadline" | "signal", timeoutMs: number, options?: ErrorOptions) {
    super(
      why === "deadline" ? `${what} did not end within ${timeoutMs} ms` : `${what} was given up: its AbortSignal fired`,
      options,
    );
    this.why = why;
  }
}

/** What to throw for an error that came before anything was asked of a peer: for a wait that ended, that `what`. */
export function beforeStart(what: string, error: unknown): unknown {
  if (!(error instanceof WaitEndedError)) return error;
  const facts = { phase: -1, outstanding: [], outcome: "unchanged" } as const;
  return new DeadlineError(`${what}: ${error.message}`, facts, { cause: error.cause ?? error });
}

/** One deadline and one signal, shared by all the waits of one operation. */
export class Deadline {
  /** The time allowed in all, in milliseconds. */
  readonly timeoutMs: number;
  /** The moment it passes, on the clock of `performance.now()`. */
  readonly at: number;
  /** The signal, where one was given. */
  readonly signal: AbortSignal | undefined;

  /** Starts the clock. Throws a `RangeError` for a timeout that is not a number of milliseconds from 0 up, and a `TypeError` for a signal that is none. */
  constructor(options: WaitOptions = {}) {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    if (typeof timeoutMs !== "number" || Number.isNaN(timeoutMs) || timeoutMs < 0) {
      throw new RangeError(`timeoutMs is a number of milliseconds from 0 up, not ${timeoutMs}`);
    }
    if (options.signal !== undefined && !(options.signal instanceof AbortSignal)) {
      throw new TypeError(`signal is an AbortSignal, not ${show(options.signal)}`);
    }
    this.timeoutMs = timeoutMs;
    this.at = performance.now() + timeoutMs;
    this.signal = options.signal;
  }

  /** What is left, in milliseconds; 0 when it has passed. */
  get remainingMs(): number {
    return Math.max(0, this.at - performance.now());
  }

  /** Throws a {@linkcode WaitEndedError} that names `what` when the signal has fired or the deadline has passed. */
  check(what: string): void {
    if (this.signal?.aborted === true) {
      throw new WaitEndedError(what, "signal", this.timeoutMs, { cause: this.signal.reason });
    }
    if (performance.now() >= this.at) throw new WaitEndedError(what, "deadline", this.timeoutMs);
  }
}

/** How long a wait goes from turn to turn of the event loop before it begins to sleep: longer than most phases take, for the shortest sleep is 2 ms. */
const SPIN_MS = 50;
/** Polls in one turn: some microseconds. */
const POLLS_PER_TURN = 4;
/** Turns between two looks at the clock. */
const TURNS_PER_LOOK = 8;
/** The longest sleep between two polls, in milliseconds. */
const LONGEST_SLEEP_MS = 4;
/** The longest that a timer goes, in milliseconds: one for longer would go off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Resolves on the next turn of the event loop, timers and signals included. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Polls until `done()` is true, never blocking the event loop.
 *
 * @param what Named in the error, e.g. `"ncclCommInitRankConfig on rank 3"`.
 * @param done Asks the library; may throw, which ends the wait.
 * @param deadline The deadline and signal of the whole operation.
 * @throws {WaitEndedError} when the deadline passes or the signal fires first.
 */
export async function pollUntil(what: string, done: () => boolean, deadline: Deadline): Promise<void> {
  if (done()) return;
  deadline.check(what);
  /** The clock is first looked at after some turns: it costs as much as a poll. */
  let started = Infinity;
  let waited = 0;
  for (let turn = 1;; turn++) {
    if (waited < SPIN_MS) {
      await nextTurn();
    } else {
      const ms = Math.min(LONGEST_SLEEP_MS, waited / 20, deadline.remainingMs);
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
    for (let poll = 0; poll < POLLS_PER_TURN; poll++) if (done()) return;
    if (waited < SPIN_MS && turn % TURNS_PER_LOOK !== 0 && deadline.signal?.aborted !== true) continue;
    deadline.check(what);
    const now = performance.now();
    started = Math.min(started, now);
    waited = now - started;
  }
}

/** What a promise resolves to, or undefined when that takes longer than `ms` milliseconds; the promise goes on. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) =>
    timer = setTimeout(() => resolve(undefined), Math.min(ms, LONGEST_TIMER_MS))
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * What a promise resolves to, as long as it does so in time; the promise goes on in any case.
 *
 * @param ms The longest wait, in milliseconds; may be Infinity.
 * @param late Makes what is thrown when that has passed.
 * @param signal Ends the wait when it fires; its reason is thrown.
 */
export async function inTime<T>(
  promise: Promise<T>,
  ms: number,
  late: () => Error,
  signal?: AbortSignal,
): Promise<T> {
  const { promise: ended, reject: end } = Promise.withResolvers<never>();
  const timer = setTimeout(() => end(late()), Math.min(ms, LONGEST_TIMER_MS));
  const giveUp = () => end(signal?.reason);
  signal?.addEventListener("abort", giveUp);
  if (signal?.aborted === true) giveUp();
  try {
    return await Promise.race([promise, ended]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

/**
 * Waits for a promise of this process, which settles without being asked.
 *
 * @param what Named in the error.
 * @param promise What is waited for; it goes on where the wait ends first.
 * @param deadline The deadline and signal of the whole operation.
 * @throws {WaitEndedError} when the deadline passes or the signal fires first.
 */
export async function settled<T>(what: string, promise: Promise<T>, deadline: Deadline): Promise<T> {
  const { remainingMs, timeoutMs, signal } = deadline;
  try {
    return await inTime(promise, remainingMs, () => new WaitEndedError(what, "deadline", timeoutMs), signal);
  } catch (error) {
    if (signal?.aborted !== true || error !== signal.reason) throw error;
    throw new WaitEndedError(what, "signal", timeoutMs, { cause: error });
  }
}
