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
 * root has it, over the root's own link or that of its node; in a later phase it leaves there, unless the root alone lacked it. And what no rank of the
 * root's node has comes over the link of the node, and leaves over it in a later phase, unless none but ranks of the node lacked it.
 */
export function leastSecondsOfGatherScatter(
  classes: readonly LackClass[],
  sizes: ItemSizes,
  { worldSize, gpusPerNode, costs }: Place,
): number {
  const lacking = new Float64Array(sizes.byKey.length);
  // By key, by rank, what it need not receive if it is the root, and what it need not send.
  const held = sizes.byKey.map(() => new Float64Array(worldSize));
  const kept = sizes.byKey.map(() => new Float64Array(worldSize));
  // The same by node.
  const nodes = Math.ceil(worldSize / gpusPerNode);
  const heldAt = sizes.byKey.map(() => new Float64Array(nodes));
  const keptAt = sizes.byKey.map(() => new Float64Array(nodes));
  for (const { shape, keys, ids, begin, end, totalBytes } of classes) {
    const lackingNodes = [...shape.innerNodes, ...shape.outerNodes];
    const onlyNode = lackingNodes.every(({ node }) => node === lackingNodes[0]!.node) ? lackingNodes[0]!.node : -1;
    for (const k of keys) {
      let bytes = totalBytes;
      if (keys.length > 1) {
        bytes = 0;
        for (let i = begin; i < end; i++) bytes += sizes.byKey[k]![ids[i]!]!;
      }
      lacking[k]! += bytes;
      for (const rank of shape.holders) held[k]![rank]! += bytes;
      if (shape.lacking.length === 1) kept[k]![shape.lacking[0]!]! += bytes;
      for (const node of shape.holderNodes) heldAt[k]![node]! += bytes;
      if (onlyNode >= 0) keptAt[k]![onlyNode]! += bytes;
    }
  }
  const { sameNode, network } = costs;
  let most = 0;
  for (const [k, bytes] of lacking.entries()) {
    const throughRank = leastTwice(bytes, held[k]!, kept[k]!) / (sameNode.bytesPerSecond + network.bytesPerSecond);
    const throughNode = leastTwice(bytes, heldAt[k]!, keptAt[k]!) / network.bytesPerSecond;
    most = Math.max(most, throughRank, throughNode);
  }
  return most;
}

/** What goes in and out, where it is least: in what is not held there, and out of that what is not kept there. */
function leastTwice(bytes: number, held: Float64Array, kept: Float64Array): number {
  let least = Infinity;
  for (let at = 0; at < held.length; at++) least = Math.min(least, 2 * (bytes - held[at]!) - kept[at]!);
  return least;
}
