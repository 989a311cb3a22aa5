/**
 * The JSON form of the storage tracker.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { isRank } from "./check_step.ts";

/** The reference's two tables. */
export interface TrackerState {
  /** By rank, by id, the keys held. */
  storages: Record<string, string[]>[];
  /** id, key and the rank that is the source of truth for it. */
  data_owner: [id: string, key: string, rank: number][];
}

/**
 * Reads the state of a tracker.
 *
 * @param json The state, or its JSON text.
 * @returns The state itself; nothing is copied.
 * @throws {PlanError} that names the place, when it is not of that form or does not hold together.
 */
export function checkedTrackerState(json: unknown): TrackerState {
  const state = parseText(json);
  if (typeof state !== "object" || state === null || Array.isArray(state)) {
    fail("tracker", `it is an object with storages and data_owner, not ${show(state)}`);
  }
  for (const name of Object.keys(state)) {
    if (name !== "storages" && name !== "data_owner") fail(name, "a tracker has no such field");
  }
  const { storages, data_owner: owners } = state as Record<keyof TrackerState, unknown>;
  if (!Array.isArray(storages) || storages.length === 0) {
    fail("storages", `it is a list with one entry for each rank, not ${show(storages)}`);
  }
  for (const [rank, storage] of storages.entries()) requireStorage(storage, `storages[${rank}]`);
  if (!Array.isArray(owners)) fail("data_owner", `it is a list of [id, key, rank], not ${show(owners)}`);
  const owned = new Map<string, Set<string>>();
  for (const [i, owner] of owners.entries()) requireOwner(owner, storages, owned, `data_owner[${i}]`);
  return state as TrackerState;
}

function requireStorage(storage: unknown, place: string): void {
  if (typeof storage !== "object" || storage === null || Array.isArray(storage)) {
    fail(place, `it is an object of ids, each with its keys, not ${show(storage)}`);
  }
  for (const [id, keys] of Object.entries(storage)) {
    const at = `${place}[${show(id)}]`;
    if (!Array.isArray(keys) || keys.length === 0 || keys.some((key) => typeof key !== "string")) {
      fail(at, `it is a list of keys, at least one, not ${show(keys)}`);
    }
    if (new Set(keys).size !== keys.length) fail(at, `a key is named twice in ${show(keys)}`);
  }
}

function requireOwner(
  owner: unknown,
  storages: readonly Record<string, string[]>[],
  owned: Map<string, Set<string>>,
  place: string,
): void {
  if (!Array.isArray(owner) || owner.length !== 3) fail(place, `it is [id, key, rank], not ${show(owner)}`);
  const [id, key, rank] = owner as unknown[];
  if (typeof id !== "string") fail(`${place}[0]`, `an id is a string, not ${show(id)}`);
  if (typeof key !== "string") fail(`${place}[1]`, `a key is a string, not ${show(key)}`);
  if (!isRank(rank) || rank >= storages.length) {
    fail(`${place}[2]`, `a rank is a whole number from 0 to ${storages.length - 1}, not ${show(rank)}`);
  }
  const storage = storages[rank]!;
  if (!Object.hasOwn(storage, id) || !storage[id]!.includes(key)) {
    fail(place, `rank ${rank} does not hold key ${show(key)} of id ${show(id)}, so it cannot own it`);
  }
  const keys = owned.get(id);
  if (keys?.has(key)) fail(place, `key ${show(key)} of id ${show(id)} has an owner already`);
  if (keys === undefined) owned.set(id, new Set([key]));
  else keys.add(key);
}

function parseText(json: unknown): unknown {
  if (typeof json !== "string") return json;
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new PlanError(`tracker: it is not JSON: ${error instanceof Error ? error.message : error}`, {
      place: "tracker",
      cause: error,
    });
  }
}

function fail(place: string, why: string): never {
  throw new PlanError(`${place}: ${why}`, { place });
}
