/**
 * The messages that a plan comes to, for all ranks at once.
 *
 * The rules are those by which a plan is lowered for one rank. What a rank has from before the transfer it can send in phase 0, what it received in
 * one phase it can send from the next on, and every delivery starts in the phase in which its source has the item. A rank that the plan
 * shows to have an item is not sent it again. Where an item goes to several ranks, one copy leaves the source for the lowest of them, and all who
 * have it by then pass it on: a binomial tree. Replica groups' own broadcasts are not considered.
 *
 * Items with the same history share one; what a movement does to a history is worked out once.
 *
 * @module
 */

import type { ItemSizes } from "./item_sizes.ts";
import { type Movement, movementsOf } from "./movements.ts";
import type { RedistribStep } from "./step.ts";

/** All that one rank sends another in one phase. */
export interface Flow {
  /** The rank that sends. */
  readonly from: number;
  /** The rank that receives. */
  readonly to: number;
  /** The sum of the sizes. */
  bytes: number;
  /** How many items with bytes. */
  items: number;
}

/** What travels, phase by phase. */
export class Traffic {
  /** The number of ranks. */
  readonly worldSize: number;
  readonly #phases: Map<number, Flow>[] = [];

  /** Starts with nothing. */
  constructor(worldSize: number) {
    this.worldSize = worldSize;
  }

  /** The number of phases, those in which only items without bytes arrive included. */
  get phases(): number {
    return this.#phases.length;
  }

  /** Adds `items` items of `bytes` bytes together. */
  add(phase: number, from: number, to: number, bytes: number, items: number): void {
    while (this.#phases.length <= phase) this.#phases.push(new Map());
    if (items === 0) return;
    const flows = this.#phases[phase]!;
    const name = from * this.worldSize + to;
    const flow = flows.get(name);
    if (flow === undefined) {
      flows.set(name, { from, to, bytes, items });
    } else {
      flow.bytes += bytes;
      flow.items += items;
    }
  }

  /** What travels in one phase, in no particular order that depends on anything but the plan. */
  flows(phase: number): Iterable<Flow> {
    return this.#phases[phase]!.values();
  }
}

/** What the items of a plan are. */
export interface Items {
  /** All ids that the plan names, each once. */
  readonly ids: readonly string[];
  /** All keys that the plan names, each once. */
  readonly keys: readonly string[];
  /** Their sizes, by those positions. */
  readonly sizes: ItemSizes;
}

/**
 * Works out what a plan makes travel.
 *
 * @param plan A valid plan.
 * @param items What it moves.
 * @param worldSize The number of ranks.
 */
export function trafficOf(plan: readonly RedistribStep[], items: Items, worldSize: number): Traffic {
  const walk = new Walk(items);
  for (const step of plan) walk.take(step, () => {});
  const traffic = new Traffic(worldSize);
  for (const { hops, bytes, items } of walk.effects) {
    for (const { phase, from, to } of hops) traffic.add(phase, from, to, bytes, items);
  }
  return traffic;
}

/**
 * Finds, for each step of a plan, the rank that has the most bytes under way in it, coming and going, and how many; the lowest of equals.
 *
 * @param plan A valid plan.
 * @param items What it moves.
 */
export function busiestRanks(plan: readonly RedistribStep[], items: Items): { rank: number; bytes: number }[] {
  const walk = new Walk(items);
  return plan.map((step) => {
    const underWay = new Map<number, number>();
    walk.take(step, (hops, bytes) => {
      for (const { from, to } of hops) {
        underWay.set(from, (underWay.get(from) ?? 0) + bytes);
        underWay.set(to, (underWay.get(to) ?? 0) + bytes);
      }
    });
    let most = { rank: 0, bytes: 0 };
    for (const [rank, bytes] of underWay) {
      if (bytes > most.bytes || (bytes === most.bytes && rank < most.rank)) most = { rank, bytes };
    }
    return most;
  });
}

/** One message's worth of one item. */
interface Hop {
  readonly phase: number;
  readonly from: number;
  readonly to: number;
}

/** What a movement does to the items of one history, and how many that were. */
interface Effect {
  readonly hops: readonly Hop[];
  readonly next: History;
  bytes: number;
  items: number;
}

/** Which ranks have an item, and since which phase: what was before, and what came then. */
interface History {
  readonly before: History | undefined;
  readonly ranks: readonly number[];
  /** By position in `ranks`, the first phase in which the rank can send the item. */
  readonly phases: readonly number[];
  /** By source and destinations; undefined until something happens. */
  effects: Map<string, Effect> | undefined;
}

/** Goes through a plan step by step. */
class Walk {
  /** All that has happened. */
  readonly effects: Effect[] = [];
  readonly #placeOfId: ReadonlyMap<string, number>;
  readonly #placeOfKey: ReadonlyMap<string, number>;
  readonly #sizes: ItemSizes;
  /** By key, by id. */
  readonly #histories: History[][];

  constructor({ ids, keys, sizes }: Items) {
    this.#placeOfId = new Map(ids.map((id, i) => [id, i]));
    this.#placeOfKey = new Map(keys.map((key, k) => [key, k]));
    this.#sizes = sizes;
    const blank: History = { before: undefined, ranks: [], phases: [], effects: undefined };
    this.#histories = keys.map(() => new Array<History>(ids.length).fill(blank));
  }

  /** Takes one step. Tells `moved` of the bytes that make the same hops, in one or several calls. */
  take(step: RedistribStep, moved: (hops: readonly Hop[], bytes: number) => void): void {
    for (const { source, destinations, ids, direct } of movementsOf(step)) {
      const name = `${source}${direct ? "=" : ":"}${destinations.join()}`;
      const places = ids.map((id) => this.#placeOfId.get(id)!);
      for (const key of step.keys) {
        const k = this.#placeOfKey.get(key)!;
        this.#move(this.#histories[k]!, this.#sizes.byKey[k]!, places, name, { source, destinations, direct }, moved);
      }
    }
  }

  #move(
    histories: History[],
    sizes: Float64Array,
    places: readonly number[],
    name: string,
    movement: Omit<Movement, "ids">,
    moved: (hops: readonly Hop[], bytes: number) => void,
  ): void {
    let before: History | undefined;
    let effect: Effect | undefined;
    let bytes = 0;
    for (const i of places) {
      if (histories[i] !== before || effect === undefined) {
        if (effect !== undefined) moved(effect.hops, bytes);
        bytes = 0;
        before = histories[i]!;
        effect = before.effects?.get(name);
        if (effect === undefined) {
          (before.effects ??= new Map()).set(name, effect = deliver(before, movement));
          this.effects.push(effect);
        }
      }
      histories[i] = effect.next;
      bytes += sizes[i]!;
      effect.bytes += sizes[i]!;
      if (sizes[i]! > 0) effect.items++;
    }
    if (effect !== undefined) moved(effect.hops, bytes);
  }
}

function sinceOf(history: History, rank: number): number | undefined {
  for (let at: History | undefined = history; at !== undefined; at = at.before) {
    const place = at.ranks.indexOf(rank);
    if (place >= 0) return at.phases[place];
  }
  return undefined;
}

function deliver(before: History, { source, destinations, direct }: Omit<Movement, "ids">): Effect {
  const ranks: number[] = [];
  const phases: number[] = [];
  let start = sinceOf(before, source);
  if (start === undefined) {
    start = 0;
    ranks.push(source);
    phases.push(start);
  }
  const missing = destinations.filter((rank) => rank !== source && sinceOf(before, rank) === undefined);
  const hops: Hop[] = [];
  if (direct) {
    for (const to of missing) {
      hops.push({ phase: start, from: source, to });
      ranks.push(to);
      phases.push(start + 1);
    }
  }
  for (let phase = start; hops.length < missing.length; phase++) {
    // In the first phase the source sends; from then on all who have received.
    const senders = phase === start ? [source] : missing.slice(0, hops.length);
    for (const from of senders) {
      const to = missing[hops.length];
      if (to === undefined) break;
      hops.push({ phase, from, to });
      ranks.push(to);
      phases.push(phase + 1);
    }
  }
  const next = ranks.length === 0 ? before : { before, ranks, phases, effects: undefined };
  return { hops, next, bytes: 0, items: 0 };
}
