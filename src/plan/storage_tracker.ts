/**
 * Who holds what, and who is the source of truth for it.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { isRank, requireName, requireRoomFor, requireStrings } from "./check_step.ts";
import { deliveriesOf, type RedistribStep } from "./step.ts";
import { checkedTrackerState, type TrackerState } from "./tracker_state.ts";
import { validatePlan } from "./validate_plan.ts";

/** Where one (id, key) is. */
export interface Holding {
  /** The ranks that hold it, ascending. */
  readonly holders: readonly number[];
  /** The rank that is its source of truth, where there is one. */
  readonly owner: number | undefined;
}

interface MutableHolding {
  holders: number[];
  owner: number | undefined;
  /** When it first had an owner: the place of this (id, key) in the list of owners. */
  ownedSince: number;
}

/** What each rank holds, and which rank owns which (id, key). Knows names only, not data. */
export class GlobalStorageTracker {
  /** The number of ranks. */
  readonly worldSize: number;
  /** By rank, by id, the keys in the order in which they came. */
  readonly #storages: Map<string, string[]>[];
  /** By id and key the same again, so that a planner need not ask every rank. */
  readonly #holdings = new Map<string, Map<string, MutableHolding>>();
  #ownings = 0;

  /**
   * Starts with all ranks empty.
   *
   * @param worldSize The number of ranks, from 1 to 2^20.
   * @throws {PlanError} when it is another number, or none.
   */
  constructor(worldSize: number) {
    requireRoomFor(worldSize);
    this.worldSize = worldSize;
    this.#storages = Array.from({ length: worldSize }, () => new Map());
  }

  /**
   * Notes that a rank holds `key` of `ids`. What it holds already stays as it is; an owner before it loses the ownership, not the data.
   *
   * @param rank The rank that holds it.
   * @param ids The samples.
   * @param key The field.
   * @param isOwner Whether the rank is the source of truth from now on.
   * @throws {PlanError} when there is no such rank, or an id or the key is not a string.
   */
  addData(rank: number, ids: readonly string[], key: string, isOwner: boolean): void {
    this.#requireRank(rank);
    requireName(key, "key", "key");
    requireStrings(ids, "ids", "id");
    for (const id of ids) this.#add(rank, id, key, isOwner);
  }

  /**
   * Forgets samples altogether, on all ranks. Unknown ids are passed over.
   *
   * @param ids The samples.
   * @throws {PlanError} when that is no list of strings; nothing is forgotten then.
   */
  clearData(ids: readonly string[]): void {
    requireStrings(ids, "ids", "id");
    for (const id of ids) {
      const byKey = this.#holdings.get(id);
      if (byKey === undefined) continue;
      for (const { holders } of byKey.values()) {
        for (const rank of holders) this.#storages[rank]!.delete(id);
      }
      this.#holdings.delete(id);
    }
  }

  /**
   * The keys that a rank holds of a sample.
   *
   * @returns In the order in which they came; none where the rank has nothing of it.
   * @throws {PlanError} when there is no such rank.
   */
  keysOf(rank: number, id: string): string[] {
    this.#requireRank(rank);
    return [...this.#storages[rank]!.get(id) ?? []];
  }

  /** The rank that is the source of truth for an (id, key), or undefined where there is none. */
  ownerOf(id: string, key: string): number | undefined {
    return this.#holdings.get(id)?.get(key)?.owner;
  }

  /** By key, where the data of a sample is; undefined for a sample that no rank has. A view that changes with the tracker. */
  holdingsOf(id: string): ReadonlyMap<string, Holding> | undefined {
    return this.#holdings.get(id);
  }

  /**
   * Notes what the ranks hold after the plan ran: gather roots hold what they gathered, destinations what they received. Owners do not change.
   *
   * @param plan The steps.
   * @throws {PlanError} when the plan is malformed or names a rank outside the world; nothing is noted then.
   */
  applyPlan(plan: readonly RedistribStep[]): void {
    validatePlan(plan, { worldSize: this.worldSize });
    for (const step of plan) {
      for (const { dsts, ids } of deliveriesOf(step)) {
        for (const dst of dsts) {
          for (const key of step.keys) {
            for (const id of ids) this.#add(dst, id, key, false);
          }
        }
      }
    }
  }

  /**
   * The reference's state as plain data: `storages` holds for each rank its keys by id, `data_owner` a list of `[id, key, rank]` in the order
   * in which they were first owned.
   */
  toJSON(): unknown {
    const owned: { entry: [string, string, number]; since: number }[] = [];
    for (const [id, byKey] of this.#holdings) {
      for (const [key, { owner, ownedSince }] of byKey) {
        if (owner !== undefined) owned.push({ entry: [id, key, owner], since: ownedSince });
      }
    }
    owned.sort((a, b) => a.since - b.since);
    return {
      storages: this.#storages.map((storage) =>
        Object.fromEntries(Array.from(storage, ([id, keys]): [string, string[]] => [id, [...keys]]))
      ),
      data_owner: owned.map(({ entry }) => entry),
    } satisfies TrackerState;
  }

  /**
   * Reads what {@linkcode GlobalStorageTracker.toJSON} writes, as a value or as text.
   *
   * @throws {PlanError} for anything else: missing or further fields, wrong types, something named twice, an owner that does not hold what it owns.
   */
  static fromJSON(json: unknown): GlobalStorageTracker {
    const { storages, data_owner: owners } = checkedTrackerState(json);
    const tracker = new GlobalStorageTracker(storages.length);
    for (const [rank, storage] of storages.entries()) {
      for (const [id, keys] of Object.entries(storage)) {
        for (const key of keys) tracker.#add(rank, id, key, false);
      }
    }
    for (const [id, key, rank] of owners) tracker.#add(rank, id, key, true);
    return tracker;
  }

  #add(rank: number, id: string, key: string, isOwner: boolean): void {
    let byKey = this.#holdings.get(id);
    if (byKey === undefined) this.#holdings.set(id, byKey = new Map());
    let holding = byKey.get(key);
    if (holding === undefined) byKey.set(key, holding = { holders: [], owner: undefined, ownedSince: 0 });
    if (insertAscending(holding.holders, rank)) {
      const keys = this.#storages[rank]!.get(id);
      if (keys === undefined) this.#storages[rank]!.set(id, [key]);
      else keys.push(key);
    }
    if (isOwner) {
      if (holding.owner === undefined) holding.ownedSince = this.#ownings++;
      holding.owner = rank;
    }
  }

  #requireRank(rank: number): void {
    if (!isRank(rank) || rank >= this.worldSize) {
      throw new PlanError(`rank: it is a whole number from 0 to ${this.worldSize - 1}, not ${show(rank)}`, {
        place: "rank",
        rank,
      });
    }
  }
}

/** Whether `rank` is among `ranks`, which ascend. */
export function includesRank(ranks: readonly number[], rank: number): boolean {
  return ranks[placeOf(ranks, rank)] === rank;
}

/** Puts `rank` among `ranks`, which ascend; false when it was there. */
function insertAscending(ranks: number[], rank: number): boolean {
  const last = ranks.at(-1);
  if (last === undefined || last < rank) {
    ranks.push(rank);
    return true;
  }
  const place = placeOf(ranks, rank);
  if (ranks[place] === rank) return false;
  ranks.splice(place, 0, rank);
  return true;
}

/** Where `rank` stands in `ranks`, or would have to stand. */
function placeOf(ranks: readonly number[], rank: number): number {
  let low = 0;
  for (let high = ranks.length; low < high;) {
    const middle = (low + high) >>> 1;
    if (ranks[middle]! < rank) low = middle + 1;
    else high = middle;
  }
  return low;
}
