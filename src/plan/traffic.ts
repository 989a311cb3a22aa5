/**
 * The messages that a plan comes to, for all ranks at once.
 *
 * The rules are those by which a plan is lowered for one rank (`history.ts`). Replica groups' own broadcasts are not considered.
 *
 * @module
 */

import type { ItemSizes } from "./item_sizes.ts";
import { blankHistory, type Effect, effectOf, type History, type Hop, nameOf } from "./history.ts";
import { forEachMovement, type Movement, positionsOf } from "./movements.ts";
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
  for (const { effect, bytes, items } of walk.tallies) {
    for (const { phase, from, to } of effect.hops) traffic.add(phase, from, to, bytes, items);
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

/** What a movement did to items of one history, and how many that were. */
interface Tally {
  readonly effect: Effect;
  bytes: number;
  /** Those with bytes. */
  items: number;
}

/** Goes through a plan step by step. */
class Walk {
  readonly #tallies = new Map<Effect, Tally>();
  readonly #placeOfId: ReadonlyMap<string, number>;
  readonly #placeOfKey: ReadonlyMap<string, number>;
  readonly #sizes: ItemSizes;
  /** By key, by id. */
  readonly #histories: History[][];

  constructor({ ids, keys, sizes }: Items) {
    this.#placeOfId = new Map(ids.map((id, i) => [id, i]));
    this.#placeOfKey = new Map(keys.map((key, k) => [key, k]));
    this.#sizes = sizes;
    const blank = blankHistory();
    this.#histories = keys.map(() => new Array<History>(ids.length).fill(blank));
  }

  /** All that has happened. */
  get tallies(): Iterable<Tally> {
    return this.#tallies.values();
  }

  /** Takes one step. Tells `moved` of the bytes that make the same hops, in one or several calls. */
  take(step: RedistribStep, moved: (hops: readonly Hop[], bytes: number) => void): void {
    forEachMovement(step, positionsOf(step, this.#placeOfId), (movement, ids) => {
      const name = nameOf(movement);
      for (const key of step.keys) {
        const k = this.#placeOfKey.get(key)!;
        this.#move(this.#histories[k]!, this.#sizes.byKey[k]!, ids, name, movement, moved);
      }
    });
  }

  #move(
    histories: History[],
    sizes: Float64Array,
    ids: Int32Array,
    name: string,
    movement: Movement,
    moved: (hops: readonly Hop[], bytes: number) => void,
  ): void {
    let before: History | undefined;
    let tally: Tally | undefined;
    let bytes = 0;
    for (const i of ids) {
      if (histories[i] !== before || tally === undefined) {
        if (tally !== undefined) moved(tally.effect.hops, bytes);
        bytes = 0;
        before = histories[i]!;
        tally = this.#tallyOf(effectOf(before, movement, name, []));
      }
      histories[i] = tally.effect.next;
      bytes += sizes[i]!;
      tally.bytes += sizes[i]!;
      if (sizes[i]! > 0) tally.items++;
    }
    if (tally !== undefined) moved(tally.effect.hops, bytes);
  }

  #tallyOf(effect: Effect): Tally {
    let tally = this.#tallies.get(effect);
    if (tally === undefined) this.#tallies.set(effect, tally = { effect, bytes: 0, items: 0 });
    return tally;
  }
}
