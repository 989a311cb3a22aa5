/**
 * What the pattern "gather-scatter" costs at least, found without deriving its plan.
 *
 * @module
 */

import type { CostModel } from "./cluster_spec.ts";
import type { ItemSizes } from "./item_sizes.ts";
import type { LackClass } from "./lack.ts";

/** Where, and at what cost. */
export interface Place {
  /** The number of ranks. */
  readonly worldSize: number;
  /** Ranks on one node. */
  readonly gpusPerNode: number;
  /** What links cost. */
  readonly costs: CostModel;
}

/**
 * Seconds that the pattern "gather-scatter" takes at least in the simulation. Each key has a root. What anyone lacks of it comes to the root unless the
 * root has it, over the root's own link or that of its node; in a later phase it leaves there, unless the root alone lacked it.
 */
export function leastSecondsOfGatherScatter(
  classes: readonly LackClass[],
  sizes: ItemSizes,
  { worldSize, costs }: Place,
): number {
  const lacking = new Float64Array(sizes.byKey.length);
  // By key, by rank, what it need not receive if it is the root, and what it need not send.
  const held = sizes.byKey.map(() => new Float64Array(worldSize));
  const kept = sizes.byKey.map(() => new Float64Array(worldSize));
  for (const { shape, keys, ids, totalBytes } of classes) {
    for (const k of keys) {
      let bytes = totalBytes;
      if (keys.length > 1) {
        bytes = 0;
        for (const id of ids) bytes += sizes.byKey[k]![id]!;
      }
      lacking[k]! += bytes;
      for (const rank of shape.holders) held[k]![rank]! += bytes;
      if (shape.lacking.length === 1) kept[k]![shape.lacking[0]!]! += bytes;
    }
  }
  let most = 0;
  for (const [k, bytes] of lacking.entries()) {
    let least = Infinity;
    for (let root = 0; root < worldSize; root++) {
      least = Math.min(least, 2 * (bytes - held[k]![root]!) - kept[k]![root]!);
    }
    most = Math.max(most, least);
  }
  return most / (costs.sameNode.bytesPerSecond + costs.network.bytesPerSecond);
}
