/**
 * What the reference would have moved for the same plan, for comparison.
 *
 * The reference casts a gather's and a scatter's data to float32, flattens it, and pads every rank's part to the longest; a gather engages every
 * member of the smallest registered group that contains the sources. A broadcast moves exact sizes.
 *
 * @module
 */

import { findMinimalSuperset } from "../layout/find_minimal_superset.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { Catalogue } from "./catalogue.ts";

/** Bytes of one float32. */
const FLOAT32_BYTES = 4;

/** Bytes that the reference would have sent and received on one rank; deliveries to itself are not counted, a broadcast counts once per receiver. */
export interface ReferenceBytes {
  /** Bytes out of the rank. */
  sent: number;
  /** Bytes into the rank. */
  received: number;
}

/**
 * Counts what the reference's `redistribute` moves on `rank` for a plan.
 *
 * @param gatherGroups The reference's gather groups; where none contains a step's sources, the sources and the root are taken.
 */
export function referenceBytes(
  plan: readonly RedistribStep[],
  catalogue: Catalogue,
  rank: number,
  gatherGroups: readonly (readonly number[])[],
): ReferenceBytes {
  const total: ReferenceBytes = { sent: 0, received: 0 };
  const add = (root: number, members: readonly number[], bytes: number, towardsRoot: boolean) => {
    const others = members.filter((member) => member !== root);
    if (rank === root) total[towardsRoot ? "received" : "sent"] += bytes * others.length;
    else if (others.includes(rank)) total[towardsRoot ? "sent" : "received"] += bytes;
  };
  for (const step of plan) {
    if (step.commType === "gather") {
      const bytes = paddedBytes(step.ids, step.keys, catalogue);
      const members = findMinimalSuperset(gatherGroups, step.srcs) ?? [...new Set([...step.srcs, step.root])];
      add(step.root, members, bytes, true);
    } else if (step.commType === "scatter") {
      add(step.root, step.dsts, paddedBytes(step.ids, step.keys, catalogue), false);
    } else if (step.commType === "bcast") {
      add(step.root, step.dsts, exactBytes(step.ids, step.keys, catalogue), false);
    } else {
      // The reference has no such step. Its cheapest way is one exact message for each source and destination.
      step.srcs.forEach((source, i) =>
        add(source, step.dsts[i]!, exactBytes(step.ids[i]!, step.keys, catalogue), false)
      );
    }
  }
  return total;
}

function paddedBytes(lists: readonly (readonly string[])[], keys: readonly string[], catalogue: Catalogue): number {
  let longest = 0;
  for (const ids of lists) {
    let elements = 0;
    for (const key of keys) {
      const keyIndex = catalogue.keyIndex(key)!;
      const perElement = (catalogue.keys[keyIndex]!.trailingShape ?? []).reduce((product, dim) => product * dim, 1);
      for (const id of ids) {
        elements += catalogue.lengths[catalogue.item(keyIndex, catalogue.idIndex(id)!)]! * perElement;
      }
    }
    longest = Math.max(longest, elements);
  }
  return longest * FLOAT32_BYTES;
}

function exactBytes(ids: readonly string[], keys: readonly string[], catalogue: Catalogue): number {
  let bytes = 0;
  for (const key of keys) {
    const keyIndex = catalogue.keyIndex(key)!;
    for (const id of ids) bytes += catalogue.bytes[catalogue.item(keyIndex, catalogue.idIndex(id)!)]!;
  }
  return bytes;
}
