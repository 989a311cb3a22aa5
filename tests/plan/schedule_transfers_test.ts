import { assertEquals } from "@std/assert";
import { scheduleTransfers, type SourceQueue } from "../../src/plan/schedule_transfers.ts";
import fc from "fast-check";

const WORLD_SIZE = 6;

const dstSets = fc.uniqueArray(fc.subarray([0, 1, 2, 3, 4, 5], { minLength: 1 }), {
  minLength: 1,
  maxLength: 8,
  selector: (ranks) => ranks.join(),
});

/** Queues of different (source, key) pairs, each with some of the sets in some order. */
const job = dstSets.chain((sets) => {
  const transfers = fc.shuffledSubarray(sets.map((_, i) => i), { minLength: 1 });
  const queue = fc.record({
    src: fc.nat({ max: WORLD_SIZE - 1 }),
    key: fc.constantFrom("k", "m"),
    sets: transfers,
  });
  const queues = fc.uniqueArray(queue, { selector: ({ src, key }) => `${src} ${key}`, maxLength: 8 });
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
      const given = queues.map(({ src, key, sets }): SourceQueue => ({
        src,
        key,
        transfers: sets.map((dstSet) => ({ dstSet, ids: [] })),
      }));
      const scheduled = scheduleTransfers(given, sets, WORLD_SIZE);
      assertEquals(
        scheduled.map(({ src, key, transfer }): Named => [src, key, sets[transfer.dstSet]!]),
        plainly(queues, sets),
      );
    }),
    { numRuns: 300 },
  );
});
