/**
 * Who lacks what, and who has it: what a plan without a root starts from.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import type { Demand } from "./demand.ts";
import type { ItemSizes } from "./item_sizes.ts";
import { type GlobalStorageTracker, includesRank } from "./storage_tracker.ts";

/** Ranks of one node that lack something. */
export interface LackingNode {
  /** The node. */
  readonly node: number;
  /** Its ranks that have it, ascending; none in an outer node. */
  readonly holders: readonly number[];
  /** Its ranks that lack it, ascending; at least one. */
  readonly lacking: readonly number[];
}

/** A set of ranks that have something and a set of ranks that lack it. There are few, whatever the number of ids. */
export interface Shape {
  /** The ranks that have it, ascending. */
  readonly holders: readonly number[];
  /** The nodes of those ranks, ascending. */
  readonly holderNodes: readonly number[];
  /** The ranks that lack it, ascending; at least one. */
  readonly lacking: readonly number[];
  /** The nodes whose lacking ranks have a holder beside them, ascending. */
  readonly innerNodes: readonly LackingNode[];
  /** The nodes into which it has to come from another, ascending. */
  readonly outerNodes: readonly LackingNode[];
}

/** Ids of one shape, with the keys that share it. */
export interface LackClass {
  /** Who has and who lacks them. */
  readonly shape: Shape;
  /** The keys, by position, ascending. Equal lists are the same object. */
  readonly keys: readonly number[];
  /** The ids, by position, ascending. */
  readonly ids: number[];
  /** By position in `ids`, the bytes of the id's keys together. */
  readonly bytes: number[];
  /** The sum of `bytes`. */
  totalBytes: number;
}

/**
 * Finds out what is lacking: a class for each shape and list of keys, in the order in which the ids first show them. Linear in the number of
 * (id, key)s.
 *
 * @param demand Who wants what.
 * @param keys The fields, each once.
 * @param tracker Who holds what. Owners do not matter.
 * @param gpusPerNode Ranks on one node.
 * @param sizes By positions in `demand.ids` and `keys`.
 * @throws {PlanError} that names the id and the key that no rank holds.
 */
export function findLack(
  demand: Demand,
  keys: readonly string[],
  tracker: GlobalStorageTracker,
  gpusPerNode: number,
  sizes: ItemSizes,
): LackClass[] {
  const shapes = demand.wantedBy.map(() => new Map<number | string, Shape | undefined>());
  const shapeOf = (wantedClass: number, holders: readonly number[]): Shape | undefined => {
    const name = holders.length === 1 ? holders[0]! : holders.join();
    const ofClass = shapes[wantedClass]!;
    let shape = ofClass.get(name);
    if (shape === undefined && !ofClass.has(name)) {
      ofClass.set(name, shape = makeShape(holders, demand.wantedBy[wantedClass]!, gpusPerNode));
    }
    return shape;
  };
  const classes: LackClass[] = [];
  const classesOf = new Map<Shape, LackClass[]>();
  const everyKey = keys.map((_, k) => k);
  const keyLists = new Map([[everyKey.join(), everyKey]]);
  const note = (id: number, shape: Shape, keys: readonly number[]) => {
    let ofShape = classesOf.get(shape);
    if (ofShape === undefined) classesOf.set(shape, ofShape = []);
    let found = ofShape.find((one) => one.keys === keys);
    if (found === undefined) {
      found = { shape, keys, ids: [], bytes: [], totalBytes: 0 };
      ofShape.push(found);
      classes.push(found);
    }
    let bytes = 0;
    for (const k of keys) bytes += sizes.byKey[k]![id]!;
    found.ids.push(id);
    found.bytes.push(bytes);
    found.totalBytes += bytes;
  };

  for (const [i, id] of demand.ids.entries()) {
    const wantedClass = demand.classOf[i]!;
    const holdings = tracker.holdingsOf(id);
    let before: readonly number[] | undefined;
    let shared = true;
    for (const key of keys) {
      const holders = holdings?.get(key)?.holders;
      if (holders === undefined) throw new PlanError(`no rank holds key ${show(key)} of id ${show(id)}`, { id, key });
      if (before !== undefined && !sameRanks(before, holders)) shared = false;
      before = holders;
    }
    if (before === undefined) continue;
    if (shared) {
      const shape = shapeOf(wantedClass, before);
      if (shape !== undefined) note(i, shape, everyKey);
      continue;
    }
    const keysOf = new Map<Shape, number[]>();
    for (const [k, key] of keys.entries()) {
      const shape = shapeOf(wantedClass, holdings!.get(key)!.holders);
      if (shape === undefined) continue;
      const list = keysOf.get(shape);
      if (list === undefined) keysOf.set(shape, [k]);
      else list.push(k);
    }
    for (const [shape, list] of keysOf) {
      const name = list.join();
      const known = keyLists.get(name);
      if (known === undefined) keyLists.set(name, list);
      note(i, shape, known ?? list);
    }
  }
  return classes;
}

function makeShape(holders: readonly number[], wantedBy: readonly number[], gpusPerNode: number): Shape | undefined {
  const lacking = wantedBy.filter((rank) => !includesRank(holders, rank));
  if (lacking.length === 0) return undefined;
  // The tracker's list changes when it learns more.
  const having = [...holders];
  const holdersAt = byNode(having, gpusPerNode);
  const nodes = Array.from(byNode(lacking, gpusPerNode), ([node, lacking]): LackingNode => ({
    node,
    holders: holdersAt.get(node) ?? [],
    lacking,
  }));
  return {
    holders: having,
    holderNodes: [...holdersAt.keys()],
    lacking,
    innerNodes: nodes.filter(({ holders }) => holders.length > 0),
    outerNodes: nodes.filter(({ holders }) => holders.length === 0),
  };
}

/** Ranks, which ascend, by their node, ascending. */
function byNode(ranks: readonly number[], gpusPerNode: number): Map<number, number[]> {
  const nodes = new Map<number, number[]>();
  for (const rank of ranks) {
    const node = Math.floor(rank / gpusPerNode);
    const onNode = nodes.get(node);
    if (onNode === undefined) nodes.set(node, [rank]);
    else onNode.push(rank);
  }
  return nodes;
}

function sameRanks(a: readonly number[], b: readonly number[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
