import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  Catalogue,
  lowerPlan,
  PlanError,
  type RedistribStep,
  RedistributeRefusedError,
  type SequenceSample,
  validatePlan,
} from "../../mod.ts";
import { random } from "../faults/draw.ts";
import { Arena } from "./arena.ts";
import { mutateValue } from "./mutate.ts";
import { randomTransfer, type Transfer } from "./random_plan.ts";

/** A plan and who holds what; most of them have something wrong. */
const cases: fc.Arbitrary<Transfer> = fc.record({
  worldSize: fc.integer({ min: 1, max: 4 }),
  seed: fc.nat(),
  spoilt: fc.constantFrom("nothing", "plan", "plan", "plan twice", "storage"),
}).map(({ worldSize, seed, spoilt }) => {
  const next = random(seed);
  const transfer = randomTransfer((sides) => Math.floor(next() * sides), worldSize, 10);
  let { plan, before } = transfer;
  if (spoilt.startsWith("plan")) plan = mutateValue(next, plan) as RedistribStep[];
  if (spoilt === "plan twice") plan = mutateValue(next, plan) as RedistribStep[];
  if (spoilt === "storage") {
    before = before.map((held) => new Map([...held].filter(() => next() < 0.8)));
  }
  return { ...transfer, plan, before };
});

/** By rank and id, the keys held. */
type Held = Map<string, Set<string>>[];

/** What a plan has to be in order to mean something, said in another way than it is checked. */
function means(plan: unknown, worldSize: number, meta: SequenceSample): boolean {
  const list = (value: unknown, item: (one: unknown) => boolean, once = true) =>
    Array.isArray(value) && value.every(item) && (!once || new Set(value).size === value.length);
  const rank = (value: unknown) => Number.isInteger(value) && value as number >= 0 && value as number < worldSize;
  const ranks = (value: unknown) => list(value, rank);
  const ids = (value: unknown) => list(value, (id) => meta.ids.includes(id as string));
  const lists = (value: unknown, like: unknown, item: (one: unknown) => boolean) =>
    list(value, item, false) && (value as unknown[]).length === (like as unknown[]).length;
  return list(plan, (value) => {
    if (typeof value !== "object" || value === null) return false;
    const step = value as Record<string, unknown>;
    const { root, srcs, dsts } = step;
    if (!list(step.keys, (key) => meta.keys.includes(key as string)) || (step.keys as unknown[]).length === 0) {
      return false;
    }
    switch (step.commType) {
      case "bcast":
        return rank(root) && list(srcs, (src) => src === root) && (srcs as unknown[]).length === 1 && ranks(dsts) &&
          ids(step.ids);
      case "gather":
        return rank(root) && ranks(srcs) && dsts === null && lists(step.ids, srcs, ids);
      case "scatter":
        return rank(root) && srcs === null && ranks(dsts) && lists(step.ids, dsts, ids);
      case "exchange":
        return root === null && list(srcs, rank, false) && lists(dsts, srcs, ranks) && lists(step.ids, srcs, ids);
      default:
        return false;
    }
  }, false);
}

/** What ranks hold after a plan that means something; null where a source lacks what it is to send, were it to nobody. */
function carriedOut(plan: readonly RedistribStep[], before: Transfer["before"]): Held | null {
  const held: Held = before.map((stored) => new Map([...stored].map(([id, keys]) => [id, new Set(keys)])));
  for (const step of plan) {
    const flows = step.commType === "bcast"
      ? [{ src: step.root, dsts: step.dsts, ids: step.ids }]
      : step.commType === "gather"
      ? step.srcs.map((src, i) => ({ src, dsts: [step.root], ids: step.ids[i]! }))
      : step.commType === "scatter"
      ? step.dsts.map((dst, i) => ({ src: step.root, dsts: [dst], ids: step.ids[i]! }))
      : step.srcs.map((src, i) => ({ src, dsts: step.dsts[i]!, ids: step.ids[i]! }));
    // In the order of the step's own lists: what one source brings, the next one may pass on.
    for (const { src, dsts, ids } of flows) {
      for (const id of ids) {
        for (const key of step.keys) {
          if (held[src]!.get(id)?.has(key) !== true) return null;
          for (const dst of dsts) (held[dst]!.get(id) ?? held[dst]!.set(id, new Set()).get(id)!).add(key);
        }
      }
    }
  }
  return held;
}

Deno.test("validation accepts exactly the plans that can run, and a transfer is refused exactly where one cannot: random plans with mistakes", async () => {
  const arenas = await Promise.all([1, 2, 3, 4].map((worldSize) => Arena.open(worldSize)));
  const seen = { run: 0, lacking: 0, invalid: 0 };
  try {
    await fc.assert(
      fc.asyncProperty(cases, async (transfer) => {
        const { worldSize, batch, plan, before } = transfer;
        const meta = batch.meta();
        const arena = arenas[worldSize - 1]!;
        const valid = means(plan, worldSize, meta);
        if (valid) validatePlan(plan, { worldSize, meta });
        else assertThrows(() => validatePlan(plan, { worldSize, meta }), PlanError);
        if (valid) {
          for (let rank = 0; rank < worldSize; rank++) lowerPlan(plan, new Catalogue(meta), rank, { worldSize });
        }
        const after = valid ? carriedOut(plan, before) : null;
        seen[!valid ? "invalid" : after === null ? "lacking" : "run"]++;
        try {
          arena.load(transfer);
          for (const [rank, end] of (await arena.run(transfer, { timeoutMs: 20_000 })).entries()) {
            if (after !== null) {
              assert(end.status === "fulfilled", `rank ${rank}: ${(end as PromiseRejectedResult).reason}`);
            } else {
              assert(
                end.status === "rejected" && end.reason instanceof RedistributeRefusedError,
                `rank ${rank}: ${JSON.stringify(end)}`,
              );
            }
          }
          await arena.assertHolds(batch, after ?? before);
        } finally {
          arena.clear();
        }
      }),
      { numRuns: 1000 },
    );
  } finally {
    for (const arena of arenas) await arena[Symbol.asyncDispose]();
  }
  assertEquals(Object.values(seen).filter((count) => count < 20), [], `all kinds came up: ${JSON.stringify(seen)}`);
});
