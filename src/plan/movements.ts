/**
 * The movements of a step: which rank sends which ids to which ranks.
 *
 * @module
 */

import type { RedistribStep } from "./step.ts";
import type { Scratch } from "../scratch.ts";
import { SetTree } from "./set_tree.ts";
import { grown, startsOf, stretchOf } from "./stretches.ts";

/** Ids that one rank sends to the same ranks. */
export interface Movement {
  /** The rank that has them. */
  source: number;
  /** The ranks that are to have them, ascending; the source may be among them. */
  destinations: readonly number[];
  /** Whether the source sends to each destination itself. Else one copy leaves it, and those that have it pass it on. */
  direct: boolean;
  /** Which share of what goes from this source to these destinations in this step: from 0 on. It decides who passes it on. */
  turn: number;
  /** How many shares there are. */
  turns: number;
  /** The position in the plan of its step. */
  step: number;
}

/** The numbers that {@linkcode Movements} keeps of each, in the order in which they are added. */
const FIELDS = 9;
/** The place of the step among them. */
const STEP = 4;
/** The place of the number of the list of ids, behind which stands where in it they begin and end. */
const IDS = 6;

/** Movements, numbered in the order of the plan. Random batches have hundreds of thousands, so that each is a row of numbers and no object. */
export class Movements {
  #numbers: Int32Array;
  #count = 0;
  /** Lists that movements have by number; neighbours mostly have the same. */
  readonly #destinations: (readonly number[])[] = [];
  readonly #ids: Int32Array[] = [];

  /** None yet, with room for so many; `scratch` is worked in. */
  constructor(room: number, scratch: Scratch) {
    this.#numbers = scratch.int32(FIELDS * room);
  }

  /** How many there are. */
  get count(): number {
    return this.#count;
  }

  /** Adds those of ids whose positions stand in `ids` from `begin` to before `end`. */
  add(movement: Movement, ids: Int32Array, begin: number, end: number): void {
    let at = FIELDS * this.#count++;
    if (at + FIELDS > this.#numbers.length) this.#numbers = grown(this.#numbers, at + FIELDS);
    const numbers = this.#numbers;
    numbers[at++] = movement.source;
    numbers[at++] = Number(movement.direct);
    numbers[at++] = movement.turn;
    numbers[at++] = movement.turns;
    numbers[at++] = movement.step;
    numbers[at++] = numberOf(movement.destinations, this.#destinations);
    numbers[at++] = numberOf(ids, this.#ids);
    numbers[at++] = begin;
    numbers[at] = end;
  }

  /** Makes `movement` the one with number `m`. */
  read(m: number, movement: Movement): void {
    const numbers = this.#numbers;
    let at = FIELDS * m;
    movement.source = numbers[at++]!;
    movement.direct = numbers[at++] === 1;
    movement.turn = numbers[at++]!;
    movement.turns = numbers[at++]!;
    movement.step = numbers[at++]!;
    movement.destinations = this.#destinations[numbers[at]!]!;
  }

  /** The step of one. */
  stepOf(m: number): number {
    return this.#numbers[FIELDS * m + STEP]!;
  }

  /** Adds the movement with number `m` to the sets of its ids. */
  addTo(tree: SetTree, m: number): void {
    const at = FIELDS * m + IDS;
    tree.add(m, this.#ids[this.#numbers[at]!]!, this.#numbers[at + 1]!, this.#numbers[at + 2]!);
  }
}

/** The position of a list among others; it is put behind them unless it is the last one. */
function numberOf<T>(list: T, lists: T[]): number {
  if (lists.length === 0 || lists[lists.length - 1] !== list) lists.push(list);
  return lists.length - 1;
}

/** The lists of ids of a step; a bcast has one. */
export function idListsOf(step: RedistribStep): readonly (readonly string[])[] {
  return step.commType === "bcast" ? [step.ids] : step.ids;
}

/** How many ids the steps of a plan name. Of a plan that is not valid any number. */
export function countIds(plan: readonly unknown[]): number {
  let count = 0;
  for (let n = 0; n < plan.length; n++) count += countIdsOf(plan[n]);
  return count;
}

/** How many ids a step names. Of a step that is not valid any number. */
export function countIdsOf(step: unknown): number {
  const ids = (step as Partial<RedistribStep> | null | undefined)?.ids;
  if (!Array.isArray(ids)) return 0;
  if (typeof ids[0] === "string") return ids.length;
  let count = 0;
  for (const list of ids) if (Array.isArray(list)) count += list.length;
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
 * The movements of a plan.
 *
 * Ids of a scatter that go to the same destinations travel together. What one rank sends to several is cut into as many shares as there are destinations, or
 * ids where those are fewer, one behind the other and equally many ids each.
 *
 * @param plan Valid steps.
 * @param positions Those of all its ids, as {@linkcode positionsOf} gives them.
 * @param wanted By step, 1 where its movements are wanted.
 * @param scratch What to work in; the result is good until it is reset.
 */
export function movementsOf(
  plan: readonly RedistribStep[],
  positions: Int32Array,
  wanted: Uint8Array,
  scratch: Scratch,
): Movements {
  const movements = new Movements(Math.max(64, plan.length), scratch);
  // Filled anew for each.
  const movement: Movement = { source: 0, destinations: [], direct: false, turn: 0, turns: 1, step: 0 };
  let at = 0;
  let sets: DestinationSets | undefined;
  for (let n = 0; n < plan.length; n++) {
    const step = plan[n]!;
    if (wanted[n] !== 1) {
      at += countIdsOf(step);
      continue;
    }
    movement.step = n;
    switch (step.commType) {
      case "bcast":
        movement.source = step.root;
        movement.destinations = ascendingRanks(step.dsts);
        addShares(movements, movement, positions, at, at += step.ids.length);
        break;
      case "gather":
        movement.destinations = [step.root];
        for (let i = 0; i < step.srcs.length; i++) {
          movement.source = step.srcs[i]!;
          addShares(movements, movement, positions, at, at += step.ids[i]!.length);
        }
        break;
      case "scatter": {
        const lists = step.ids.map((ids) => positions.subarray(at, at += ids.length));
        sets ??= new DestinationSets(positions, scratch);
        movement.source = step.root;
        for (const { destinations, ids } of sets.of(step.dsts, lists)) {
          movement.destinations = destinations;
          addShares(movements, movement, ids, 0, ids.length);
        }
        break;
      }
      case "exchange":
        movement.direct = true;
        movement.turn = 0;
        movement.turns = 1;
        for (let i = 0; i < step.srcs.length; i++) {
          const begin = at;
          at += step.ids[i]!.length;
          if (begin === at) continue;
          movement.source = step.srcs[i]!;
          movement.destinations = ascendingRanks(step.dsts[i]!);
          movements.add(movement, positions, begin, at);
        }
        movement.direct = false;
    }
  }
  return movements;
}

/** Adds each share of what the source sends to the destinations: the ids whose positions stand from `begin` to `end`. */
function addShares(movements: Movements, movement: Movement, ids: Int32Array, begin: number, end: number): void {
  const count = end - begin;
  if (count === 0) return;
  const { source, destinations } = movement;
  const turns = sharesOf(destinations.includes(source) ? destinations.length - 1 : destinations.length, count);
  movement.turns = turns;
  for (let turn = 0; turn < turns; turn++) {
    movement.turn = turn;
    movements.add(movement, ids, begin + shareEnd(turn - 1, turns, count), begin + shareEnd(turn, turns, count));
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
