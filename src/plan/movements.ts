/**
 * The movements of a step: which rank sends which ids to which ranks.
 *
 * @module
 */

import type { RedistribStep } from "./step.ts";
import { Scratch } from "../scratch.ts";
import { SetTree } from "./set_tree.ts";
import { startsOf, stretchOf } from "./stretches.ts";

/** Ids that one rank sends to the same ranks. */
export interface Movement {
  /** The rank that has them. */
  readonly source: number;
  /** The ranks that are to have them, ascending; the source may be among them. */
  readonly destinations: readonly number[];
  /** Whether the source sends to each destination itself. Else one copy leaves it, and those that have it pass it on. */
  readonly direct: boolean;
  /** Which share of what goes from this source to these destinations in this step: from 0 on. It decides who passes it on. */
  readonly turn: number;
  /** How many shares there are. */
  readonly turns: number;
}

/** Takes a movement, and where in `ids` the positions of its ids begin and end. */
export type VisitMovement<Ids = Int32Array> = (movement: Movement, ids: Ids, begin: number, end: number) => void;

/** The lists of ids of a step; a bcast has one. */
export function idListsOf(step: RedistribStep): readonly (readonly string[])[] {
  return step.commType === "bcast" ? [step.ids] : step.ids;
}

/** How many ids the steps of a plan name. Of a plan that is not valid any number. */
export function countIds(plan: readonly unknown[]): number {
  let count = 0;
  for (const step of plan) {
    const ids = (step as Partial<RedistribStep> | null)?.ids;
    if (!Array.isArray(ids)) continue;
    if (typeof ids[0] === "string") count += ids.length;
    else for (const list of ids) if (Array.isArray(list)) count += list.length;
  }
  return count;
}

/** The positions of all ids of a valid plan, one after another as its steps have them. `positions` has all of them. */
export function positionsOf(plan: readonly RedistribStep[], positions: ReadonlyMap<string, number>): Int32Array {
  const places = new Int32Array(countIds(plan));
  let at = 0;
  for (const step of plan) {
    for (const ids of idListsOf(step)) for (let i = 0; i < ids.length; i++) places[at++] = positions.get(ids[i]!)!;
  }
  return places;
}

/**
 * Calls `visit` with each movement of a plan.
 *
 * Ids of a scatter that go to the same destinations travel together. What one rank sends to several is cut into as many shares as there are destinations, or
 * ids where those are fewer, one behind the other and equally many ids each.
 *
 * @param plan Valid steps.
 * @param positions Those of all its ids, as {@linkcode positionsOf} gives them.
 * @param visit Told the position of the step too.
 * @param wanted By step, whether its movements are wanted; all are unless told otherwise.
 * @param scratch What to work in; then the lists of ids are good until it is reset.
 */
export function forEachMovement(
  plan: readonly RedistribStep[],
  positions: Int32Array,
  visit: (step: number, ...movement: Parameters<VisitMovement>) => void,
  wanted: (step: number) => boolean = () => true,
  scratch: Scratch = new Scratch(),
): void {
  let at = 0;
  let n = 0;
  let sets: DestinationSets | undefined;
  const visitOne: VisitMovement = (movement, ids, begin, end) => visit(n, movement, ids, begin, end);
  for (; n < plan.length; n++) {
    const step = plan[n]!;
    if (!wanted(n)) {
      for (const ids of idListsOf(step)) at += ids.length;
      continue;
    }
    switch (step.commType) {
      case "bcast":
        inShares(step.root, ascendingRanks(step.dsts), positions, at, at += step.ids.length, visitOne);
        break;
      case "gather": {
        const destinations = [step.root];
        for (let i = 0; i < step.srcs.length; i++) {
          inShares(step.srcs[i]!, destinations, positions, at, at += step.ids[i]!.length, visitOne);
        }
        break;
      }
      case "scatter": {
        const lists = step.ids.map((ids) => positions.subarray(at, at += ids.length));
        sets ??= new DestinationSets(positions, scratch);
        for (const { destinations, ids } of sets.of(step.dsts, lists)) {
          inShares(step.root, destinations, ids, 0, ids.length, visitOne);
        }
        break;
      }
      case "exchange":
        for (let i = 0; i < step.srcs.length; i++) {
          const destinations = ascendingRanks(step.dsts[i]!);
          const movement = { source: step.srcs[i]!, destinations, direct: true, turn: 0, turns: 1 };
          visitOne(movement, positions, at, at += step.ids[i]!.length);
        }
    }
  }
}

/** Calls `visit` with each share of what `source` sends to `destinations`: the ids whose positions stand from `begin` to `end`. */
function inShares<Ids>(
  source: number,
  destinations: readonly number[],
  ids: Ids,
  begin: number,
  end: number,
  visit: VisitMovement<Ids>,
): void {
  const count = end - begin;
  const turns = sharesOf(destinations.includes(source) ? destinations.length - 1 : destinations.length, count);
  for (let turn = 0; turn < turns; turn++) {
    const movement = { source, destinations, direct: false, turn, turns };
    visit(movement, ids, begin + shareEnd(turn - 1, turns, count), begin + shareEnd(turn, turns, count));
  }
}

/** Into how many shares `count` ids for so many receivers are cut. */
export function sharesOf(receivers: number, count: number): number {
  return Math.max(1, Math.min(receivers, count));
}

/** Where a share ends among `count` ids, which is where the next one begins. */
export function shareEnd(turn: number, turns: number, count: number): number {
  return Math.floor(count * (turn + 1) / turns);
}

/** Ids that a scatter sends to the same ranks. */
interface DestinationSet {
  readonly destinations: readonly number[];
  readonly ids: Int32Array;
}

/** Finds the ids that a scatter sends to the same ranks. */
class DestinationSets {
  readonly #scratch: Scratch;
  readonly #setOf: Int32Array;

  /** For the steps of a plan whose ids have these positions. */
  constructor(positions: Int32Array, scratch: Scratch) {
    let last = -1;
    for (let i = 0; i < positions.length; i++) if (positions[i]! > last) last = positions[i]!;
    this.#scratch = scratch;
    this.#setOf = scratch.int32(last + 1);
  }

  /** By set of destinations the ids that go there; in the order in which the ranks, ascending, name them. */
  of(dsts: readonly number[], positions: readonly Int32Array[]): DestinationSet[] {
    const order = dsts.map((dst, i) => ({ dst, ids: positions[i]! })).sort((a, b) => a.dst - b.dst);
    const tree = new SetTree(this.#setOf);
    const named = this.#scratch.int32(positions.reduce((total, { length }) => total + length, 0));
    let count = 0;
    for (const { dst, ids } of order) {
      count = addNew(ids, tree.setOf, named, count);
      tree.add(dst, ids, 0, ids.length);
    }
    return sortedOut(tree.size, tree.setOf, named.subarray(0, count), this.#scratch).map(({ set, ids }) => {
      const destinations: number[] = [];
      tree.thingsOf(set, destinations);
      return { destinations, ids };
    });
  }
}

/** Puts the ids that are in no set yet behind the first `count` of `named`; returns how many are there then. */
function addNew(ids: Int32Array, setOf: Int32Array, named: Int32Array, count: number): number {
  for (let i = 0; i < ids.length; i++) if (setOf[ids[i]!] === 0) named[count++] = ids[i]!;
  return count;
}

/** The ids of each set that has any, in the order in which they were named; forgets what set they were in. */
function sortedOut(
  sets: number,
  setOf: Int32Array,
  named: Int32Array,
  scratch: Scratch,
): { set: number; ids: Int32Array }[] {
  /** By set, how many of its ids are still to come. */
  const toCome = scratch.int32(sets);
  for (let i = 0; i < named.length; i++) toCome[setOf[named[i]!]!]!++;
  const begins = startsOf(toCome, scratch.int32(sets + 1));
  const ids = scratch.int32(named.length);
  for (let i = 0; i < named.length; i++) {
    const set = setOf[named[i]!]!;
    ids[begins[set + 1]! - toCome[set]!--] = named[i]!;
    setOf[named[i]!] = 0;
  }
  const found: { set: number; ids: Int32Array }[] = [];
  for (let set = 0; set < sets; set++) {
    if (begins[set + 1]! > begins[set]!) found.push({ set, ids: stretchOf(ids, begins[set]!, begins[set + 1]!) });
  }
  return found;
}

function ascendingRanks(ranks: readonly number[]): readonly number[] {
  for (let i = 1; i < ranks.length; i++) if (ranks[i]! < ranks[i - 1]!) return [...ranks].sort((a, b) => a - b);
  return ranks;
}
