/**
 * What the reference would have moved for the same plan, for comparison.
 *
 * The reference casts a gather's and a scatter's data to float32, flattens it, and pads every rank's part to the longest; a gather engages every
 * member of the smallest registered group that contains the sources. A broadcast moves exact sizes.
 *
 * @module
 */

import { findMinimalSuperset } from "../layout/find_minimal_superset.ts";
import { idListsOf } from "../plan/movements.ts";
import type { RedistribStep } from "../plan/step.ts";
import { forEachStretch, stretchOf } from "../plan/stretches.ts";
import { itemSize } from "../sample/dtype.ts";
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
 * @param plan Valid for the catalogue's meta.
 * @param positions Those of all its ids in the catalogue, one after another.
 * @param gatherGroups The reference's gather groups; where none contains a step's sources, the sources and the root are taken.
 */
export function referenceBytes(
  plan: readonly RedistribStep[],
  positions: Int32Array,
  catalogue: Catalogue,
  rank: number,
  gatherGroups: readonly (readonly number[])[],
): ReferenceBytes {
  const total: ReferenceBytes = { sent: 0, received: 0 };
  /** Looks at the ids only of what the rank has a part in. */
  const add = (root: number, members: readonly number[], bytes: () => number, towardsRoot: boolean) => {
    const others = members.filter((member) => member !== root);
    if (rank === root) total[towardsRoot ? "received" : "sent"] += others.length === 0 ? 0 : bytes() * others.length;
    else if (others.includes(rank)) total[towardsRoot ? "sent" : "received"] += bytes();
  };
  let at = 0;
  for (const step of plan) {
    const { keys } = step;
    const lists = idListsOf(step).map(({ length }) => stretchOf(positions, at, at += length));
    const padded = () => Math.max(0, ...lists.map((ids) => elementsOf(catalogue, keys, ids))) * FLOAT32_BYTES;
    const exact = (ids: Int32Array) => () => bytesOf(catalogue, keys, ids);
    if (step.commType === "gather") {
      const members = findMinimalSuperset(gatherGroups, step.srcs) ?? [...new Set([...step.srcs, step.root])];
      add(step.root, members, padded, true);
    } else if (step.commType === "scatter") {
      add(step.root, step.dsts, padded, false);
    } else if (step.commType === "bcast") {
      add(step.root, step.dsts, exact(lists[0]!), false);
    } else {
      // The reference has no such step. Its cheapest way is one exact message for each source and destination.
      step.srcs.forEach((source, i) => add(source, step.dsts[i]!, exact(lists[i]!), false));
    }
  }
  return total;
}

/** What some ids have under some keys together: elements, trailing shapes included. */
function elementsOf(catalogue: Catalogue, keys: readonly string[], ids: Int32Array): number {
  const sizes = keys.map((key) => itemSize(catalogue.keys[catalogue.keyIndex(key)!]!.dtype!));
  return sumOf(catalogue, keys, ids, (bytes, k) => bytes / sizes[k]!);
}

/** The same in bytes. */
function bytesOf(catalogue: Catalogue, keys: readonly string[], ids: Int32Array): number {
  return sumOf(catalogue, keys, ids, (bytes) => bytes);
}

/** What `count` makes of the bytes under each key, together. */
function sumOf(
  catalogue: Catalogue,
  keys: readonly string[],
  ids: Int32Array,
  count: (bytes: number, key: number) => number,
): number {
  const firstItems = keys.map((key) => catalogue.item(catalogue.keyIndex(key)!, 0));
  let total = 0;
  forEachStretch(ids, (begin, end) => {
    for (let k = 0; k < firstItems.length; k++) {
      total += count(catalogue.bytesBetween(firstItems[k]! + begin, firstItems[k]! + end), k);
    }
  });
  return total;
}
