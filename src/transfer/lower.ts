/**
 * Lowering a plan to programs.
 *
 * `item_ways.ts` has the rules by which a plan comes to messages; of the way of each item, the program of a rank keeps what the rank has a part in. Each step
 * becomes deliveries from its source to those of its destinations that the plan does not already show to have the item; a delivery starts in the phase in
 * which its source has the item, so that steps without a data dependency share a phase, save behind a fence. Where the destinations hold a whole replica
 * group, one copy to a member is broadcast within it.
 *
 * Pure: knows no device, and gives the same result everywhere.
 *
 * @module
 */

import { forEachWay, HOP_FIELDS, type ReplicaRanks, type Way } from "../plan/item_ways.ts";
import { positionsOf } from "../plan/movements.ts";
import type { RedistribStep } from "../plan/step.ts";
import { Scratch } from "../scratch.ts";
import type { Catalogue } from "./catalogue.ts";
import type { GroupBroadcast, Message, Phase, Program } from "./program.ts";

/** What lowering needs to know beside plan and meta; the same on all ranks. */
export interface LoweringOptions {
  /** How many ranks there are. */
  worldSize: number;
  /** The members of each replica group that has a communicator of its own, each sorted. */
  replicaGroups?: readonly (readonly number[])[];
}

/** From this size on a replica group's own broadcast is used; two members are served as well by one message. */
const SMALLEST_BROADCAST_GROUP = 3;

/**
 * Lowers `plan` to the program of one rank. The plan is valid for this meta and world size.
 *
 * @param plan The steps, in order.
 * @param catalogue The items of the meta sample.
 * @param rank The rank whose program is wanted.
 */
export function lowerPlan(
  plan: readonly RedistribStep[],
  catalogue: Catalogue,
  rank: number,
  options: LoweringOptions,
): Program {
  return lowerResolved(plan, positionsOf(plan, catalogue.idIndices), catalogue, rank, options);
}

/** As {@linkcode lowerPlan}, where the positions of all its ids in the catalogue are known. The program is good until `scratch` is reset. */
export function lowerResolved(
  plan: readonly RedistribStep[],
  positions: Int32Array,
  catalogue: Catalogue,
  rank: number,
  options: LoweringOptions,
  scratch: Scratch = new Scratch(),
): Program {
  const builder = new ProgramBuilder(catalogue, rank, scratch);
  const phases = forEachWay(plan, {
    positions,
    idCount: catalogue.ids.length,
    placeOfKey: (key) => catalogue.keyIndex(key)!,
    keyCount: catalogue.keys.length,
    worldSize: options.worldSize,
    scratch,
    groups: (options.replicaGroups ?? []).map((members, group): ReplicaRanks => ({ group, members }))
      .filter(({ members }) => members.length >= SMALLEST_BROADCAST_GROUP),
  }, (way) => builder.add(way));
  return builder.finish(phases, options.worldSize);
}

/** How many items a batch has at least that it pays to put batches in order. */
const SHORT_BATCH = 8;

/** Items on their way together: ids, each with the keys. */
type Batch = Pick<Way, "keys" | "ids">;

/** What one rank does in one phase, while it is being collected: the items by peer, or by group and root. */
interface PhaseDraft {
  readonly sends: Map<number, Batch[]>;
  readonly receives: Map<number, Batch[]>;
  readonly casts: Map<string, { readonly group: number; readonly root: number; readonly batches: Batch[] }>;
  readonly steps: Set<number>;
}

/** Items that are marked. */
interface Marks {
  /** By item, 1 where it is. */
  readonly of: Uint8Array;
  /** How many are. */
  count: number;
}

/** Collects what concerns one rank. */
class ProgramBuilder {
  readonly #catalogue: Catalogue;
  readonly #rank: number;
  readonly #scratch: Scratch;
  readonly #required: Marks;
  readonly #received: Marks;
  readonly #phases: PhaseDraft[] = [];

  constructor(catalogue: Catalogue, rank: number, scratch: Scratch) {
    this.#catalogue = catalogue;
    this.#rank = rank;
    this.#scratch = scratch;
    this.#required = { of: scratch.uint8(catalogue.size), count: 0 };
    this.#received = { of: scratch.uint8(catalogue.size), count: 0 };
  }

  /** Notes what the rank has to do with the items of a way. */
  add(way: Way): void {
    const { origins, hopCount, hops, casts } = way;
    const rank = this.#rank;
    if (origins.includes(rank)) this.#mark(this.#required, way);
    for (let i = 0; i < HOP_FIELDS * hopCount; i += HOP_FIELDS) {
      const from = hops[i + 1]!;
      const to = hops[i + 2]!;
      if (from !== rank && to !== rank) continue;
      const { sends, receives, steps } = this.#phase(hops[i]!);
      for (const step of way.stepsLike(hops[i + 3]!)) steps.add(step);
      (to === rank ? listOf(receives, from) : listOf(sends, to)).push(way);
      if (to === rank) this.#mark(this.#received, way);
    }
    for (const { phase, group, members, root, step } of casts) {
      if (!members.includes(rank)) continue;
      const { casts, steps } = this.#phase(phase);
      for (const like of way.stepsLike(step)) steps.add(like);
      const name = `${group} ${root}`;
      let cast = casts.get(name);
      if (cast === undefined) casts.set(name, cast = { group, root, batches: [] });
      cast.batches.push(way);
      // A root that is not the source of the items receives them in the same phase, by the message before.
      if (root !== rank) this.#mark(this.#received, way);
    }
  }

  /** Of one way each item is marked once, and no other way has it. */
  #mark(marks: Marks, { keys, ids }: Way): void {
    marks.count += keys.length * ids.length;
    for (const key of keys) markAll(marks.of, this.#catalogue.item(key, 0), ids);
  }

  #phase(number: number): PhaseDraft {
    while (this.#phases.length <= number) {
      this.#phases.push({ sends: new Map(), receives: new Map(), casts: new Map(), steps: new Set() });
    }
    return this.#phases[number]!;
  }

  finish(phaseCount: number, worldSize: number): Program {
    const rank = this.#rank;
    if (phaseCount > 0) this.#phase(phaseCount - 1);
    const phases = this.#phases.map(({ sends, receives, casts, steps }): Phase => ({
      sends: this.#messages(sends, (peer) => (peer - rank + worldSize) % worldSize),
      receives: this.#messages(receives, (peer) => (rank - peer + worldSize) % worldSize),
      broadcasts: [...casts.values()]
        .map(({ group, root, batches }): GroupBroadcast => ({ group, root, ...this.#contents(batches) }))
        .filter(({ items }) => items.length > 0)
        .sort((a, b) => a.group - b.group || a.root - b.root),
      steps: [...steps].sort((a, b) => a - b),
    }));
    let bytesSent = 0;
    let bytesReceived = 0;
    let stagingBytes = 0;
    for (const phase of phases) {
      let leaving = 0;
      for (const { bytes } of phase.sends) leaving += bytes;
      for (const { bytes } of phase.receives) bytesReceived += bytes;
      for (const { root, bytes } of phase.broadcasts) {
        if (root === rank) leaving += bytes;
        else bytesReceived += bytes;
      }
      bytesSent += leaving;
      stagingBytes = Math.max(stagingBytes, leaving);
    }
    return {
      rank,
      phases,
      required: this.#marked(this.#required),
      received: this.#marked(this.#received),
      bytesSent,
      bytesReceived,
      stagingBytes,
      peakBytes: bytesReceived + stagingBytes,
    };
  }

  /** The messages of one phase and direction, nearest peer first. */
  #messages(byPeer: ReadonlyMap<number, Batch[]>, distance: (peer: number) => number): Message[] {
    return [...byPeer]
      .map(([peer, batches]): Message => ({ peer, ...this.#contents(batches) }))
      .filter(({ items }) => items.length > 0)
      .sort((a, b) => distance(a.peer) - distance(b.peer));
  }

  /** The items, ascending. Those without bytes travel in no message. */
  #contents(batches: Batch[]): { items: Uint32Array; bytes: number } {
    const most = batches.reduce((total, { keys, ids }) => total + keys.length * ids.length, 0);
    // By key and first id they are in order as a rule: what of a step goes the same way are stretches of its ids. Of short ones the items are sorted sooner.
    if (batches.length * SHORT_BATCH < most) batches.sort((a, b) => a.ids[0]! - b.ids[0]!);
    const all = this.#scratch.uint32(most);
    let count = 0;
    for (const key of keysOf(batches)) {
      for (const { keys, ids } of batches) {
        if (keys.includes(key)) count = numberItems(this.#catalogue, key, ids, all, count);
      }
    }
    const items = all.subarray(0, count);
    if (batches.length > 1 && !isAscending(items)) items.sort();
    return { items, bytes: this.#catalogue.totalBytes(items) };
  }

  /** The items whose mark is set. */
  #marked({ of, count }: Marks): Uint32Array {
    const marked = this.#scratch.uint32(count);
    for (let item = of.indexOf(1), at = 0; at < count && item < of.length; item++) {
      if (of[item] === 1) marked[at++] = item;
    }
    return marked;
  }
}

function listOf(byPeer: Map<number, Batch[]>, peer: number): Batch[] {
  let batches = byPeer.get(peer);
  if (batches === undefined) byPeer.set(peer, batches = []);
  return batches;
}

/** All keys of some batches, ascending. Many batches have the same list. */
function keysOf(batches: readonly Batch[]): number[] {
  const lists = new Set(batches.map(({ keys }) => keys));
  return [...new Set([...lists].flat())].sort((a, b) => a - b);
}

/** Marks the items of a key, whose first is given, that ascending ids have. */
function markAll(marks: Uint8Array, firstItem: number, ids: Int32Array): void {
  const first = ids[0]!;
  if (ids[ids.length - 1]! - first === ids.length - 1) {
    marks.fill(1, firstItem + first, firstItem + first + ids.length);
    return;
  }
  for (let i = 0; i < ids.length; i++) marks[firstItem + ids[i]!] = 1;
}

/** Puts the items with bytes behind the first `count`; returns how many there are then. */
function numberItems(catalogue: Catalogue, key: number, ids: Int32Array, items: Uint32Array, count: number): number {
  const { bytes } = catalogue;
  const first = catalogue.item(key, 0);
  for (let i = 0; i < ids.length; i++) if (bytes[first + ids[i]!] !== 0) items[count++] = first + ids[i]!;
  return count;
}

function isAscending(items: Uint32Array): boolean {
  for (let i = 1; i < items.length; i++) if (items[i]! < items[i - 1]!) return false;
  return true;
}
