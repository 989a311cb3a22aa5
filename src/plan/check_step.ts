/**
 * What a step has to look like, whatever it is about.
 *
 * @module
 */

import { isCount } from "../count.ts";
import { PlanError } from "../errors.ts";
import { MAX_RANKS } from "../layout/process_topology.ts";
import { show } from "../show.ts";
import { sameList } from "./same_list.ts";

/** The six fields of a step in the reference's spelling, not yet known to hold what they should. */
export interface RawStep {
  /** The kind of step. */
  readonly comm_type: unknown;
  /** A rank, or null for an exchange. */
  readonly root: unknown;
  /** A list of ranks, or null for a scatter. */
  readonly srcs: unknown;
  /** A list of ranks, a list of such lists for an exchange, or null for a gather. */
  readonly dsts: unknown;
  /** A list of ids for a bcast, otherwise a list of such lists. */
  readonly ids: unknown;
  /** A list of keys. */
  readonly keys: unknown;
}

/** The names of the fields, in the order in which they are written. */
export const STEP_FIELDS: readonly (keyof RawStep)[] = ["comm_type", "root", "srcs", "dsts", "ids", "keys"];

/** Refuses what is not a list of ids, each a string and none twice. Throws a {@linkcode PlanError} that names the place. */
export type IdsCheck = (ids: unknown, place: string) => void;

/**
 * Refuses a step that is malformed in itself: wrong types, ranks that are no whole numbers from 0 up, lists that do not go together,
 * something named twice in one list, no keys.
 *
 * @param step Its fields.
 * @param place Where it stands, for the error: `plan[3]`.
 * @param checkIds Called with each list of ids, in their order.
 * @throws {PlanError} that names the place: `plan[3].dsts[1]`.
 */
export function checkStep(step: RawStep, place: string, checkIds: IdsCheck = requireIds): void {
  switch (step.comm_type) {
    case "bcast": {
      requireRank(step.root, `${place}.root`);
      const srcs = requireRanks(step.srcs, `${place}.srcs`, true);
      if (srcs.length !== 1 || srcs[0] !== step.root) {
        fail(`${place}.srcs`, `the sources of a bcast are its root alone, [${step.root}], not ${show(srcs)}`);
      }
      requireRanks(step.dsts, `${place}.dsts`, true);
      checkIds(step.ids, `${place}.ids`);
      break;
    }
    case "gather": {
      requireRank(step.root, `${place}.root`);
      const srcs = requireRanks(step.srcs, `${place}.srcs`, true);
      requireNull(step.dsts, `${place}.dsts`, "a gather has no dsts");
      requireIdsFor(step.ids, srcs, place, "srcs", checkIds);
      break;
    }
    case "scatter": {
      requireRank(step.root, `${place}.root`);
      requireNull(step.srcs, `${place}.srcs`, "a scatter has no srcs");
      const dsts = requireRanks(step.dsts, `${place}.dsts`, true);
      requireIdsFor(step.ids, dsts, place, "dsts", checkIds);
      break;
    }
    case "exchange": {
      requireNull(step.root, `${place}.root`, "an exchange has no root");
      const srcs = requireRanks(step.srcs, `${place}.srcs`, false);
      const dsts = requireList(step.dsts, `${place}.dsts`);
      if (dsts.length !== srcs.length) {
        fail(`${place}.dsts`, `there is one list for each of ${srcs.length} srcs, not ${dsts.length}`);
      }
      for (let i = 0; i < dsts.length; i++) requireRanks(dsts[i], `${place}.dsts[${i}]`, true);
      requireIdsFor(step.ids, srcs, place, "srcs", checkIds);
      break;
    }
    default:
      fail(
        `${place}.comm_type`,
        `it is "bcast", "gather", "scatter" or "exchange", not ${show(step.comm_type)}`,
      );
  }
  const keys = requireNames(step.keys, `${place}.keys`, "key");
  if (keys.length === 0) fail(`${place}.keys`, "a step moves at least one key");
}

/**
 * Whether `value` is a rank at all.
 *
 * @param value Anything.
 * @returns Whether it is a whole number from 0 up.
 */
export function isRank(value: unknown): value is number {
  return isCount(value);
}

/** Refuses a step that is no object. */
export function requireStep(step: unknown, place: string): asserts step is object {
  if (typeof step !== "object" || step === null) fail(place, `a step is an object, not ${show(step)}`);
}

/** Refuses a number of ranks that there cannot be, or for which no memory would do. */
export function requireRoomFor(worldSize: unknown): asserts worldSize is number {
  if (isRank(worldSize) && worldSize >= 1 && worldSize <= MAX_RANKS) return;
  fail("worldSize", `it is a whole number from 1 to ${MAX_RANKS}, not ${show(worldSize)}`);
}

/** Refuses an id or key that is no string. */
export function requireName(value: unknown, place: string, what: "id" | "key"): asserts value is string {
  if (typeof value !== "string") fail(place, `${what === "id" ? "an id" : "a key"} is a string, not ${show(value)}`);
}

function requireRank(value: unknown, place: string): void {
  if (!isRank(value)) fail(place, `a rank is a whole number from 0 up, not ${show(value)}`);
}

function requireRanks(value: unknown, place: string, once: boolean): number[] {
  const ranks = requireList(value, place);
  for (let i = 0; i < ranks.length; i++) if (!isRank(ranks[i])) requireRank(ranks[i], `${place}[${i}]`);
  if (once) requireOnce(ranks, place, "rank");
  return ranks as number[];
}

function requireNames(value: unknown, place: string, what: "id" | "key"): string[] {
  const names = requireStrings(value, place, what);
  requireOnce(names, place, what);
  return names;
}

/** Refuses what is not a list of ids or keys, which may be named several times. */
export function requireStrings(value: unknown, place: string, what: "id" | "key"): string[] {
  const names = requireList(value, place);
  for (let i = 0; i < names.length; i++) {
    if (typeof names[i] !== "string") requireName(names[i], `${place}[${i}]`, what);
  }
  return names as string[];
}

function requireIds(value: unknown, place: string): void {
  requireNames(value, place, "id");
}

function requireIdsFor(
  value: unknown,
  ranks: readonly number[],
  place: string,
  side: "srcs" | "dsts",
  checkIds: IdsCheck,
): void {
  const lists = requireList(value, `${place}.ids`);
  if (lists.length !== ranks.length) {
    fail(`${place}.ids`, `there is one list for each of ${ranks.length} ${side}, not ${lists.length}`);
  }
  for (let i = 0; i < lists.length; i++) checkIds(lists[i], `${place}.ids[${i}]`);
}

function requireList(value: unknown, place: string): unknown[] {
  if (!Array.isArray(value)) fail(place, `it is a list, not ${show(value)}`);
  return value;
}

function requireNull(value: unknown, place: string, why: string): void {
  if (value !== null) fail(place, `${why}: it is null, not ${show(value)}`);
}

function requireOnce(list: readonly unknown[], place: string, what: "rank" | "id" | "key"): void {
  if (list.length <= FEW ? !hasTwice(list) : new Set(list).size === list.length) return;
  const seen = new Set<unknown>();
  const again = list.findIndex((item) => seen.has(item) || !seen.add(item));
  throw namedTwice(list[again], `${place}[${again}]`, what);
}

/** Up to this many elements of a list are compared one by one, which is faster than to make a set. */
const FEW = 16;

function hasTwice(list: readonly unknown[]): boolean {
  for (let i = 1; i < list.length; i++) {
    for (let k = 0; k < i; k++) if (list[i] === list[k]) return true;
  }
  return false;
}

function namedTwice(value: unknown, place: string, what: "rank" | "id" | "key"): PlanError {
  return new PlanError(`${place}: ${what} ${show(value)} is named twice`, { place, [what]: value });
}

/** Checks lists of ids and looks up their positions, without a set for each list. */
export class IdPositioner {
  readonly #known: readonly string[];
  readonly #makePositions: () => ReadonlyMap<string, number>;
  #madePositions: ReadonlyMap<string, number> | undefined;
  /** By position the number of the last list that named it. */
  readonly #namedIn: Int32Array;
  #list = 0;
  #lastIds: readonly unknown[] = [];
  /** Where the last list's positions begin. */
  #lastBegin = 0;
  /** The first and the last position in the last list that was looked up, and how far it was from the last but one. */
  #first = -1;
  #last = -1;
  #stride = 1;
  /** What was looked up, list after list; null where nobody asks. */
  readonly #found: Int32Array | null;
  #used = 0;

  /**
   * Starts with nothing checked.
   *
   * @param known The known ids.
   * @param positions Their positions, asked for once, where one cannot be guessed.
   * @param room Where {@linkcode IdPositioner.found} is put; as long as all lists together, or null where nobody asks for it.
   * @param namedIn Zeros to work in, one for each known id.
   */
  constructor(
    known: readonly string[],
    positions: () => ReadonlyMap<string, number>,
    room: Int32Array | null,
    namedIn: Int32Array = new Int32Array(known.length),
  ) {
    this.#known = known;
    this.#makePositions = positions;
    this.#namedIn = namedIn;
    this.#found = room;
  }

  /** Takes one list. */
  readonly check: IdsCheck = (value, place) => {
    const ids = requireList(value, place);
    // Steps that differ in their keys alone name the same ids one after another.
    const begin = this.#used;
    this.#used += ids.length;
    if (sameList(ids, this.#lastIds)) {
      this.#found?.copyWithin(begin, this.#lastBegin, this.#lastBegin + ids.length);
      return;
    }
    this.#list++;
    const stop = this.#lookUp(ids, begin);
    if (stop < ids.length) {
      if (!this.#positions.has(ids[stop] as string)) throw unknownId(ids[stop], `${place}[${stop}]`);
      throw namedTwice(ids[stop], `${place}[${stop}]`, "id");
    }
    this.#lastIds = ids;
    this.#lastBegin = begin;
  };

  /** Up to the first that is not known, or named already. Returns the place of that, or how many there are. */
  #lookUp(ids: readonly unknown[], begin: number): number {
    const found = this.#found;
    const namedIn = this.#namedIn;
    const list = this.#list;
    // Mostly ids come in the order of the known ones, with as many between each and the next: then a guess saves the look into the map.
    let last = -1, stride = 0, next = this.#guessFirst(ids[0]);
    for (let i = 0; i < ids.length; i++) {
      const position = next >= 0 && this.#known[next] === ids[i] ? next : this.#positions.get(ids[i] as string);
      if (position === undefined || namedIn[position] === list) return i;
      namedIn[position] = list;
      if (found !== null) found[begin + i] = position;
      if (i === 0) {
        this.#first = position;
        stride = this.#stride;
        next = position + stride;
      } else {
        next = position - last === stride ? position + stride : -1;
        stride = position - last;
      }
      if (next >= this.#known.length) next = -1;
      last = position;
    }
    if (ids.length > 0) this.#last = last;
    if (ids.length > 1) this.#stride = stride;
    return ids.length;
  }

  get #positions(): ReadonlyMap<string, number> {
    return this.#madePositions ??= this.#makePositions();
  }

  /** Where the first id of a list may stand: behind the last of the list before, behind its first, or at the beginning; -1 where it is nowhere there. */
  #guessFirst(id: unknown): number {
    const known = this.#known;
    // Behind the last of the known ones there is nothing, which is not an id called undefined.
    if (typeof id !== "string") return -1;
    if (known[this.#last + 1] === id) return this.#last + 1;
    if (known[this.#first + 1] === id) return this.#first + 1;
    return known[0] === id ? 0 : -1;
  }

  /** The positions of all ids of the lists, one after another. */
  get found(): Int32Array {
    return this.#found!.subarray(0, this.#used);
  }
}

function unknownId(id: unknown, place: string): PlanError {
  requireName(id, place, "id");
  return new PlanError(`${place}: the metadata has no id ${show(id)}`, { place, id });
}

function fail(place: string, why: string): never {
  throw new PlanError(`${place}: ${why}`, { place });
}
