/**
 * What a planner knows of the machines.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";

/** The cost of one class of link: seconds = latency + bytes / bandwidth. */
export interface Link {
  /** What a message costs whatever its size, in seconds. */
  latencySeconds: number;
  /** Bandwidth, in bytes per second. */
  bytesPerSecond: number;
}

/** Seconds = latency + bytes / bandwidth, per class of link. */
export interface CostModel {
  /** A copy within one device. */
  sameDevice: Link;
  /** Between two devices of one node. */
  sameNode: Link;
  /** Between two nodes. */
  network: Link;
}

/** The machines that a plan is for. */
export interface ClusterSpec {
  /** Ranks on one node: node of rank r = floor(r / gpusPerNode). */
  gpusPerNode: number;
  /** What its links cost. */
  costModel?: CostModel;
}

/**
 * Refuses a cluster that cannot be.
 *
 * @param cluster The machines.
 * @throws {PlanError} that names the field: `cluster.costModel.network.bytesPerSecond`.
 */
export function requireCluster(cluster: ClusterSpec): void {
  const { gpusPerNode, costModel } = cluster;
  if (!Number.isSafeInteger(gpusPerNode) || gpusPerNode < 1) {
    const place = "cluster.gpusPerNode";
    throw new PlanError(`${place}: it is a whole number from 1 up, not ${show(gpusPerNode)}`, { place });
  }
  if (costModel === undefined) return;
  for (const name of ["sameDevice", "sameNode", "network"] as const) {
    const { latencySeconds, bytesPerSecond } = costModel?.[name] ?? {};
    const place = `cluster.costModel.${name}`;
    if (typeof latencySeconds !== "number" || !(latencySeconds >= 0 && latencySeconds < Infinity)) {
      throw new PlanError(`${place}.latencySeconds: it is a number from 0 up, not ${show(latencySeconds)}`, {
        place: `${place}.latencySeconds`,
      });
    }
    if (typeof bytesPerSecond !== "number" || !(bytesPerSecond > 0)) {
      throw new PlanError(`${place}.bytesPerSecond: it is a number above 0, not ${show(bytesPerSecond)}`, {
        place: `${place}.bytesPerSecond`,
      });
    }
  }
}
