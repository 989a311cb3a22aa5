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
 * Seconds that the pattern "gather-scatter" takes at least in the simulation. Each key has a root, and what anyone lacks of it comes to the root unless
 * the root has it, over the root's own link or that of its node.
 */
export function leastSecondsOfGatherScatter(
  classes: readonly LackClass[],
  sizes: ItemSizes,
  { worldSize, costs }: Place,
): number {
  const lacking = new Float64Array(sizes.byKey.length);
  const held = sizes.byKey.map(() => new Float64Array(worldSize));
  for (const { shape: { holders }, keys, ids, totalBytes } of classes) {
    for (const k of keys) {
      let bytes = totalBytes;
      if (keys.length > 1) {
        bytes = 0;
        for (const id of ids) bytes += sizes.byKey[k]![id]!;
      }
      lacking[k]! += bytes;
      for (const rank of holders) held[k]![rank]! += bytes;
    }
  }
  let most = 0;
  for (const [k, bytes] of lacking.entries()) {
    let atOne = 0;
    for (const n of held[k]!) atOne = Math.max(atOne, n);
    most = Math.max(most, bytes - atOne);
  }
  return most / (costs.sameNode.bytesPerSecond + costs.network.bytesPerSecond);
}
