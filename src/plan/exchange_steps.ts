/**
 * Writing hops down as steps.
 *
 * @module
 */

import type { Portion, Spread } from "./spread.ts";
import { type ExchangeStep, fence } from "./step.ts";
import type { Items } from "./traffic.ts";

/** Ids that travel together with the same keys, from one rank to another. */
interface Parcel {
  readonly from: number;
  readonly to: number;
  /** By position; ascending when it is written down. */
  readonly ids: number[];
}

/** Parcels with the same keys, by their two ranks. */
interface Load {
  /** By position. */
  readonly keys: readonly number[];
  readonly parcels: Map<number, Parcel>;
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
  for (const { of: { keys, ids }, from, to, piece: { shape, firstHop } } of portions) {
    for (let i = 3 * firstHop; i < 3 * (firstHop + shape.lacking.length); i += 3) {
      const loads = byRound[hops[i + 2]!]!;
      let load = loads.get(keys);
      if (load === undefined) loads.set(keys, load = { keys, parcels: new Map() });
      const parcel = parcelOf(load, hops[i]!, hops[i + 1]!, worldSize);
      for (let n = from; n < to; n++) parcel.ids.push(ids[n]!);
    }
  }
  return byRound.map((loads) => [...loads.values()].sort((a, b) => compareLists(a.keys, b.keys)));
}

function compareLists(a: readonly number[], b: readonly number[]): number {
  const differs = a.findIndex((k, i) => k !== b[i]);
  return differs < 0 ? a.length - b.length : a[differs]! - (b[differs] ?? -1);
}

function parcelOf({ parcels }: Load, from: number, to: number, worldSize: number): Parcel {
  const name = from * worldSize + to;
  let parcel = parcels.get(name);
  if (parcel === undefined) parcels.set(name, parcel = { from, to, ids: [] });
  return parcel;
}

function step({ keys, parcels }: Load, items: Items): ExchangeStep {
  const order = inOrder(parcels);
  return {
    commType: "exchange",
    root: null,
    srcs: order.map(({ from }) => from),
    dsts: order.map(({ to }) => [to]),
    ids: order.map(({ ids }) => ascending(ids).map((i) => items.ids[i]!)),
    keys: keys.map((k) => items.keys[k]!),
  };
}

function inOrder(parcels: ReadonlyMap<number, Parcel>): Parcel[] {
  return [...parcels.values()].sort((a, b) => a.from - b.from || a.to - b.to);
}

function ascending(numbers: number[]): number[] {
  for (let i = 1; i < numbers.length; i++) if (numbers[i]! < numbers[i - 1]!) return numbers.sort((a, b) => a - b);
  return numbers;
}

/** Puts each id of a round into the first part in which its sender has room for it. */
function splitRound(loads: readonly Load[], items: Items, worldSize: number, room: Float64Array): Load[][] {
  const { sizes } = items;
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
      if (load === undefined) loads.set(name, load = { keys, parcels: new Map() });
      parcelOf(load, from, to, worldSize).ids.push(id);
      return;
    }
  };
  for (const { keys, parcels } of loads) {
    for (const { from, to, ids } of inOrder(parcels)) {
      for (const id of ascending(ids)) {
        let bytes = 0;
        for (const k of keys) bytes += sizes.byKey[k]![id]!;
        if (bytes <= room[from]!) put(from, to, id, keys, bytes);
        else for (const k of keys) put(from, to, id, [k], sizes.byKey[k]![id]!);
      }
    }
  }
  return parts.map(({ loads }) => [...loads.values()]);
}
