/**
 * Sharing work out between those who can do it, as evenly as can be.
 *
 * @module
 */

/** An amount of work, and who can do it. */
interface Duty {
  readonly doers: readonly number[];
  amount: number;
  /** By position in `doers`, the part that falls to each. */
  parts: Float64Array;
}

/** Rounds of evening out. Each brings the loads nearer to the evenest there are; the bound is a bound after any number of them. */
const ROUNDS = 24;

/** Amounts of work, each to be done by any of some doers, in any parts. */
export class Duties {
  readonly #duties = new Map<string, Duty>();

  /** Adds `amount`, which any of `doers` can do; at least one. */
  add(doers: readonly number[], amount: number): void {
    if (amount === 0) return;
    const name = doers.join();
    const duty = this.#duties.get(name);
    if (duty === undefined) this.#duties.set(name, { doers, amount, parts: new Float64Array(doers.length) });
    else duty.amount += amount;
  }

  /**
   * The least that the busiest doer has to do, however the work is shared out.
   *
   * For any set S of doers, the duties that only members of S can do fall to S, so that one of its members does at least their amount over |S|. The
   * largest such quotient is the optimum; what is returned is the largest for the sets tried, so that it is never too much. Tried are the sets of
   * all doers whose load is at least some level, after the work was shared out as evenly as a few rounds of moving it make it.
   */
  leastMost(): number {
    const duties = [...this.#duties.values()];
    const loads = evened(duties);
    // A duty falls to S when its least loaded doer is in S.
    const duty = duties.map(({ doers, amount }) => ({ level: Math.min(...doers.map((d) => loads.get(d)!)), amount }))
      .sort((a, b) => b.level - a.level);
    const levels = [...loads.values()].sort((a, b) => b - a);
    let bound = 0;
    let amount = 0;
    let taken = 0;
    for (const [i, level] of levels.entries()) {
      if (levels[i + 1] === level) continue;
      for (; taken < duty.length && duty[taken]!.level >= level; taken++) amount += duty[taken]!.amount;
      bound = Math.max(bound, amount / (i + 1));
    }
    return bound;
  }
}

function evened(duties: readonly Duty[]): Map<number, number> {
  const loads = new Map<number, number>();
  for (const { doers, amount, parts } of duties) {
    parts.fill(amount / doers.length);
    for (const doer of doers) loads.set(doer, (loads.get(doer) ?? 0) + amount / doers.length);
  }
  const shared = duties.filter(({ doers }) => doers.length > 1);
  for (let round = 0; round < ROUNDS; round++) {
    for (const { doers, amount, parts } of shared) {
      // Take the duty away, and pour it over its doers up to a common level.
      const others = doers.map((doer, i) => loads.get(doer)! - parts[i]!);
      const level = waterLevel(others, amount);
      for (const [i, doer] of doers.entries()) {
        parts[i] = Math.max(0, level - others[i]!);
        loads.set(doer, others[i]! + parts[i]!);
      }
    }
  }
  return loads;
}

/** How high `amount` stands when it is poured over columns of these heights. */
function waterLevel(heights: readonly number[], amount: number): number {
  const ascending = [...heights].sort((a, b) => a - b);
  let sum = amount;
  for (const [i, height] of ascending.entries()) {
    sum += height;
    const level = sum / (i + 1);
    if (i + 1 === ascending.length || level <= ascending[i + 1]!) return level;
  }
  return 0;
}
