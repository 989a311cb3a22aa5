import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Duties } from "../../src/plan/duties.ts";

const duty = fc.record({
  doers: fc.uniqueArray(fc.nat({ max: 5 }), { minLength: 1, maxLength: 4 }).map((ranks) => ranks.sort()),
  amount: fc.integer({ min: 1, max: 100 }),
});

/** By the definition: over all sets, what only its members can do over their number. */
function optimum(duties: readonly { doers: readonly number[]; amount: number }[]): number {
  let most = 0;
  for (let set = 1; set < 64; set++) {
    const inside = duties.filter(({ doers }) => doers.every((doer) => (set >> doer & 1) === 1));
    const members = [0, 1, 2, 3, 4, 5].filter((doer) => (set >> doer & 1) === 1).length;
    most = Math.max(most, inside.reduce((total, { amount }) => total + amount, 0) / members);
  }
  return most;
}

Deno.test("leastMost() is never above the optimum and comes near it", () => {
  fc.assert(fc.property(fc.array(duty, { maxLength: 8 }), (list) => {
    const duties = new Duties(6);
    for (const { doers, amount } of list) duties.add(doers, amount);
    const exact = optimum(list);
    const bound = duties.leastMost();
    assert(bound <= exact * (1 + 1e-9) && bound >= 0.95 * exact, `${bound}, exactly ${exact}`);
  }));
});

Deno.test("leastMost() is 0 where there is nothing to do", () => {
  assertEquals(new Duties(6).leastMost(), 0);
  const duties = new Duties(6);
  duties.add([3], 0);
  assertEquals(duties.leastMost(), 0);
});
