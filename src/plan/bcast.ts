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
import { scheduleTransfers, type SourceQueue, type Transfer } from "./schedule_transfers.ts";
import type { RedistribStep } from "./step.ts";
import { type GlobalStorageTracker, includesRank } from "./storage_tracker.ts";
import { passOn } from "./item_ways.ts";
import { shareEnd, sharesOf } from "./movements.ts";
import { type Items, Traffic } from "./traffic.ts";

/** Ranks that receive together. */
interface DstSet {
  /** The set's number among all. */
  readonly index: number;
  /** By source, then by the key's index, the transfer that goes from there to these ranks. */
  readonly transfersFrom: Map<number, (Transfer | undefined)[]>;
}

/** What the choice of a source depends on, worked out once for all ids with the same holders and the same ranks that want them. */
interface Choice {
  /** The number of ranks that are to receive; 0 when all have it. */
  readonly dstCount: number;
  /** The holders that share their node with the most of those ranks, ascending. */
  readonly nearest: readonly number[];
  /** For each of `nearest`, its transfers to those ranks by the key's index. */
  readonly transfersFrom: readonly (Transfer | undefined)[][];
  /** The number of that set of ranks. */
  readonly dstSet: number;
}

/** The transfers of a plan, not yet in order. */
export interface BcastTransfers {
  /** By source and key, in the order in which they first came up. */
  readonly queues: readonly SourceQueue[];
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
  const chooser = new SourceChooser(demand, gpusPerNode);
  const distinctKeys = [...new Set(keys)];
  const load = new Float64Array(tracker.worldSize);
  const queues = new Map<number, SourceQueue>();
  for (const [i, id] of demand.ids.entries()) {
    const holdings = tracker.holdingsOf(id);
    let holdersBefore: readonly number[] | undefined;
    let choice: Choice | undefined;
    for (const [k, key] of distinctKeys.entries()) {
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
      const transfer = choice.transfersFrom[chosen]![k];
      if (transfer !== undefined) {
        transfer.ids.push(i);
        continue;
      }
      const added: Transfer = { dstSet: choice.dstSet, ids: [i] };
      choice.transfersFrom[chosen]![k] = added;
      const queueIndex = src * distinctKeys.length + k;
      const queue = queues.get(queueIndex);
      if (queue === undefined) queues.set(queueIndex, { src, key, transfers: [added] });
      else queue.transfers.push(added);
    }
  }
  return { queues: [...queues.values()], dstSets: chooser.dstSets };
}

/** Puts transfers in order: one step each. `ids` are those of the demand. */
export function planBcast(
  { queues, dstSets }: BcastTransfers,
  ids: readonly string[],
  worldSize: number,
): RedistribStep[] {
  return scheduleTransfers(queues, dstSets, worldSize).map(({ src, key, transfer }) => ({
    commType: "bcast",
    root: src,
    srcs: [src],
    dsts: dstSets[transfer.dstSet]!.slice(),
    ids: transfer.ids.map((i) => ids[i]!),
    keys: [key],
  }));
}

/** The traffic that {@linkcode trafficOf} finds for the plan, which does not depend on the order of its steps: every item travels in one of them. */
export function bcastTraffic(
  { queues, dstSets }: BcastTransfers,
  { keys, sizes }: Items,
  worldSize: number,
): Traffic {
  const traffic = new Traffic(worldSize);
  // There are so many shares that what they need is made once.
  const share = { source: 0, turn: 0, turns: 0 };
  let bytes = 0;
  let items = 0;
  const hop = (phase: number, from: number, to: number) => traffic.add(phase, from, to, bytes, items);
  for (const { src, key, transfers } of queues) {
    const ofKey = sizes.byKey[keys.indexOf(key)]!;
    share.source = src;
    for (const { dstSet, ids } of transfers) {
      const dsts = dstSets[dstSet]!;
      share.turns = sharesOf(dsts.length, ids.length);
      for (share.turn = 0; share.turn < share.turns; share.turn++) {
        const end = shareEnd(share.turn, share.turns, ids.length);
        bytes = 0;
        items = 0;
        for (let i = shareEnd(share.turn - 1, share.turns, ids.length); i < end; i++) {
          const size = ofKey[ids[i]!]!;
          bytes += size;
          if (size > 0) items++;
        }
        passOn(dsts, dsts.length, share, 0, hop);
      }
    }
  }
  return traffic;
}

const ALL_HAVE_IT: Choice = { dstCount: 0, nearest: [], transfersFrom: [], dstSet: -1 };

class SourceChooser {
  /** All sets of ranks that receive together, by number. */
  readonly dstSets: (readonly number[])[] = [];
  readonly #demand: Demand;
  readonly #gpusPerNode: number;
  /** By class and holders. */
  readonly #choices = new Map<string | number, Choice>();
  /** By a hash of their ranks: most often one. */
  readonly #dstSetsByHash = new Map<number, DstSet[]>();

  constructor(demand: Demand, gpusPerNode: number) {
    this.#demand = demand;
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
    const transfersFrom = nearest.map((rank) => {
      let byKey = dstSet.transfersFrom.get(rank);
      if (byKey === undefined) dstSet.transfersFrom.set(rank, byKey = []);
      return byKey;
    });
    return { dstCount: dsts.length, nearest, transfersFrom, dstSet: dstSet.index };
  }

  #dstSet(dsts: readonly number[]): DstSet {
    let hash = 0;
    for (let i = 0; i < dsts.length; i++) hash = Math.imul(hash ^ dsts[i]!, 0x9e3779b1) ^ (hash >>> 15);
    const alike = this.#dstSetsByHash.get(hash);
    let set = alike?.find(({ index }) => sameList(this.dstSets[index]!, dsts));
    if (set !== undefined) return set;
    set = { index: this.dstSets.push(dsts) - 1, transfersFrom: new Map() };
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
