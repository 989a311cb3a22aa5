/**
 * The messages that a plan comes to, for all ranks at once.
 *
 * The rules are those of {@linkcode forEachWay}, by which a plan is lowered for one rank too. Replica groups' own broadcasts are not considered.
 *
 * @module
 */

import type { ItemSizes } from "./item_sizes.ts";
import { forEachWay, HOP_FIELDS } from "./item_ways.ts";
import { positionsOf } from "./movements.ts";
import { positionsOfIds } from "./positions_of_ids.ts";
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
export function trafficOf(plan: readonly RedistribStep[], { ids, keys, sizes }: Items, worldSize: number): Traffic {
  const placeOfId = positionsOfIds(ids);
  const placeOfKey = new Map(keys.map((key, k) => [key, k]));
  const traffic = new Traffic(worldSize);
  const context = {
    positions: positionsOf(plan, placeOfId),
    idCount: ids.length,
    placeOfKey: (key: string) => placeOfKey.get(key)!,
    keyCount: keys.length,
    worldSize,
  };
  forEachWay(plan, context, ({ keys, ids, hopCount, hops }) => {
    let bytes = 0;
    let items = 0;
    for (const k of keys) {
      const ofKey = sizes.byKey[k]!;
      for (const id of ids) {
        bytes += ofKey[id]!;
        if (ofKey[id]! > 0) items++;
      }
    }
    for (let i = 0; i < HOP_FIELDS * hopCount; i += HOP_FIELDS) {
      traffic.add(hops[i]!, hops[i + 1]!, hops[i + 2]!, bytes, items);
    }
  });
  return traffic;
}
