/**
 * Writing hops down as steps.
 *
 * @module
 */

import type { Portion, Spread } from "./spread.ts";
import { type ExchangeStep, fence } from "./step.ts";
import { grown, startsOf, stretchOf } from "./stretches.ts";
import type { Items } from "./traffic.ts";

/** Ids that travel: those of a list from one place to before another. Ascending. */
type Stretch = Pick<Portion, "begin" | "end"> & { readonly of: { readonly ids: ArrayLike<number> } };

/** What travels with the same keys: stretches of ids, each from one rank to another. There may be a million. */
class Load {
  /** By position. */
  readonly keys: readonly number[];
  readonly #stretches: readonly Stretch[];
  readonly #worldSize: number;
  /** Of each the rank that sends, the rank that receives and the number of the stretch. */
  #numbers: Int32Array = new Int32Array(48);
  #length = 0;

  /** Nothing yet. What is added stands in `stretches`. */
  constructor(keys: readonly number[], stretches: readonly Stretch[], worldSize: number) {
    this.keys = keys;
    this.#stretches = stretches;
    this.#worldSize = worldSize;
  }

  /** One more: the stretch with this number. */
  add(from: number, to: number, stretch: number): void {
    if (this.#length === this.#numbers.length) this.#numbers = grown(this.#numbers, this.#length + 1);
    this.#numbers[this.#length++] = from;
    this.#numbers[this.#length++] = to;
    this.#numbers[this.#length++] = stretch;
  }

  /** Calls `visit` with all ids, ascending, that go from one rank to another; by sender and by receiver. The array is good until `visit` returns. */
  forEachPair(visit: (from: number, to: number, ids: Int32Array) => void): void {
    const sorted = this.#sortedBy(0, this.#sortedBy(1, stretchOf(this.#numbers, 0, this.#length)));
    let room: Int32Array = new Int32Array(64);
    for (let at = 0; at < sorted.length;) {
      const from = sorted[at]!;
      const to = sorted[at + 1]!;
      let count = 0;
      let ascending = true;
      for (; at < sorted.length && sorted[at] === from && sorted[at + 1] === to; at += 3) {
        const { of: { ids }, begin, end } = this.#stretches[sorted[at + 2]!]!;
        if (count + end - begin > room.length) room = grown(room, count + end - begin);
        if (count > 0 && ids[begin]! < room[count - 1]!) ascending = false;
        for (let i = begin; i < end; i++) room[count++] = ids[i]!;
      }
      const ids = stretchOf(room, 0, count);
      visit(from, to, ascending ? ids : ids.sort());
    }
  }

  /** Puts what `numbers` have by three in the order of the ranks at `place` of each; equal ones stay as they are. */
  #sortedBy(place: 0 | 1, numbers: Int32Array): Int32Array {
    const counts = new Int32Array(this.#worldSize);
    for (let i = place; i < numbers.length; i += 3) counts[numbers[i]!]!++;
    const next = startsOf(counts);
    const sorted = new Int32Array(numbers.length);
    for (let i = 0; i < numbers.length; i += 3) {
      let at = 3 * next[numbers[i + place]!]!++;
      sorted[at++] = numbers[i]!;
      sorted[at++] = numbers[i + 1]!;
      sorted[at] = numbers[i + 2]!;
    }
    return sorted;
  }
}

/**
 * Writes one exchange for each round and set of keys. Every entry has one destination, so that the plan says of each copy who sends it.
 *
 * @param portions What travels.
 * @param spread How.
 * @param items The ids and keys that positions stand for.
 * @param worldSize The number of ranks.
 * @param room By rank, the most bytes that may leave it in one phase; no (id, key) that it is to send is larger. A round in which more leaves is split, and
 * between the parts of all rounds stand fences.
 */
export function exchangeSteps(
  portions: readonly Portion[],
  spread: Spread,
  items: Items,
  worldSize: number,
  room: Float64Array | undefined,
): ExchangeStep[] {
  const rounds = loadsByRound(portions, spread, worldSize);
  const write = (loads: readonly Load[]) => withKeysTogether(loads.map((load) => step(load, items)));
  if (room === undefined) return rounds.flatMap(write);
  const parts = rounds.flatMap((loads) => splitRound(loads, items, worldSize, room));
  return parts.flatMap((loads, i) => i === 0 ? write(loads) : [fence(items.keys), ...write(loads)]);
}

/** One step for those that differ in their keys alone. */
function withKeysTogether(steps: readonly ExchangeStep[]): ExchangeStep[] {
  const together: ExchangeStep[] = [];
  for (const step of steps) {
    const same = together.find(({ srcs, dsts, ids }) =>
      srcs.length === step.srcs.length &&
      srcs.every((src, i) =>
        src === step.srcs[i] && dsts[i]![0] === step.dsts[i]![0] && ids[i]!.length === step.ids[i]!.length &&
        ids[i]!.every((id, n) => id === step.ids[i]![n])
      )
    );
    if (same === undefined) together.push(step);
    else same.keys.push(...step.keys);
  }
  return together;
}

/** By round, what travels of each set of keys. */
function loadsByRound(portions: readonly Portion[], { hops, rounds }: Spread, worldSize: number): Load[][] {
  const byRound = Array.from({ length: rounds }, () => new Map<readonly number[], Load>());
  for (const [p, { of: { keys }, piece: { shape, firstHop } }] of portions.entries()) {
    for (let i = 3 * firstHop; i < 3 * (firstHop + shape.lacking.length); i += 3) {
      const loads = byRound[hops[i + 2]!]!;
      let load = loads.get(keys);
      if (load === undefined) loads.set(keys, load = new Load(keys, portions, worldSize));
      load.add(hops[i]!, hops[i + 1]!, p);
    }
  }
  return byRound.map((loads) => [...loads.values()].sort((a, b) => compareLists(a.keys, b.keys)));
}

function compareLists(a: readonly number[], b: readonly number[]): number {
  const differs = a.findIndex((k, i) => k !== b[i]);
  return differs < 0 ? a.length - b.length : a[differs]! - (b[differs] ?? -1);
}

function step(load: Load, items: Items): ExchangeStep {
  const srcs: number[] = [];
  const dsts: number[][] = [];
  const ids: string[][] = [];
  load.forEachPair((from, to, positions) => {
    srcs.push(from);
    dsts.push([to]);
    const named = new Array<string>(positions.length);
    for (let i = 0; i < named.length; i++) named[i] = items.ids[positions[i]!]!;
    ids.push(named);
  });
  return { commType: "exchange", root: null, srcs, dsts, ids, keys: load.keys.map((k) => items.keys[k]!) };
}

/** Puts each id of a round into the first part in which its sender has room for it. */
function splitRound(loads: readonly Load[], items: Items, worldSize: number, room: Float64Array): Load[][] {
  const { sizes } = items;
  const single: Stretch[] = [];
  const parts: { readonly leaving: Float64Array; readonly loads: Map<string, Load> }[] = [];
  // By rank, the first part in which it still has a tenth of its room.
  const open = new Int32Array(worldSize);
  const put = (from: number, to: number, id: number, keys: readonly number[], bytes: number) => {
    for (let n = open[from]!;; n++) {
      if (n === parts.length) parts.push({ leaving: new Float64Array(worldSize), loads: new Map() });
      const { leaving, loads } = parts[n]!;
      if (leaving[from]! + bytes > room[from]!) continue;
      leaving[from]! += bytes;
      while (open[from]! < parts.length && parts[open[from]!]!.leaving[from]! > 0.9 * room[from]!) open[from]!++;
      const name = keys.join();
      let load = loads.get(name);
      if (load === undefined) loads.set(name, load = new Load(keys, single, worldSize));
      load.add(from, to, single.push({ of: { ids: [id] }, begin: 0, end: 1 }) - 1);
      return;
    }
  };
  for (const load of loads) {
    const { keys } = load;
    load.forEachPair((from, to, ids) => {
      for (const id of ids) {
        let bytes = 0;
        for (const k of keys) bytes += sizes.byKey[k]![id]!;
        if (bytes <= room[from]!) put(from, to, id, keys, bytes);
        else for (const k of keys) put(from, to, id, [k], sizes.byKey[k]![id]!);
      }
    });
  }
  return parts.map(({ loads }) => [...loads.values()]);
}
