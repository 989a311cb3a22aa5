import { assertEquals } from "@std/assert";
import { scheduleTransfers } from "../../src/plan/schedule_transfers.ts";
import fc from "fast-check";

const WORLD_SIZE = 10;

// Enough of them, and of queues, that late in a round the sets are asked in place of the queues.
const dstSets = fc.uniqueArray(
  fc.subarray(Array.from({ length: WORLD_SIZE }, (_, rank) => rank), { minLength: 1, maxLength: 6 }),
  {
    minLength: 1,
    maxLength: 40,
    size: "max",
    selector: (ranks) => ranks.join(),
  },
);

/** Queues of different (source, key) pairs, each with some of the sets in some order. */
const job = dstSets.chain((sets) => {
  const transfers = fc.shuffledSubarray(sets.map((_, i) => i), { minLength: 1 });
  const queue = fc.record({
    src: fc.nat({ max: WORLD_SIZE - 1 }),
    key: fc.constantFrom("k", "m"),
    sets: transfers,
  });
  const queues = fc.uniqueArray(queue, { selector: ({ src, key }) => `${src} ${key}`, maxLength: 20, size: "max" });
  return fc.tuple(fc.constant(sets), queues);
});

type Named = [src: number, key: string, dsts: readonly number[]];

/** The rule in its plainest form: every round asks every queue for its first transfer that meets no rank already receiving. */
function plainly(queues: { src: number; key: string; sets: number[] }[], sets: number[][]): Named[] {
  const order: Named[] = [];
  const left = queues.map(({ sets }) => [...sets]);
  while (left.some((queue) => queue.length > 0)) {
    const sending = new Set<number>();
    const receiving = new Set<number>();
    for (const [q, { src, key }] of queues.entries()) {
      if (sending.has(src)) continue;
      const place = left[q]!.findIndex((set) => !sets[set]!.some((rank) => receiving.has(rank)));
      if (place < 0) continue;
      const [set] = left[q]!.splice(place, 1);
      sending.add(src);
      for (const rank of sets[set!]!) receiving.add(rank);
      order.push([src, key, sets[set!]!]);
    }
  }
  return order;
}

Deno.test("scheduleTransfers() orders transfers by the plain rule however their destinations overlap", () => {
  fc.assert(
    fc.property(job, ([sets, queues]) => {
      const transfers = queues.flatMap(({ src, key, sets }) => sets.map((dstSet) => ({ src, key, dstSet })));
      const firstTransfer = Int32Array.of(0, ...queues.map(({ sets }) => sets.length));
      for (let q = 0; q < queues.length; q++) firstTransfer[q + 1]! += firstTransfer[q]!;
      const scheduled = scheduleTransfers(
        {
          sources: queues.map(({ src }) => src),
          firstTransfer,
          queueOf: Int32Array.from(queues.flatMap(({ sets }, q) => sets.map(() => q))),
          dstSetOf: Int32Array.from(transfers, ({ dstSet }) => dstSet),
        },
        sets,
        WORLD_SIZE,
      );
      assertEquals(
        Array.from(scheduled, (t): Named => [transfers[t]!.src, transfers[t]!.key, sets[transfers[t]!.dstSet]!]),
        plainly(queues, sets),
      );
    }),
    { numRuns: 300 },
  );
});
