/**
 * The pattern "bcast": every (id, key) goes straight from one of its holders to all ranks that want it and lack it. The plan is the reference's
 * for ids in sorted order, step for step.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import type { Demand } from "./demand.ts";
import { scheduleTransfers, type SourceQueue, type Transfer } from "./schedule_transfers.ts";
import type { RedistribStep } from "./step.ts";
import { type GlobalStorageTracker, includesRank } from "./storage_tracker.ts";

/** What the choice of a source depends on, worked out once for all ids with the same holders and the same ranks that want them. */
interface Choice {
  /** The ranks that are to receive, ascending; empty when all have it. */
  readonly dsts: readonly number[];
  /** The number of that set of ranks among all such sets. */
  readonly dstsIndex: number;
  /** The holders that share their node with the most of `dsts`, ascending. */
  readonly nearest: readonly number[];
}

/**
 * Derives the plan. The source of an (id, key) is the holder with the most destinations on its own node; of equals, the one that sends the
 * least so far (an id to one rank counts one); of equals, the lowest. One step carries the ids of one key that go from the same source to the
 * same destinations. A key given twice counts once.
 *
 * @param demand Who wants what.
 * @param keys The fields.
 * @param tracker Who holds what. Owners do not matter.
 * @param gpusPerNode Ranks on one node.
 * @throws {PlanError} that names the id and the key that no rank holds.
 */
export function planBcast(
  demand: Demand,
  keys: readonly string[],
  tracker: GlobalStorageTracker,
  gpusPerNode: number,
): RedistribStep[] {
  const chooser = new SourceChooser(demand, gpusPerNode);
  const distinctKeys = [...new Set(keys)];
  const load = new Float64Array(tracker.worldSize);
  const queues = new Map<number, SourceQueue & { byDsts: Map<number, Transfer> }>();
  for (const [i, id] of demand.ids.entries()) {
    const holdings = tracker.holdingsOf(id);
    let before: { holders: readonly number[]; choice: Choice } | undefined;
    for (const [k, key] of distinctKeys.entries()) {
      const holders = holdings?.get(key)?.holders;
      if (holders === undefined) throw new PlanError(`no rank holds key ${show(key)} of id ${show(id)}`, { id, key });
      // The keys of one id nearly always have the same holders.
      const choice: Choice = before !== undefined && sameRanks(before.holders, holders)
        ? before.choice
        : chooser.choose(demand.classOf[i]!, holders);
      before = { holders, choice };
      if (choice.dsts.length === 0) continue;
      let src = choice.nearest[0]!;
      for (const rank of choice.nearest) if (load[rank]! < load[src]!) src = rank;
      load[src]! += choice.dsts.length;
      const queueIndex = src * distinctKeys.length + k;
      let queue = queues.get(queueIndex);
      if (queue === undefined) queues.set(queueIndex, queue = { src, key, transfers: [], byDsts: new Map() });
      let transfer = queue.byDsts.get(choice.dstsIndex);
      if (transfer === undefined) {
        queue.byDsts.set(choice.dstsIndex, transfer = { dsts: choice.dsts, ids: [] });
        queue.transfers.push(transfer);
      }
      transfer.ids.push(id);
    }
  }
  return scheduleTransfers([...queues.values()], tracker.worldSize).map(({ src, key, transfer }) => ({
    commType: "bcast",
    root: src,
    srcs: [src],
    dsts: [...transfer.dsts],
    ids: transfer.ids,
    keys: [key],
  }));
}

class SourceChooser {
  readonly #demand: Demand;
  readonly #gpusPerNode: number;
  /** By class and holders. */
  readonly #choices = new Map<number, Map<string, Choice>>();
  /** Numbers of sets of destinations. */
  readonly #dstsIndices = new Map<string, number>();

  constructor(demand: Demand, gpusPerNode: number) {
    this.#demand = demand;
    this.#gpusPerNode = gpusPerNode;
  }

  choose(wantedClass: number, holders: readonly number[]): Choice {
    let byHolders = this.#choices.get(wantedClass);
    if (byHolders === undefined) this.#choices.set(wantedClass, byHolders = new Map());
    const name = holders.length === 1 ? String(holders[0]) : holders.join();
    let choice = byHolders.get(name);
    if (choice === undefined) {
      byHolders.set(name, choice = this.#workOut(this.#demand.wantedBy[wantedClass]!, holders));
    }
    return choice;
  }

  #workOut(wantedBy: readonly number[], holders: readonly number[]): Choice {
    const dsts = wantedBy.filter((rank) => !includesRank(holders, rank));
    const onNode = new Map<number, number>();
    for (const rank of dsts) {
      const node = this.#nodeOf(rank);
      onNode.set(node, (onNode.get(node) ?? 0) + 1);
    }
    const neighbours = holders.map((rank) => onNode.get(this.#nodeOf(rank)) ?? 0);
    const most = neighbours.reduce((a, b) => Math.max(a, b));
    const name = dsts.join();
    let dstsIndex = this.#dstsIndices.get(name);
    if (dstsIndex === undefined) this.#dstsIndices.set(name, dstsIndex = this.#dstsIndices.size);
    return { dsts, dstsIndex, nearest: holders.filter((_, i) => neighbours[i] === most) };
  }

  #nodeOf(rank: number): number {
    return Math.floor(rank / this.#gpusPerNode);
  }
}

function sameRanks(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
