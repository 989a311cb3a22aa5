/**
 * What moving bytes costs.
 *
 * @module
 */

import type { ClusterSpec, CostModel } from "./cluster_spec.ts";

/**
 * The costs that count where none are given: round figures of a node with eight H100 GPUs, fourth-generation NVLink and one 400 Gb/s
 * adapter per GPU, as large NCCL messages see them rather than as data sheets do. Measure your own cluster where the choice matters.
 *
 * - `sameDevice`: a copy by a kernel within device memory, which reads and writes each byte.
 * - `sameNode`: what one GPU can send over NVLink, and receive at the same time.
 * - `network`: what one *node* can send to others, and receive at the same time; its GPUs share it.
 */
export const DEFAULT_COST_MODEL: CostModel = {
  sameDevice: { latencySeconds: 3e-6, bytesPerSecond: 1.2e12 },
  sameNode: { latencySeconds: 8e-6, bytesPerSecond: 3.6e11 },
  network: { latencySeconds: 2e-5, bytesPerSecond: 3.2e11 },
};

/**
 * The costs to reckon with.
 *
 * @param cluster The machines.
 * @param sizesKnown Whether sizes are bytes. Where they are units, a latency in seconds says nothing beside them and counts as 0.
 */
export function costModelOf(cluster: ClusterSpec, sizesKnown: boolean): CostModel {
  const { sameDevice, sameNode, network } = cluster.costModel ?? DEFAULT_COST_MODEL;
  if (sizesKnown) return { sameDevice, sameNode, network };
  return {
    sameDevice: { ...sameDevice, latencySeconds: 0 },
    sameNode: { ...sameNode, latencySeconds: 0 },
    network: { ...network, latencySeconds: 0 },
  };
}
