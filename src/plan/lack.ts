/**
 * Who lacks what, and who has it: what a plan without a root starts from.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import type { Demand } from "./demand.ts";
import type { ItemSizes } from "./item_sizes.ts";
import { sameList } from "./same_list.ts";
import { type GlobalStorageTracker, includesRank } from "./storage_tracker.ts";
import { countsOf, startsOf } from "./stretches.ts";

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

/** Ids of one shape, with the keys that share it. There may be as many classes as ids, so that their ids stand in one array. */
export interface LackClass {
  /** Who has and who lacks them. */
  readonly shape: Shape;
  /** The keys, by position, ascending. Equal lists are the same object. */
  readonly keys: readonly number[];
  /** The ids, by position: those from `begin` to before `end`, ascending. The others are other classes'. */
  readonly ids: Int32Array;
  /** Beside each of `ids`, the bytes of the id's keys together. */
  readonly bytes: Float64Array;
  /** See `ids`. */
  readonly begin: number;
  /** See `ids`. */
  readonly end: number;
  /** The sum of its `bytes`. */
  readonly totalBytes: number;
}

/** What ranks can send where memory is short. */
export interface SendLimits {
  /** By rank, the most bytes that may leave it in one phase. */
  readonly room: Float64Array;
  /** By rank, 1 where it has room for anything that travels, so that it can pass on what it received. */
  readonly relays: Uint8Array;
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
 * @param limits Holders count only where they have room to send; for a node without relays everything comes from elsewhere.
 * @throws {PlanError} that names the id and the key that no rank holds, or that no rank with it has room to send.
 */
export function findLack(
  demand: Demand,
  keys: readonly string[],
  tracker: GlobalStorageTracker,
  gpusPerNode: number,
  sizes: ItemSizes,
  limits?: SendLimits,
): LackClass[] {
  const shapes = new ShapeTable(demand, gpusPerNode, limits?.relays);
  const found = new ClassList();
  const everyKey = keys.map((_, k) => k);
  const keyLists = new Map([[everyKey.join(), everyKey]]);
  for (const [i, id] of demand.ids.entries()) {
    const wantedClass = demand.classOf[i]!;
    const holdings = tracker.holdingsOf(id);
    let before: readonly number[] | undefined;
    let shared = true;
    for (const key of keys) {
      const holders = holdings?.get(key)?.holders;
      if (holders === undefined) throw new PlanError(`no rank holds key ${show(key)} of id ${show(id)}`, { id, key });
      if (before !== undefined && !sameList(before, holders)) shared = false;
      before = holders;
    }
    if (before === undefined) continue;
    if (shared && limits === undefined) {
      const shape = shapes.find(wantedClass, before);
      if (shape !== undefined) found.add(i, shape, everyKey);
      continue;
    }
    const keysOf = new Map<KnownShape, number[]>();
    for (const [k, key] of keys.entries()) {
      const { holders } = holdings!.get(key)!;
      const senders = limits === undefined
        ? holders
        : holders.filter((rank) => limits.room[rank]! >= sizes.byKey[k]![i]!);
      const shape = shapes.find(wantedClass, holders, senders);
      if (shape === undefined) continue;
      if (senders.length === 0) throw noRoom(id, key, sizes.byKey[k]![i]!, holders, limits!);
      const list = keysOf.get(shape);
      if (list === undefined) keysOf.set(shape, [k]);
      else list.push(k);
    }
    for (const [shape, list] of keysOf) {
      const name = list.join();
      const known = keyLists.get(name);
      if (known === undefined) keyLists.set(name, list);
      found.add(i, shape, known ?? list);
    }
  }
  return found.classes(sizes);
}

/** Classes as they come up. */
class ClassList {
  /** By class. */
  readonly #shapes: Shape[] = [];
  readonly #keys: (readonly number[])[] = [];
  /** One for each time that some keys of an id were added, and the class of those. */
  readonly #ids: number[] = [];
  readonly #classOf: number[] = [];

  /** An id of a shape, with the keys of it that share the shape. Equal lists of keys are the same object. */
  add(id: number, { shape, keyLists, classes }: KnownShape, keys: readonly number[]): void {
    let n = keyLists.indexOf(keys);
    if (n < 0) {
      n = keyLists.push(keys) - 1;
      classes.push(this.#shapes.push(shape) - 1);
      this.#keys.push(keys);
    }
    this.#ids.push(id);
    this.#classOf.push(classes[n]!);
  }

  /** All of them, in the order in which they came up. */
  classes(sizes: ItemSizes): LackClass[] {
    const starts = startsOf(countsOf(this.#classOf, this.#shapes.length));
    const next = starts.slice();
    const ids = new Int32Array(this.#ids.length);
    for (const [i, id] of this.#ids.entries()) ids[next[this.#classOf[i]!]!++] = id;
    const bytes = new Float64Array(ids.length);
    return this.#shapes.map((shape, number) => {
      const keys = this.#keys[number]!;
      const begin = starts[number]!;
      const end = starts[number + 1]!;
      let totalBytes = 0;
      for (let i = begin; i < end; i++) {
        for (const k of keys) bytes[i]! += sizes.byKey[k]![ids[i]!]!;
        totalBytes += bytes[i]!;
      }
      return { shape, keys, ids, bytes, begin, end, totalBytes };
    });
  }
}

function noRoom(id: string, key: string, bytes: number, holders: readonly number[], { room }: SendLimits): PlanError {
  const rank = holders.reduce((a, b) => room[b]! > room[a]! ? b : a);
  return new PlanError(
    `maxPeakBytes: rank ${rank} would have to send key ${show(key)} of id ${show(id)}, ${bytes} bytes in one piece, ` +
      `and has room for ${room[rank]} beside what it receives`,
    { place: "maxPeakBytes", rank, id, key },
  );
}

/** A shape and its classes: the keys and the number of each. */
interface KnownShape {
  readonly shape: Shape;
  readonly keyLists: (readonly number[])[];
  readonly classes: number[];
}

/** All shapes, made as they are asked for. */
class ShapeTable {
  readonly #demand: Demand;
  readonly #gpusPerNode: number;
  readonly #relays: Uint8Array | undefined;
  /** By class of the demand, holders and senders; undefined where nobody lacks anything. */
  readonly #known = new Map<number | string, KnownShape | undefined>();
  /** By class of the demand, the nodes of those who want it, as if none had it. */
  readonly #wanting: LackingNode[][] = [];

  constructor(demand: Demand, gpusPerNode: number, relays: Uint8Array | undefined) {
    this.#relays = relays;
    this.#demand = demand;
    this.#gpusPerNode = gpusPerNode;
  }

  /** The shape of what `holders` have, of whom `senders` can send it. */
  find(wantedClass: number, holders: readonly number[], senders = holders): KnownShape | undefined {
    const known = this.#known;
    const name = holders.length === 1 && senders.length === 1
      ? holders[0]! * this.#demand.wantedBy.length + wantedClass
      : `${wantedClass}:${holders.join()}` + (senders === holders ? "" : `/${senders.join()}`);
    let shape = known.get(name);
    if (shape === undefined && !known.has(name)) {
      known.set(name, shape = this.#make(wantedClass, holders, senders));
    }
    return shape;
  }

  #make(wantedClass: number, holders: readonly number[], senders: readonly number[]): KnownShape | undefined {
    const wantedBy = this.#demand.wantedBy[wantedClass]!;
    // The tracker's list changes when it learns more.
    const having = [...senders];
    const holdersAt = byNode(having, this.#gpusPerNode);
    const lacking = holders.some((rank) => includesRank(wantedBy, rank))
      ? wantedBy.filter((rank) => !includesRank(holders, rank))
      : wantedBy;
    if (lacking.length === 0) return undefined;
    const nodes = lacking === wantedBy ? this.#nodesWanting(wantedClass) : lackingNodes(lacking, this.#gpusPerNode);
    const innerNodes: LackingNode[] = [];
    const outerNodes: LackingNode[] = [];
    for (const one of nodes) {
      const beside = holdersAt.find(({ node }) => node === one.node);
      if (beside === undefined) outerNodes.push(one);
      else innerNodes.push({ ...one, holders: beside.ranks });
    }
    const shape: Shape = {
      holders: having,
      holderNodes: holdersAt.map(({ node }) => node),
      lacking,
      innerNodes,
      outerNodes: this.#withRelays(outerNodes),
    };
    return { shape, keyLists: [], classes: [] };
  }

  /** Splits nodes in which no rank can pass anything on: each rank is sent to from outside then. */
  #withRelays(nodes: readonly LackingNode[]): readonly LackingNode[] {
    const relays = this.#relays;
    if (relays === undefined) return nodes;
    return nodes.flatMap((one) =>
      one.lacking.some((rank) => relays[rank] === 1) ? [one] : one.lacking.map((rank) => ({ ...one, lacking: [rank] }))
    );
  }

  #nodesWanting(wantedClass: number): LackingNode[] {
    return this.#wanting[wantedClass] ??= lackingNodes(this.#demand.wantedBy[wantedClass]!, this.#gpusPerNode);
  }
}

function lackingNodes(lacking: readonly number[], gpusPerNode: number): LackingNode[] {
  return byNode(lacking, gpusPerNode).map(({ node, ranks }) => ({ node, holders: [], lacking: ranks }));
}

/** Ranks, which ascend, by their node, ascending. */
function byNode(ranks: readonly number[], gpusPerNode: number): { readonly node: number; readonly ranks: number[] }[] {
  const nodes: { readonly node: number; readonly ranks: number[] }[] = [];
  for (const rank of ranks) {
    const node = Math.floor(rank / gpusPerNode);
    const last = nodes.at(-1);
    if (last?.node === node) last.ranks.push(rank);
    else nodes.push({ node, ranks: [rank] });
  }
  return nodes;
}
