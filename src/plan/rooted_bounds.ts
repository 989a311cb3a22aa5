/**
 * What the patterns with roots cost at least, found without deriving their plans.
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
 * Seconds that the pattern "bcast" takes at least in the simulation. Who receives in which phase, and passes on to whom, follows from the destinations
 * alone; only the sources are not known before. A rank goes from phase to phase, and each takes at least what it receives, or what it sends, over the
 * bandwidth.
 */
export function leastSecondsOfBcast(classes: readonly LackClass[], { worldSize, gpusPerNode, costs }: Place): number {
  // By phase, by rank, the bytes of four kinds: received and sent in the node, received from and sent to other nodes.
  const phases: Float64Array[] = [];
  const add = (phase: number, rank: number, kind: number, bytes: number) => {
    while (phases.length <= phase) phases.push(new Float64Array(4 * worldSize));
    phases[phase]![4 * rank + kind]! += bytes;
  };
  const nodeOf = (rank: number): number => Math.floor(rank / gpusPerNode);
  for (const { shape: { holderNodes, lacking }, totalBytes } of classes) {
    const first = lacking[0]!;
    if (!holderNodes.includes(nodeOf(first))) add(0, first, FROM_OTHER_NODES, totalBytes);
    else if (holderNodes.length === 1) add(0, first, RECEIVED, totalBytes);
    for (let phase = 1, next = 1; next < lacking.length; phase++) {
      const senders = next;
      for (let sender = 0; sender < senders && next < lacking.length; sender++, next++) {
        const from = lacking[sender]!;
        const to = lacking[next]!;
        const near = nodeOf(from) === nodeOf(to);
        add(phase, from, near ? SENT : TO_OTHER_NODES, totalBytes);
        add(phase, to, near ? RECEIVED : FROM_OTHER_NODES, totalBytes);
      }
    }
  }
  let most = 0;
  for (let rank = 0; rank < worldSize; rank++) {
    let seconds = 0;
    for (const bytes of phases) {
      const near = Math.max(bytes[4 * rank + RECEIVED]!, bytes[4 * rank + SENT]!);
      const far = Math.max(bytes[4 * rank + FROM_OTHER_NODES]!, bytes[4 * rank + TO_OTHER_NODES]!);
      seconds += Math.max(near / costs.sameNode.bytesPerSecond, far / costs.network.bytesPerSecond);
    }
    most = Math.max(most, seconds);
  }
  return most;
}

const RECEIVED = 0;
const SENT = 1;
const FROM_OTHER_NODES = 2;
const TO_OTHER_NODES = 3;

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
