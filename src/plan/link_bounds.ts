/**
 * What no plan can do with less.
 *
 * @module
 */

import { Duties } from "./duties.ts";
import type { ItemSizes } from "./item_sizes.ts";
import type { LackClass, Shape } from "./lack.ts";
import { largestOf } from "./stretches.ts";

/** The least bytes that the busiest link of each kind carries, whatever the plan. */
export interface LinkBounds {
  /** Into the busiest rank. */
  readonly intoRank: number;
  /** Out of the busiest rank. */
  readonly outOfRank: number;
  /** Into the busiest node, from other nodes. */
  readonly intoNode: number;
  /** Out of the busiest node, to other nodes. */
  readonly outOfNode: number;
}

/**
 * Lower bounds for plans that bring every rank what it lacks, and nothing into a node twice, because the network is the scarcest link. (A plan that
 * brings more into nodes could spare some ranks; it is of no interest.)
 *
 * *Into a rank* comes at least what it lacks. *Into a node* comes at least, once, what a rank of it lacks and none of its ranks has.
 *
 * *Out of a rank* or a node: every copy is sent by someone who can have it by then.
 * - Of what comes into nodes, the first copy leaves a node and a rank that have it from before; the further ones leave those, or nodes and ranks that
 *   got it from outside.
 * - In a node whose ranks have something from before, the first copy for another of its ranks is sent by one of those, the further ones by those or by
 *   ranks of the node that lacked it.
 * - In a node that gets something from outside, all copies but the one from outside are sent by ranks of the node that lacked it.
 *
 * What only the members of some set can send falls to that set; its busiest member sends at least that over the number of members. The bound is the
 * largest such quotient that {@linkcode Duties.leastMost} finds. Each bound holds for itself. Where nodes have two or three ranks, keeping a node's link
 * to its bound may mean that a rank cannot be kept to its own.
 *
 * An (id, key) travels whole: whoever sends the largest sends at least that much. So where ranks have few ids each, a link may be above its bound by part
 * of the largest, and no plan can do better.
 *
 * @param classes What is lacking.
 * @param cluster Ranks in the world and on a node.
 * @param sizes The sizes of all (id, key)s, by the positions that the classes name.
 */
export function linkBounds(
  classes: readonly LackClass[],
  { worldSize, gpusPerNode }: { worldSize: number; gpusPerNode: number },
  sizes: ItemSizes,
): LinkBounds {
  const intoRank = new Float64Array(worldSize);
  const intoNode = new Float64Array(Math.ceil(worldSize / gpusPerNode));
  const ranks = new Duties(worldSize);
  const nodes = new Duties(Math.ceil(worldSize / gpusPerNode));
  let [largest, largestBetweenNodes] = [0, 0];
  const bytesOf = new Map<Shape, number>();
  for (const { shape, keys, ids, begin, end, totalBytes } of classes) {
    bytesOf.set(shape, (bytesOf.get(shape) ?? 0) + totalBytes);
    let largestOfClass = 0;
    for (const k of keys) {
      const ofKey = sizes.byKey[k]!;
      for (let i = begin; i < end; i++) largestOfClass = Math.max(largestOfClass, ofKey[ids[i]!]!);
    }
    largest = Math.max(largest, largestOfClass);
    if (shape.outerNodes.length > 0) largestBetweenNodes = Math.max(largestBetweenNodes, largestOfClass);
  }
  for (const [{ holders, holderNodes, lacking, innerNodes, outerNodes }, bytes] of bytesOf) {
    for (const rank of lacking) intoRank[rank]! += bytes;
    for (const { holders, lacking } of innerNodes) {
      ranks.add(holders, bytes);
      if (lacking.length > 1) ranks.add([...holders, ...lacking], bytes * (lacking.length - 1));
    }
    for (const { node, lacking } of outerNodes) {
      intoNode[node]! += bytes;
      ranks.add(lacking, bytes * (lacking.length - 1));
    }
    if (outerNodes.length === 0) continue;
    ranks.add(holders, bytes);
    nodes.add(holderNodes, bytes);
    if (outerNodes.length === 1) continue;
    ranks.add([...holders, ...outerNodes.flatMap(({ lacking }) => lacking)], bytes * (outerNodes.length - 1));
    nodes.add([...holderNodes, ...outerNodes.map(({ node }) => node)], bytes * (outerNodes.length - 1));
  }
  return {
    intoRank: largestOf(intoRank),
    outOfRank: Math.max(largest, ranks.leastMost()),
    intoNode: largestOf(intoNode),
    outOfNode: Math.max(largestBetweenNodes, nodes.leastMost()),
  };
}
