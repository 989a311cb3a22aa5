/**
 * Sharing work out between those who can do it, as evenly as can be.
 *
 * @module
 */

import { largestOf } from "./stretches.ts";

/** The most rounds of evening out. Each brings the loads nearer to the evenest there are; the bound is a bound after any number of them. */
const ROUNDS = 24;

/** So near to the evenest loads there are that more rounds do not pay. */
const EVEN = 1.002;

/** Amounts of work, each to be done by any of some doers, in any parts. */
export class Duties {
  readonly #doerCount: number;
  readonly #doers: (readonly number[])[] = [];
  readonly #amounts: number[] = [];

  /** Starts without work. Doers are numbers from 0 up to `doerCount`. */
  constructor(doerCount: number) {
    this.#doerCount = doerCount;
  }

  /** Adds `amount`, which any of `doers` can do; at least one. */
  add(doers: readonly number[], amount: number): void {
    if (amount === 0) return;
    this.#doers.push(doers);
    this.#amounts.push(amount);
  }

  /**
   * The least that the busiest doer has to do, however the work is shared out.
   *
   * For any set S of doers, the duties that only members of S can do fall to S, so that one of its members does at least their amount over |S|. The
   * largest such quotient is the optimum; what is returned is the largest for the sets tried, so that it is never too much. Tried are the sets of
   * the doers with the highest loads, of every size, after the work was shared out as evenly as a few rounds of moving it make it.
   */
  leastMost(): number {
    const loads = new Float64Array(this.#doerCount);
    const firstPart: number[] = [];
    let partCount = 0;
    for (const [i, doers] of this.#doers.entries()) {
      firstPart.push(partCount);
      partCount += doers.length;
      for (const doer of doers) loads[doer]! += this.#amounts[i]! / doers.length;
    }
    const parts = new Float64Array(partCount);
    for (const [i, doers] of this.#doers.entries()) {
      parts.fill(this.#amounts[i]! / doers.length, firstPart[i]!, firstPart[i]! + doers.length);
    }
    let bound = this.#quotient(loads);
    for (let round = 1; round <= ROUNDS; round++) {
      if (largestOf(loads) <= EVEN * bound) break;
      for (const [i, doers] of this.#doers.entries()) {
        if (doers.length > 1) pour(this.#amounts[i]!, doers, parts, firstPart[i]!, loads);
      }
      bound = Math.max(bound, this.#quotient(loads));
    }
    return bound;
  }

  /** The largest quotient for the sets of the doers with the highest loads. */
  #quotient(loads: Float64Array): number {
    const order = Array.from(loads, (_, doer) => doer).sort((a, b) => loads[b]! - loads[a]! || a - b);
    const placeOf = new Int32Array(order.length);
    for (const [place, doer] of order.entries()) placeOf[doer] = place;
    // A duty falls to the sets that hold its least loaded doer, and so all its doers.
    const falling = new Float64Array(order.length);
    for (const [i, doers] of this.#doers.entries()) {
      let last = 0;
      for (const doer of doers) last = Math.max(last, placeOf[doer]!);
      falling[last]! += this.#amounts[i]!;
    }
    let most = 0;
    let amount = 0;
    for (const [place, more] of falling.entries()) most = Math.max(most, (amount += more) / (place + 1));
    return most;
  }
}

/** Takes a duty away from its doers, and pours it over them up to a common level. */
function pour(amount: number, doers: readonly number[], parts: Float64Array, first: number, loads: Float64Array): void {
  for (let i = 0; i < doers.length; i++) loads[doers[i]!]! -= parts[first + i]!;
  const level = waterLevel(doers, loads, amount);
  for (let i = 0; i < doers.length; i++) {
    const part = Math.max(0, level - loads[doers[i]!]!);
    parts[first + i] = part;
    loads[doers[i]!]! += part;
  }
}

/** How high `amount` stands when it is poured over columns of the heights of these doers' loads. */
function waterLevel(doers: readonly number[], loads: Float64Array, amount: number): number {
  // Over all columns first; without those that stick out of that level, and so on: each step lowers the level, but never below the true one.
  let level = Infinity;
  while (true) {
    let sum = amount;
    let under = 0;
    for (let i = 0; i < doers.length; i++) {
      const height = loads[doers[i]!]!;
      if (height >= level) continue;
      sum += height;
      under++;
    }
    const next = sum / under;
    if (!(next < level)) return level;
    level = next;
  }
}
