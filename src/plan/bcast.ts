/**
 * The pattern "bcast": every (id, key) goes straight from one of its holders to all ranks that want it and lack it. The plan is the reference's
 * for ids in sorted order, step for step.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import type { Demand } from "./demand.ts";
import { sameList } from "./same_list.ts";
import { scheduleTransfers, type TransferQueues } from "./schedule_transfers.ts";
import type { RedistribStep } from "./step.ts";
import { type GlobalStorageTracker, includesRank } from "./storage_tracker.ts";
import { countsOf, startsOf } from "./stretches.ts";
import { passOn } from "./item_ways.ts";
import { shareEnd, sharesOf } from "./movements.ts";
import { type Items, Traffic } from "./traffic.ts";

/** What the choice of a source depends on, worked out once for all ids with the same holders and the same ranks that want them. */
interface Choice {
  /** The number of ranks that are to receive; 0 when all have it. */
  readonly dstCount: number;
  /** The holders that share their node with the most of those ranks, ascending. */
  readonly nearest: readonly number[];
  /** For each of `nearest`, the number of its way to those ranks. */
  readonly ways: readonly number[];
  /** The number of that set of ranks. */
  readonly dstSet: number;
}

/** The transfers of a plan, not yet in order. There is a queue for each source and key, in the order in which they first came up. */
export interface BcastTransfers extends TransferQueues {
  /** By queue, the field that travels. */
  readonly keys: readonly string[];
  /** By transfer, where its ids begin in `ids`; one more, where the last end. */
  readonly firstId: Int32Array;
  /** What travels, by position in the demand's ids. */
  readonly ids: Int32Array;
  /** The sets of destinations that transfers name by index. */
  readonly dstSets: readonly (readonly number[])[];
}

/**
 * Finds the transfers. The source of an (id, key) is the holder with the most destinations on its own node; of equals, the one that sends the
 * least so far (an id to one rank counts one); of equals, the lowest. One step carries the ids of one key that go from the same source to the
 * same destinations. A key given twice counts once.
 *
 * @param demand Who wants what.
 * @param keys The fields.
 * @param tracker Who holds what. Owners do not matter.
 * @param gpusPerNode Ranks on one node.
 * @throws {PlanError} that names the id and the key that no rank holds.
 */
export function bcastTransfers(
  demand: Demand,
  keys: readonly string[],
  tracker: GlobalStorageTracker,
  gpusPerNode: number,
): BcastTransfers {
  const chooser = new SourceChooser(demand, tracker.worldSize, gpusPerNode);
  const distinctKeys = [...new Set(keys)];
  const keyCount = distinctKeys.length;
  const load = new Float64Array(tracker.worldSize);
  const found = new TransferList(demand.ids.length, tracker.worldSize, keyCount);
  for (const [i, id] of demand.ids.entries()) {
    const holdings = tracker.holdingsOf(id);
    let holdersBefore: readonly number[] | undefined;
    let choice: Choice | undefined;
    for (let k = 0; k < keyCount; k++) {
      const key = distinctKeys[k]!;
      const holders = holdings?.get(key)?.holders;
      if (holders === undefined) throw new PlanError(`no rank holds key ${show(key)} of id ${show(id)}`, { id, key });
      // The keys of one id nearly always have the same holders.
      if (choice === undefined || !sameList(holdersBefore!, holders)) {
        choice = chooser.choose(demand.classOf[i]!, holders);
      }
      holdersBefore = holders;
      if (choice.dstCount === 0) continue;
      const { nearest } = choice;
      let chosen = 0;
      for (let n = 1; n < nearest.length; n++) if (load[nearest[n]!]! < load[nearest[chosen]!]!) chosen = n;
      const src = nearest[chosen]!;
      load[src]! += choice.dstCount;
      found.add(i, k, src, choice.dstSet, choice.ways[chosen]!);
    }
  }
  return { ...found.inQueues(distinctKeys), dstSets: chooser.dstSets };
}

/** Transfers as they come up, numbered from 0. */
class TransferList {
  readonly #keyCount: number;
  /** By (id, key) its transfer, or -1. */
  readonly #transferOf: Int32Array;
  /** By way and key its transfer, or -1: grows with the ways. */
  readonly #ofWay: number[] = [];
  /** By transfer. */
  readonly #queueOf: number[] = [];
  readonly #dstSetOf: number[] = [];
  /** By source and key the number of the queue, or -1. */
  readonly #queueNumbers: Int32Array;
  readonly #sources: number[] = [];
  readonly #keyOf: number[] = [];

  constructor(ids: number, worldSize: number, keyCount: number) {
    this.#keyCount = keyCount;
    this.#transferOf = new Int32Array(ids * keyCount).fill(-1);
    this.#queueNumbers = new Int32Array(worldSize * keyCount).fill(-1);
  }

  /** One more (id, key) goes from `src` to the ranks of `dstSet`, which is way `way`. */
  add(id: number, k: number, src: number, dstSet: number, way: number): void {
    const name = way * this.#keyCount + k;
    while (this.#ofWay.length <= name) this.#ofWay.push(-1);
    let transfer = this.#ofWay[name]!;
    if (transfer < 0) {
      transfer = this.#queueOf.push(this.#queue(src, k)) - 1;
      this.#dstSetOf.push(dstSet);
      this.#ofWay[name] = transfer;
    }
    this.#transferOf[id * this.#keyCount + k] = transfer;
  }

  #queue(src: number, k: number): number {
    const name = src * this.#keyCount + k;
    if (this.#queueNumbers[name]! < 0) {
      this.#queueNumbers[name] = this.#sources.push(src) - 1;
      this.#keyOf.push(k);
    }
    return this.#queueNumbers[name]!;
  }

  /** All of them, numbered anew: queue by queue. */
  inQueues(keys: readonly string[]): Omit<BcastTransfers, "dstSets"> {
    const count = this.#queueOf.length;
    const firstTransfer = startsOf(countsOf(this.#queueOf, this.#sources.length));
    const next = firstTransfer.slice();
    const numberOf = new Int32Array(count);
    const queueOf = new Int32Array(count);
    const dstSetOf = new Int32Array(count);
    for (let t = 0; t < count; t++) {
      const queue = this.#queueOf[t]!;
      const number = numberOf[t] = next[queue]!++;
      queueOf[number] = queue;
      dstSetOf[number] = this.#dstSetOf[t]!;
    }
    const transferOf = this.#transferOf;
    for (let i = 0; i < transferOf.length; i++) if (transferOf[i]! >= 0) transferOf[i] = numberOf[transferOf[i]!]!;
    const firstId = startsOf(countsOf(transferOf, count));
    const ids = new Int32Array(firstId[count]!);
    const nextId = firstId.slice();
    for (let i = 0; i < transferOf.length; i++) {
      if (transferOf[i]! >= 0) ids[nextId[transferOf[i]!]!++] = Math.floor(i / this.#keyCount);
    }
    return {
      sources: this.#sources,
      keys: this.#keyOf.map((k) => keys[k]!),
      firstTransfer,
      queueOf,
      dstSetOf,
      firstId,
      ids,
    };
  }
}

/** Puts transfers in order: one step each. `ids` are those of the demand. */
export function planBcast(transfers: BcastTransfers, ids: readonly string[], worldSize: number): RedistribStep[] {
  const { sources, keys, queueOf, dstSetOf, dstSets } = transfers;
  const steps: RedistribStep[] = [];
  for (const t of scheduleTransfers(transfers, dstSets, worldSize)) {
    const src = sources[queueOf[t]!]!;
    steps.push({
      commType: "bcast",
      root: src,
      srcs: [src],
      dsts: dstSets[dstSetOf[t]!]!.slice(),
      ids: idsOf(transfers, t, ids),
      keys: [keys[queueOf[t]!]!],
    });
  }
  return steps;
}

function idsOf({ firstId, ids: places }: BcastTransfers, t: number, ids: readonly string[]): string[] {
  const begin = firstId[t]!;
  const end = firstId[t + 1]!;
  const found = [ids[places[begin]!]!];
  for (let i = begin + 1; i < end; i++) found.push(ids[places[i]!]!);
  return found;
}

/** The traffic that {@linkcode trafficOf} finds for the plan, which does not depend on the order of its steps: every item travels in one of them. */
export function bcastTraffic(
  { sources, keys: keyOf, queueOf, dstSetOf, firstId, ids, dstSets }: BcastTransfers,
  { keys, sizes }: Items,
  worldSize: number,
): Traffic {
  const traffic = new Traffic(worldSize);
  const sizesOf = keyOf.map((key) => sizes.byKey[keys.indexOf(key)]!);
  // There are so many shares that what they need is made once.
  const share = { source: 0, turn: 0, turns: 0 };
  let bytes = 0;
  let items = 0;
  const hop = (phase: number, from: number, to: number) => traffic.add(phase, from, to, bytes, items);
  for (let t = 0; t < queueOf.length; t++) {
    const queue = queueOf[t]!;
    const ofKey = sizesOf[queue]!;
    const dsts = dstSets[dstSetOf[t]!]!;
    const begin = firstId[t]!;
    const count = firstId[t + 1]! - begin;
    share.source = sources[queue]!;
    share.turns = sharesOf(dsts.length, count);
    for (share.turn = 0; share.turn < share.turns; share.turn++) {
      const end = begin + shareEnd(share.turn, share.turns, count);
      bytes = 0;
      items = 0;
      for (let i = begin + shareEnd(share.turn - 1, share.turns, count); i < end; i++) {
        const size = ofKey[ids[i]!]!;
        bytes += size;
        if (size > 0) items++;
      }
      passOn(dsts, dsts.length, share, 0, hop);
    }
  }
  return traffic;
}

const ALL_HAVE_IT: Choice = { dstCount: 0, nearest: [], ways: [], dstSet: -1 };

class SourceChooser {
  /** All sets of ranks that receive together, by number. */
  readonly dstSets: (readonly number[])[] = [];
  readonly #demand: Demand;
  readonly #worldSize: number;
  readonly #gpusPerNode: number;
  /** By class and holders. */
  readonly #choices = new Map<string | number, Choice>();
  /** By a hash of their ranks, the numbers of sets: most often one. */
  readonly #dstSetsByHash = new Map<number, number[]>();
  /** By set and source the number of the way from there to the set. */
  readonly #ways = new Map<number, number>();

  constructor(demand: Demand, worldSize: number, gpusPerNode: number) {
    this.#demand = demand;
    this.#worldSize = worldSize;
    this.#gpusPerNode = gpusPerNode;
  }

  choose(wantedClass: number, holders: readonly number[]): Choice {
    const name = holders.length === 1
      ? holders[0]! * this.#demand.wantedBy.length + wantedClass
      : `${wantedClass}:${holders.join()}`;
    let choice = this.#choices.get(name);
    if (choice === undefined) {
      this.#choices.set(name, choice = this.#workOut(this.#demand.wantedBy[wantedClass]!, holders));
    }
    return choice;
  }

  #workOut(wantedBy: readonly number[], holders: readonly number[]): Choice {
    const dsts = wantedBy.filter((rank) => !includesRank(holders, rank));
    if (dsts.length === 0) return ALL_HAVE_IT;
    const dstSet = this.#dstSet(dsts);
    const nearest = holders.length === 1 ? holders : this.#nearest(holders, dsts);
    return { dstCount: dsts.length, nearest, ways: nearest.map((rank) => this.#way(rank, dstSet)), dstSet };
  }

  #way(src: number, dstSet: number): number {
    const name = dstSet * this.#worldSize + src;
    let way = this.#ways.get(name);
    if (way === undefined) this.#ways.set(name, way = this.#ways.size);
    return way;
  }

  #dstSet(dsts: readonly number[]): number {
    let hash = 0;
    for (let i = 0; i < dsts.length; i++) hash = Math.imul(hash ^ dsts[i]!, 0x9e3779b1) ^ (hash >>> 15);
    const alike = this.#dstSetsByHash.get(hash);
    let set = alike?.find((one) => sameList(this.dstSets[one]!, dsts));
    if (set !== undefined) return set;
    set = this.dstSets.push(dsts) - 1;
    if (alike === undefined) this.#dstSetsByHash.set(hash, [set]);
    else alike.push(set);
    return set;
  }

  /** Those of `holders` that share their node with the most of `dsts`. */
  #nearest(holders: readonly number[], dsts: readonly number[]): number[] {
    const onNode = new Map<number, number>();
    for (const rank of dsts) {
      const node = this.#nodeOf(rank);
      onNode.set(node, (onNode.get(node) ?? 0) + 1);
    }
    const neighbours = holders.map((rank) => onNode.get(this.#nodeOf(rank)) ?? 0);
    const most = neighbours.reduce((a, b) => Math.max(a, b));
    return holders.filter((_, i) => neighbours[i] === most);
  }

  #nodeOf(rank: number): number {
    return Math.floor(rank / this.#gpusPerNode);
  }
}
