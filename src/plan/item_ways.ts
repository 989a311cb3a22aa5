/**
 * The ways of items through a plan: from which rank to which, in which phase.
 *
 * The rules by which a plan comes to messages are here, for all who work them out:
 * - What a rank has from before the transfer it can send in phase 0, what it received in one phase it can send from the next on, and every movement
 *   starts in the phase in which its source has the item. So steps without a data dependency share a phase.
 * - A rank that the plan shows to have an item is not sent it again.
 * - In an exchange the source sends to each destination itself. Else one copy leaves the source: to the destination whose turn it is, and those that have
 *   the item pass it on. Movements to several destinations come in shares with different turns, so that all of them pass on equally much (see
 *   `movementsOf`). Where the destinations hold a whole replica group, one copy goes to a member, and a broadcast to the others; the members that get
 *   it of several groups pass it on as single destinations do.
 * - An exchange without sources is a *fence*: what stands behind it in the plan starts in a later phase than all that stands before it.
 *
 * What happens to an item follows from the movements that it has a part in. So the plan is turned round first, from ids by movement to movements by id;
 * items with the same movements have the same way, which is worked out once. So it is for keys whose steps differ in nothing but the key.
 *
 * @module
 */

import { countIdsOf, type Movement, type Movements, movementsOf } from "./movements.ts";
import { Scratch } from "../scratch.ts";
import { sameList } from "./same_list.ts";
import { SetTree } from "./set_tree.ts";
import { isFence, type RedistribStep } from "./step.ts";
import { grown, membersOf, startsOf, stretchOf } from "./stretches.ts";

/** A replica group that broadcasts of items go through. */
export interface ReplicaRanks {
  /** Its number. */
  readonly group: number;
  /** Its ranks, ascending. */
  readonly members: readonly number[];
}

/** One broadcast of an item within a replica group. */
export interface Cast extends ReplicaRanks {
  /** When. A root that has the item by a hop of the same phase passes it on at once. */
  readonly phase: number;
  /** The member that has the item. */
  readonly root: number;
  /** The position in the plan of the step that it belongs to. */
  readonly step: number;
}

/** The numbers that a hop has in {@linkcode Way.hops}. */
export const HOP_FIELDS = 4;

/** Items that go the same way. Its lists are filled anew for the next items once it was looked at. */
export interface Way {
  /** The positions of the items' keys. */
  readonly keys: readonly number[];
  /** The positions of their ids, each with all of those keys. */
  readonly ids: Int32Array;
  /** The ranks that the plan takes to have had the items from before. */
  readonly origins: readonly number[];
  /** How many copies are made. */
  readonly hopCount: number;
  /** The copies, in the plan's order. Of each four numbers: phase, sender, receiver, and the position in the plan of the step that it belongs to. */
  readonly hops: Int32Array;
  /** The broadcasts, in the plan's order. */
  readonly casts: readonly Cast[];
  /** The positions of all steps that a step named here stands for: for each of the keys the one with that key. */
  stepsLike(step: number): readonly number[];
}

/** What the ids and keys of a plan are, and where. */
export interface WayContext {
  /** The positions of all its ids, as `positionsOf` gives them. */
  readonly positions: Int32Array;
  /** The number of ids that positions tell apart. */
  readonly idCount: number;
  /** The position of a key, from 0 up to `keyCount`. */
  readonly placeOfKey: (key: string) => number;
  /** The number of keys. */
  readonly keyCount: number;
  /** The number of ranks. */
  readonly worldSize: number;
  /** Replica groups that broadcast. */
  readonly groups?: readonly ReplicaRanks[];
  /** What to work in; then the lists of ids are good until it is reset. */
  readonly scratch?: Scratch;
}

/**
 * Goes through the ways of all items of a plan, in an order that follows from the plan. Linear in the number of ids that its steps name.
 *
 * @param plan A valid plan.
 * @param context What it is about.
 * @param visit Called for each way.
 * @returns The number of phases.
 */
export function forEachWay(plan: readonly RedistribStep[], context: WayContext, visit: (way: Way) => void): number {
  const scratch = context.scratch ?? new Scratch();
  const tables = tablesOf(plan, context, scratch);
  const pathfinder = new Pathfinder(context, scratch);
  if (plan.some(isFence)) pathfinder.setFloors(tables);
  for (const table of tables) {
    const stepsLike = (step: number) => table.stepsLike(step);
    for (let c = 0; c < table.classCount; c++) {
      pathfinder.find(table, c);
      const { origins, hopCount, hops, casts } = pathfinder;
      visit({ keys: table.keys, ids: table.idsOf(c), origins, hopCount, hops, casts, stepsLike });
    }
  }
  return pathfinder.phases;
}

/** Keys whose items go the same ways. */
interface LikeKeys {
  readonly keys: number[];
  /** The steps that they stand in, ascending: one list for those that stand in the same ones, and further ones whose steps are alike one by one. */
  readonly steps: (readonly number[])[];
}

/** A table for each set of keys whose items go the same ways. */
function tablesOf(plan: readonly RedistribStep[], context: WayContext, scratch: Scratch): Table[] {
  const fences = scratch.int32(plan.length);
  for (let n = 0; n < plan.length; n++) fences[n] = Number(isFence(plan[n]!));
  const fencesBefore = startsOf(fences, scratch.int32(plan.length + 1));
  const sets = likeKeysOf(plan, context, fencesBefore);
  const wanted = scratch.uint8(plan.length);
  for (const { steps: [first] } of sets) for (const step of first!) wanted[step] = 1;
  const movements = movementsOf(plan, context.positions, wanted, scratch);
  return sets.map((set) => {
    let taken = wanted;
    if (sets.length > 1) {
      taken = scratch.uint8(plan.length);
      for (const step of set.steps[0]!) taken[step] = 1;
    }
    return new Table(set, movements, taken, fencesBefore, context.idCount, scratch);
  });
}

function likeKeysOf(plan: readonly RedistribStep[], context: WayContext, fencesBefore: Int32Array): LikeKeys[] {
  const stepsOfKey: number[][] = [];
  while (stepsOfKey.length < context.keyCount) stepsOfKey.push([]);
  for (let n = 0; n < plan.length; n++) for (const key of plan[n]!.keys) stepsOfKey[context.placeOfKey(key)]!.push(n);
  /** By step where its ids begin among those of the plan. */
  let begins: Int32Array | undefined;
  /** Whether two steps differ in nothing but their keys. */
  const alike = (a: number, b: number): boolean => {
    if (fencesBefore[a] !== fencesBefore[b] || !sameButForKeys(plan[a]!, plan[b]!)) return false;
    begins ??= startsOf(Int32Array.from(plan, countIdsOf));
    return samePositions(context.positions, begins[a]!, begins[b]!, begins[a + 1]! - begins[a]!);
  };
  const sets: LikeKeys[] = [];
  for (const [key, steps] of stepsOfKey.entries()) {
    const like = sets.find(({ steps: [first] }) =>
      first!.length === steps.length && first!.every((step, i) => step === steps[i] || alike(step, steps[i]!))
    );
    if (like === undefined) {
      sets.push({ keys: [key], steps: [steps] });
    } else {
      like.keys.push(key);
      if (!like.steps.some((known) => sameList(known, steps))) like.steps.push(steps);
    }
  }
  return sets;
}

/** Whether two steps are of the same kind, among the same ranks, with lists of ids of the same lengths. */
function sameButForKeys(a: RedistribStep, b: RedistribStep): boolean {
  return a.commType === b.commType && a.root === b.root && sameRanks(a.srcs, b.srcs) && sameRanks(a.dsts, b.dsts) &&
    sameLengths(a.ids, b.ids);
}

type Ranks = readonly (number | readonly number[])[] | null;

function sameRanks(a: Ranks, b: Ranks): boolean {
  if (a === null || b === null) return a === b;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    const [one, other] = [a[i]!, b[i]!];
    if (one !== other && (typeof one === "number" || typeof other === "number" || !sameList(one, other))) return false;
  }
  return true;
}

/** Of lists of ids whether they are as long; of ids nothing but how many there are. */
function sameLengths(a: RedistribStep["ids"], b: RedistribStep["ids"]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    if (typeof a[i] !== "string" && a[i]!.length !== b[i]!.length) return false;
  }
  return true;
}

function samePositions(positions: Int32Array, a: number, b: number, count: number): boolean {
  for (let i = 0; i < count; i++) if (positions[a + i] !== positions[b + i]) return false;
  return true;
}

/** The movements of every id, for keys that have the same; ids with the same movements are a class. */
class Table {
  readonly keys: readonly number[];
  readonly #steps: readonly (readonly number[])[];
  readonly #movements: Movements;
  readonly #fencesBefore: Int32Array;
  /** The movements of ids. */
  readonly #tree: SetTree;
  /** By class the set of its movements; where its ids begin in `#ids`, and at last where they end. */
  readonly #sets: number[] = [];
  readonly #begins: number[] = [0];
  readonly #ids: Int32Array;

  /** With the movements of the steps that are `taken`. */
  constructor(
    { keys, steps }: LikeKeys,
    movements: Movements,
    taken: Uint8Array,
    fencesBefore: Int32Array,
    idCount: number,
    scratch: Scratch,
  ) {
    this.keys = keys;
    this.#steps = steps;
    this.#movements = movements;
    this.#fencesBefore = fencesBefore;
    const tree = this.#tree = new SetTree(scratch.int32(idCount));
    for (let m = 0; m < movements.count; m++) if (taken[movements.stepOf(m)] === 1) movements.addTo(tree, m);
    // What has no movements is in set 0, and in no class.
    const { all, ends } = membersOf(tree.setOf, tree.size, scratch);
    this.#ids = all;
    for (let set = 1; set < tree.size; set++) {
      if (ends[set] === ends[set - 1]) continue;
      this.#sets.push(set);
      this.#begins.push(ends[set]!);
    }
  }

  get classCount(): number {
    return this.#sets.length;
  }

  /** The ids of a class, ascending. */
  idsOf(c: number): Int32Array {
    return stretchOf(this.#ids, this.#begins[c]!, this.#begins[c + 1]!);
  }

  /** The numbers of the movements of a class, ascending; put into `numbers`. Returns how many there are. */
  movementsOf(c: number, numbers: number[]): number {
    return this.#tree.thingsOf(this.#sets[c]!, numbers);
  }

  /** Makes `movement` the one with number `m`; returns how many fences stand before it. */
  read(m: number, movement: Movement): number {
    this.#movements.read(m, movement);
    return this.#fencesBefore[movement.step]!;
  }

  /** See {@linkcode Way}. */
  stepsLike(step: number): readonly number[] {
    const steps = this.#steps;
    if (steps.length === 1) return [step];
    const [first] = steps;
    let [low, high] = [0, first!.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (first![middle]! < step) low = middle + 1;
      else high = middle;
    }
    return steps.map((list) => list[low]!);
  }
}

/** From this many destinations on a tree serves them: few messages a rank, more phases. Replicas of a model are fewer as a rule. */
const TREE_DESTINATIONS = 17;

/**
 * Who serves which destination, where one copy leaves the source and those that have it pass it on.
 *
 * @param source The rank that has the item.
 * @param missing The destinations that have not, `count` of them.
 * @param movement The share: whose turn it is.
 * @param start The phase in which the source sends.
 * @param hop Takes phase, sender and receiver of each message.
 */
export function passOn(
  missing: readonly number[],
  count: number,
  { source, turn, turns }: Pick<Movement, "source" | "turn" | "turns">,
  start: number,
  hop: (phase: number, from: number, to: number) => void,
): void {
  if (count === 0) return;
  const first = Math.floor(turn * count / turns);
  const inOrder = (i: number) => missing[first + i < count ? first + i : first + i - count]!;
  hop(start, source, inOrder(0));
  // Where there is a share for each destination they all pass on at once; else in round r those from 2^r to 2^(r+1) are served.
  const star = turns >= count && count < TREE_DESTINATIONS;
  for (let i = 1; i < count; i++) {
    const round = star ? 0 : 31 - Math.clz32(i);
    hop(start + 1 + round, inOrder(star ? 0 : i - (1 << round)), inOrder(i));
  }
}

/** Works ways out. */
class Pathfinder {
  /** The number of phases of all ways so far. */
  phases = 0;
  /** See {@linkcode Way}. */
  readonly origins: number[] = [];
  hopCount = 0;
  hops: Int32Array;
  readonly casts: Cast[] = [];
  readonly #groups: readonly ReplicaRanks[];
  /** By number of fences before a movement, the first phase in which it can start; empty where there are none. */
  readonly #floors: number[] = [];
  /** By rank, the first phase in which it can send the item; good for the way whose number is beside it. */
  readonly #since: Int32Array;
  readonly #known: Int32Array;
  /** The movements of the class; filled anew for each. */
  readonly #path: number[] = [];
  /** Filled anew for each movement. */
  readonly #movement: Movement = { source: 0, destinations: [], direct: false, turn: 0, turns: 1, step: 0 };
  /** Filled anew for each movement. */
  readonly #missing: number[] = [];
  #way = 0;
  /** The number of phases of the way. */
  #end = 0;

  constructor({ worldSize, groups }: WayContext, scratch: Scratch) {
    this.#groups = groups ?? [];
    this.hops = scratch.int32(64 * HOP_FIELDS);
    this.#since = scratch.int32(worldSize);
    this.#known = scratch.int32(worldSize);
  }

  /**
   * Finds out where what stands behind a fence starts, which takes a look at all ways: no earlier than any that stands before it ends. How many phases a way
   * has between two fences does not depend on when they begin, for whoever had the item before can send it in the first of them.
   */
  setFloors(tables: readonly Table[]): void {
    const lengths: number[] = [];
    for (const table of tables) for (let c = 0; c < table.classCount; c++) this.find(table, c, lengths);
    let floor = 0;
    for (let fences = 0; fences < lengths.length; fences++) {
      this.#floors.push(floor);
      floor += lengths[fences] ?? 0;
    }
    this.phases = 0;
  }

  /** Fills the lists with the way of a class. Before the floors are set it raises the numbers of phases between fences to what the way has. */
  find(table: Table, c: number, lengths?: number[]): void {
    const { origins, casts } = this;
    this.#way++;
    if (origins.length > 0) origins.length = 0;
    if (casts.length > 0) casts.length = 0;
    this.hopCount = 0;
    this.#end = 0;
    let floor = 0, passed = 0;
    const movement = this.#movement;
    const count = table.movementsOf(c, this.#path);
    for (let m = 0; m < count; m++) {
      const fences = table.read(this.#path[m]!, movement);
      const { source } = movement;
      if (fences > passed) {
        floor = lengths === undefined ? this.#floors[fences]! : this.#end;
        passed = fences;
      }
      if (!this.#has(source)) {
        origins.push(source);
        this.#note(source, 0);
      }
      this.#move(movement, Math.max(this.#since[source]!, floor));
      if (lengths !== undefined) lengths[fences] = Math.max(lengths[fences] ?? 0, this.#end - floor);
    }
    if (this.#end > this.phases) this.phases = this.#end;
  }

  #move(movement: Movement, start: number): void {
    const { source, destinations, direct } = movement;
    if (direct || destinations.length === 1) {
      for (let i = 0; i < destinations.length; i++) {
        if (!this.#has(destinations[i]!)) this.#hop(start, source, destinations[i]!);
      }
      return;
    }
    const missing = this.#missing;
    let count = 0;
    for (let i = 0; i < destinations.length; i++) {
      if (!this.#has(destinations[i]!)) missing[count++] = destinations[i]!;
    }
    if (this.#groups.length > 0) this.#serveGroups(movement, missing.slice(0, count), start);
    else passOn(missing, count, movement, start, this.#hop);
  }

  /**
   * Serves whole replica groups by a broadcast: from the source where it is a member, else from the first of its members, which gets the item as those do that
   * are in no such group. Where the source broadcasts, another member passes the item on to the other groups, so that but one copy leaves the source.
   */
  #serveGroups({ source, turn, turns }: Movement, missing: readonly number[], start: number): void {
    let [from, first] = [source, start];
    let left = missing;
    const roots: { readonly root: number; readonly group: ReplicaRanks }[] = [];
    for (const group of this.#groups) {
      const { members } = group;
      const isOwn = members.includes(source);
      if (isOwn && from !== source || !members.every((rank) => rank === source || left.includes(rank))) continue;
      left = left.filter((rank) => !members.includes(rank));
      if (isOwn) {
        this.#cast(group, source, start);
        const others = members.filter((rank) => rank !== source);
        [from, first] = [others[turn % others.length]!, start + 1];
      } else {
        roots.push({ root: members[0]!, group });
      }
    }
    const single = [...roots.map(({ root }) => root), ...left].sort((a, b) => a - b);
    passOn(single, single.length, { source: from, turn, turns }, first, this.#hop);
    for (const { root, group } of roots) this.#cast(group, root, this.#since[root]! - 1);
  }

  #cast({ group, members }: ReplicaRanks, root: number, phase: number): void {
    this.casts.push({ phase, group, members, root, step: this.#movement.step });
    for (const member of members) if (member !== root) this.#arrive(member, phase);
  }

  readonly #hop = (phase: number, from: number, to: number): void => {
    let at = HOP_FIELDS * this.hopCount++;
    if (at + HOP_FIELDS > this.hops.length) this.hops = grown(this.hops, at + HOP_FIELDS);
    const { hops } = this;
    hops[at++] = phase;
    hops[at++] = from;
    hops[at++] = to;
    hops[at] = this.#movement.step;
    this.#arrive(to, phase);
  };

  #has(rank: number): boolean {
    return this.#known[rank] === this.#way;
  }

  #note(rank: number, since: number): void {
    this.#known[rank] = this.#way;
    this.#since[rank] = since;
  }

  #arrive(rank: number, phase: number): void {
    this.#note(rank, phase + 1);
    if (phase >= this.#end) this.#end = phase + 1;
  }
}
