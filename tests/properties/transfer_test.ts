import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Catalogue, lowerPlan, type Program } from "../../mod.ts";
import { resources } from "../faults/resources.ts";
import { Arena } from "./arena.ts";
import { randomTransfer, type Roll, type Transfer } from "./random_plan.ts";

/** Transfers out of numbers, so that what fails can be shrunk. */
const transfer: fc.Arbitrary<Transfer> = fc.tuple(
  fc.integer({ min: 1, max: 6 }),
  fc.array(fc.nat({ max: 9999 }), { minLength: 30, maxLength: 120 }),
).map(([worldSize, dice]) => randomTransfer(rolls(dice), worldSize));

function rolls(dice: readonly number[]): Roll {
  let thrown = 0;
  // Each round of the dice is another one, so that few of them make many different rolls.
  return (sides) => (dice[thrown % dice.length]! + 7919 * Math.floor(thrown++ / dice.length)) % sides;
}

Deno.test("what arrives is what was sent, and no rank holds more than its stated peak: random samples, dtypes and plans", async () => {
  const before = resources();
  const arenas = await Promise.all([1, 2, 3, 4, 5, 6].map((worldSize) => Arena.open(worldSize)));
  try {
    await fc.assert(
      fc.asyncProperty(transfer, fc.boolean(), async (transfer, verify) => {
        const arena = arenas[transfer.worldSize - 1]!;
        try {
          await arena.assertRuns(transfer, { verify, timeoutMs: 20_000 });
        } finally {
          arena.clear();
        }
      }),
      { numRuns: 150 },
    );
  } finally {
    for (const arena of arenas) await arena[Symbol.asyncDispose]();
  }
  assertEquals(resources(), before);
});

/** What a rank sends to and receives from a peer over all phases, in order. */
function traffic(program: Program, direction: "sends" | "receives", other: number): [number, number[], number][] {
  return program.phases.flatMap((phase, number) =>
    phase[direction].filter(({ peer }) => peer === other).map((
      { items, bytes },
    ): [number, number[], number] => [number, [...items], bytes])
  );
}

Deno.test("sends match receives on every pair in order, and replicas agree on their broadcasts: random plans", () => {
  fc.assert(
    fc.property(transfer, fc.boolean(), ({ batch, plan, worldSize }, grouped) => {
      const catalogue = new Catalogue(batch.meta());
      const replicaGroups = grouped && worldSize >= 4 ? [[0, 1, 2], [1, 2, 3]] : [];
      const programs = Array.from(
        { length: worldSize },
        (_, rank) => lowerPlan(plan, catalogue, rank, { worldSize, replicaGroups }),
      );
      for (const sender of programs) {
        assertEquals(sender.phases.length, programs[0]!.phases.length);
        for (const receiver of programs) {
          const sent = traffic(sender, "sends", receiver.rank);
          assertEquals(sent, traffic(receiver, "receives", sender.rank));
          if (sender === receiver) assertEquals(sent, [], "a rank sends to itself");
        }
      }
      for (const [group, members] of replicaGroups.entries()) {
        const casts = members.map((rank) =>
          programs[rank]!.phases.map(({ broadcasts }) => broadcasts.filter((one) => one.group === group))
        );
        for (const list of casts) assertEquals(list, casts[0]);
      }
    }),
    { numRuns: 300 },
  );
});
