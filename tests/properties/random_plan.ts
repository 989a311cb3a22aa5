/**
 * Random transfers that can run: a batch, who holds what of it, and a plan whose sources have what they send.
 *
 * @module
 */

import { deliveriesOf, type DType, type RedistribStep, SequenceSample } from "../../mod.ts";
import { DTYPES, tensorOf } from "../cluster.ts";

/** A number from 0 up to `sides`, `sides` excluded. */
export type Roll = (sides: number) => number;

/** A transfer that can run. */
export interface Transfer {
  readonly worldSize: number;
  readonly batch: SequenceSample;
  /** By rank, the items stored before; an item is `[id, key]`. */
  readonly before: readonly ReadonlyMap<string, readonly string[]>[];
  readonly plan: RedistribStep[];
  /** By rank, the keys held of each id once the plan has run. */
  readonly after: readonly ReadonlyMap<string, ReadonlySet<string>>[];
}

const SHAPES = [[], [1], [3], [2, 2], [0]];

/** Makes a transfer out of rolls. `size` is how many elements a sequence has at most. */
export function randomTransfer(roll: Roll, worldSize: number, size = 40): Transfer {
  const ids = Array.from({ length: 1 + roll(7) }, (_, i) => `id-${i}`);
  const keys = Array.from({ length: 1 + roll(3) }, (_, i) => `key-${i}`);
  const batch = randomBatch(roll, ids, keys, size);
  const before = Array.from({ length: worldSize }, () => new Map<string, string[]>());
  for (const id of ids) {
    // One rank has all of it; another may have a part, with the same bytes.
    before[roll(worldSize)]!.set(id, keys);
    const other = before[roll(worldSize)]!;
    if (roll(3) === 0 && !other.has(id)) other.set(id, [keys[roll(keys.length)]!]);
  }
  const held = before.map((stored) => new Map([...stored].map(([id, keys]) => [id, new Set(keys)])));
  const plan: RedistribStep[] = [];
  for (let steps = 1 + roll(4); steps > 0; steps--) {
    const step = randomStep(roll, held, keys);
    plan.push(step);
    for (const { dsts, ids } of deliveriesOf(step)) {
      for (const dst of dsts) {
        for (const id of ids) {
          const has = held[dst]!.get(id) ?? held[dst]!.set(id, new Set()).get(id)!;
          for (const key of step.keys) has.add(key);
        }
      }
    }
  }
  return { worldSize, batch, before, plan, after: held };
}

/** A batch with random dtypes, shapes and lengths of up to `size` elements. */
export function randomBatch(roll: Roll, ids: readonly string[], keys: readonly string[], size: number): SequenceSample {
  const fields = keys.map((key, k) => ({
    key,
    dtype: DTYPES[roll(DTYPES.length)] as DType,
    trailingShape: SHAPES[roll(SHAPES.length)]!,
    seqlens: ids.map(() => Array.from({ length: roll(4) }, () => roll(size))),
    seed: roll(1000) + k,
  }));
  const table = <T>(value: (field: typeof fields[number]) => T) =>
    Object.fromEntries(fields.map((field) => [field.key, value(field)]));
  return new SequenceSample({
    ids,
    keys,
    dtypes: table(({ dtype }) => dtype),
    trailingShapes: table(({ trailingShape }) => trailingShape),
    seqlens: table(({ seqlens }) => seqlens),
    data: table(({ dtype, trailingShape, seqlens, seed }) =>
      tensorOf(dtype, [seqlens.flat().reduce((sum, length) => sum + length, 0), ...trailingShape], seed)
    ),
    metadata: { note: ids.map((id) => `of ${id}`) },
  });
}

type Held = readonly ReadonlyMap<string, ReadonlySet<string>>[];

function randomStep(roll: Roll, held: Held, allKeys: readonly string[]): RedistribStep {
  const keys = some(roll, allKeys);
  if (keys.length === 0) keys.push(allKeys[0]!);
  const sendable = (rank: number) =>
    [...held[rank]!].filter(([, has]) => keys.every((key) => has.has(key))).map(([id]) => id);
  const world = [...held.keys()];
  const root = roll(held.length);
  switch (roll(4)) {
    case 0:
      return { commType: "bcast", root, srcs: [root], dsts: some(roll, world), ids: some(roll, sendable(root)), keys };
    case 1: {
      const srcs = some(roll, world);
      return { commType: "gather", root, srcs, dsts: null, ids: srcs.map((src) => some(roll, sendable(src))), keys };
    }
    case 2: {
      const dsts = some(roll, world);
      return { commType: "scatter", root, srcs: null, dsts, ids: dsts.map(() => some(roll, sendable(root))), keys };
    }
    default: {
      const srcs = Array.from({ length: roll(5) }, () => roll(held.length));
      return {
        commType: "exchange",
        root: null,
        srcs,
        dsts: srcs.map(() => some(roll, world)),
        ids: srcs.map((src) => some(roll, sendable(src))),
        keys,
      };
    }
  }
}

/** Some of a list, in random order. */
function some<T>(roll: Roll, list: readonly T[]): T[] {
  const rest = [...list];
  const taken: T[] = [];
  for (let count = list.length === 0 ? 0 : roll(list.length + 1); count > 0; count--) {
    taken.push(...rest.splice(roll(rest.length), 1));
  }
  return taken;
}
