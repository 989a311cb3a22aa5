import { assert } from "@std/assert";
import { type Pattern, RedistribPlanner } from "../../src/plan/planner.ts";
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import { randomFrom } from "./batches.ts";

const WORLD_SIZE = 512;
const REPLICAS = 8;
const KEYS = ["a", "b", "c", "d", "e", "f"];

/** Every id at one rank at random, wanted by all replicas of one group at random. */
function scattered(count: number): { ids: string[]; tracker: GlobalStorageTracker; dests: Map<number, string[]> } {
  const random = randomFrom(1);
  const ids = Array.from({ length: count }, (_, i) => `prompt-${i}`);
  const owned = Array.from({ length: WORLD_SIZE }, (): string[] => []);
  const wanted = Array.from({ length: WORLD_SIZE / REPLICAS }, (): string[] => []);
  for (const id of ids) {
    owned[Math.floor(random() * owned.length)]!.push(id);
    wanted[Math.floor(random() * wanted.length)]!.push(id);
  }
  const tracker = new GlobalStorageTracker(WORLD_SIZE);
  for (const [rank, own] of owned.entries()) for (const key of KEYS) tracker.addData(rank, own, key, true);
  const dests = new Map(owned.map((_, rank) => [rank, wanted[Math.floor(rank / REPLICAS)]!]));
  return { ids, tracker, dests };
}

for (const pattern of ["gather-scatter", "bcast", "direct", "auto"] satisfies Pattern[]) {
  Deno.test(`derivePlan() in the pattern ${pattern} takes at most 1.5 s, or 8 times as long as to fill a Map with all id-key pairs`, () => {
    const { ids, tracker, dests } = scattered(16384);
    const before = performance.now();
    const pairs = new Map<string, number>();
    for (const id of ids) for (const key of KEYS) pairs.set(`${id}\0${key}`, pairs.size);
    const filling = performance.now() - before;
    const start = performance.now();
    const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, KEYS, pattern);
    const planning = performance.now() - start;
    assert(plan.length > 0 && pairs.size === ids.length * KEYS.length);
    assert(planning <= Math.max(1500, 8 * filling), `${planning} ms; filling a Map took ${filling} ms`);
  });
}
