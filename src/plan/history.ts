/**
 * Which ranks have an item, since when, and what a movement adds to that.
 *
 * The rules by which a plan comes to messages are here, for all who work them out: what a rank has from before the transfer it can send in phase 0, what it
 * received in one phase it can send from the next on, and a movement starts in the phase in which its source has the item. A rank that the plan shows
 * to have an item is not sent it again. In an exchange the source sends to each destination itself. Else one copy leaves the source: to the destination
 * whose turn it is, and those that have the item pass it on. Movements to several destinations come in shares with different turns, so that all of them
 * pass on equally much (see `movementsOf`).
 *
 * Items with the same history share one; what a movement does to a history is worked out once.
 *
 * @module
 */

import type { Movement } from "./movements.ts";

/** One message's worth of one item. */
export interface Hop {
  /** The phase it travels in. */
  readonly phase: number;
  /** The rank that sends. */
  readonly from: number;
  /** The rank that receives. */
  readonly to: number;
}

/** A broadcast of one item within a replica group. */
export interface Cast {
  /** The phase it travels in, behind that phase's messages. */
  readonly phase: number;
  /** Which group. */
  readonly group: ReplicaMembers;
  /** The member that has the item. */
  readonly root: number;
}

/** A replica group with a communicator of its own. */
export interface ReplicaMembers {
  /** Its position in the list of all groups. */
  readonly group: number;
  /** Its ranks, ascending. */
  readonly members: readonly number[];
}

/** What a movement does to the items of one history. */
export interface Effect {
  /** The messages. */
  readonly hops: readonly Hop[];
  /** The broadcasts within replica groups. */
  readonly casts: readonly Cast[];
  /** Whether nothing showed the source to have the item: it has it from before the transfer. */
  readonly fromBefore: boolean;
  /** The history after it. */
  readonly next: History;
}

/** Which ranks have an item, and since which phase: what was before, and what came then. */
export interface History {
  readonly before: History | undefined;
  readonly ranks: readonly number[];
  /** By position in `ranks`, the first phase in which the rank can send the item. */
  readonly phases: readonly number[];
  /** By the movement's name; undefined until something happens. */
  effects: Map<string, Effect> | undefined;
}

/** From this many destinations on a tree serves them: few messages a rank, more phases. Replicas of a model are fewer as a rule. */
const TREE_DESTINATIONS = 17;

/** The history of an item that no movement has touched. */
export function blankHistory(): History {
  return { before: undefined, ranks: [], phases: [], effects: undefined };
}

/** What tells movements apart: two with the same name do the same to the same history. */
export function nameOf({ source, destinations, direct, turn, turns }: Movement): string {
  return direct ? `${source}=${destinations.join()}` : `${source}:${turn}/${turns}:${destinations.join()}`;
}

/**
 * What a movement does to items of one history.
 *
 * @param before Their history.
 * @param movement The movement.
 * @param name What {@linkcode nameOf} calls it.
 * @param groups The replica groups whose own broadcasts may be used.
 */
export function effectOf(before: History, movement: Movement, name: string, groups: readonly ReplicaMembers[]): Effect {
  const known = before.effects?.get(name);
  if (known !== undefined) return known;
  const effect = deliver(before, movement, groups);
  (before.effects ??= new Map()).set(name, effect);
  return effect;
}

function sinceOf(history: History, rank: number): number | undefined {
  for (let at: History | undefined = history; at !== undefined; at = at.before) {
    const place = at.ranks.indexOf(rank);
    if (place >= 0) return at.phases[place];
  }
  return undefined;
}

function deliver(before: History, movement: Movement, groups: readonly ReplicaMembers[]): Effect {
  const { source, destinations, direct } = movement;
  const ranks: number[] = [];
  const phases: number[] = [];
  const hops: Hop[] = [];
  const casts: Cast[] = [];
  const arrives = (rank: number, phase: number) => {
    ranks.push(rank);
    phases.push(phase + 1);
  };
  const hop = (phase: number, from: number, to: number) => {
    hops.push({ phase, from, to });
    arrives(to, phase);
  };
  const since = sinceOf(before, source);
  const start = since ?? 0;
  if (since === undefined) arrives(source, -1);
  let missing = destinations.filter((rank) => rank !== source && sinceOf(before, rank) === undefined);
  if (direct) {
    for (const to of missing) hop(start, source, to);
  } else {
    for (const group of groups) {
      const { members } = group;
      if (!members.every((member) => member === source || missing.includes(member))) continue;
      const root = members.includes(source) ? source : members[0]!;
      if (root !== source) hops.push({ phase: start, from: source, to: root });
      casts.push({ phase: start, group, root });
      for (const member of members) if (member !== source) arrives(member, start);
      missing = missing.filter((rank) => !members.includes(rank));
    }
    passOn(missing, movement, start, hop);
  }
  const next = ranks.length === 0 ? before : { before, ranks, phases, effects: undefined };
  return { hops, casts, fromBefore: since === undefined, next };
}

/** One copy leaves the source; those that have it pass it on. */
function passOn(
  missing: readonly number[],
  { source, turn, turns }: Movement,
  start: number,
  hop: (phase: number, from: number, to: number) => void,
): void {
  const count = missing.length;
  const first = Math.floor(turn * count / turns);
  const inOrder = (i: number) => missing[(first + i) % count]!;
  // Where there is a share for each destination they all pass on at once; else in round r those from 2^r to 2^(r+1) are served.
  const star = turns >= count && count < TREE_DESTINATIONS;
  for (let i = 0; i < count; i++) {
    if (i === 0) {
      hop(start, source, inOrder(0));
    } else if (star) {
      hop(start + 1, inOrder(0), inOrder(i));
    } else {
      const round = 31 - Math.clz32(i);
      hop(start + 1 + round, inOrder(i - (1 << round)), inOrder(i));
    }
  }
}
