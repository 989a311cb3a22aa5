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

/** As {@linkcode lowerPlan}, where the positions of all its ids in the catalogue are known. */
export function lowerResolved(
  plan: readonly RedistribStep[],
  positions: Int32Array,
  catalogue: Catalogue,
  rank: number,
  options: LoweringOptions,
): Program {
  const builder = new ProgramBuilder(catalogue, rank);
  const phases = forEachWay(plan, {
    positions,
    idCount: catalogue.ids.length,
    placeOfKey: (key) => catalogue.keyIndex(key)!,
    keyCount: catalogue.keys.length,
    worldSize: options.worldSize,
    groups: (options.replicaGroups ?? []).map((members, group): ReplicaRanks => ({ group, members }))
      .filter(({ members }) => members.length >= SMALLEST_BROADCAST_GROUP),
  }, (way) => builder.add(way));
  return builder.finish(phases, options.worldSize);
}

/** What one rank does in one phase, while it is being collected: the items by peer, or by group and root. */
interface PhaseDraft {
  readonly sends: Map<number, number[]>;
  readonly receives: Map<number, number[]>;
  readonly casts: Map<string, { readonly group: number; readonly root: number; readonly items: number[] }>;
  readonly steps: Set<number>;
}

/** Collects what concerns one rank. */
class ProgramBuilder {
  readonly #catalogue: Catalogue;
  readonly #rank: number;
  /** By item, 1 where it is. */
  readonly #required: Uint8Array;
  /** By item, 1 where it is. */
  readonly #received: Uint8Array;
  readonly #phases: PhaseDraft[] = [];

  constructor(catalogue: Catalogue, rank: number) {
    this.#catalogue = catalogue;
    this.#rank = rank;
    this.#required = new Uint8Array(catalogue.size);
    this.#received = new Uint8Array(catalogue.size);
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
      this.#append(to === rank ? listOf(receives, from) : listOf(sends, to), way);
      if (to === rank) this.#mark(this.#received, way);
    }
    for (const { phase, group, members, root, step } of casts) {
      if (!members.includes(rank)) continue;
      const { casts, steps } = this.#phase(phase);
      for (const like of way.stepsLike(step)) steps.add(like);
      const name = `${group} ${root}`;
      let cast = casts.get(name);
      if (cast === undefined) casts.set(name, cast = { group, root, items: [] });
      this.#append(cast.items, way);
      // A root that is not the source of the items receives them in the same phase, by the message before.
      if (root !== rank) this.#mark(this.#received, way);
    }
  }

  #mark(marks: Uint8Array, { keys, ids }: Way): void {
    for (const key of keys) markAll(marks, this.#catalogue.item(key, 0), ids);
  }

  /** Items without bytes travel in no message. */
  #append(items: number[], { keys, ids }: Way): void {
    const { bytes } = this.#catalogue;
    for (const key of keys) {
      const first = this.#catalogue.item(key, 0);
      for (let i = 0; i < ids.length; i++) if (bytes[first + ids[i]!] !== 0) items.push(first + ids[i]!);
    }
  }

  #phase(number: number): PhaseDraft {
    while (this.#phases.length <= number) {
      this.#phases.push({ sends: new Map(), receives: new Map(), casts: new Map(), steps: new Set() });
    }
    return this.#phases[number]!;
  }

  finish(phaseCount: number, worldSize: number): Program {
    const rank = this.#rank;
    const catalogue = this.#catalogue;
    if (phaseCount > 0) this.#phase(phaseCount - 1);
    const phases = this.#phases.map(({ sends, receives, casts, steps }): Phase => ({
      sends: this.#messages(sends, (peer) => (peer - rank + worldSize) % worldSize),
      receives: this.#messages(receives, (peer) => (rank - peer + worldSize) % worldSize),
      broadcasts: [...casts.values()].filter(({ items }) => items.length > 0)
        .map(({ group, root, items }): GroupBroadcast => ({ group, root, ...this.#contents(items) }))
        .sort((a, b) => a.group - b.group || a.root - b.root),
      steps: [...steps].sort((a, b) => a - b),
    }));
    let bytesSent = 0;
    let stagingBytes = 0;
    for (const phase of phases) {
      let leaving = 0;
      for (const { bytes } of phase.sends) leaving += bytes;
      for (const { root, bytes } of phase.broadcasts) if (root === rank) leaving += bytes;
      bytesSent += leaving;
      stagingBytes = Math.max(stagingBytes, leaving);
    }
    const received = markedOf(this.#received);
    const bytesReceived = catalogue.totalBytes(received);
    return {
      rank,
      phases,
      required: markedOf(this.#required),
      received,
      bytesSent,
      bytesReceived,
      stagingBytes,
      peakBytes: bytesReceived + stagingBytes,
    };
  }

  /** The messages of one phase and direction, nearest peer first. */
  #messages(byPeer: ReadonlyMap<number, readonly number[]>, distance: (peer: number) => number): Message[] {
    return [...byPeer].filter(([, items]) => items.length > 0)
      .map(([peer, items]): Message => ({ peer, ...this.#contents(items) }))
      .sort((a, b) => distance(a.peer) - distance(b.peer));
  }

  #contents(items: readonly number[]): { items: Uint32Array; bytes: number } {
    const sorted = ascending(items);
    return { items: sorted, bytes: this.#catalogue.totalBytes(sorted) };
  }
}

function markAll(marks: Uint8Array, firstItem: number, ids: Int32Array): void {
  for (let i = 0; i < ids.length; i++) marks[firstItem + ids[i]!] = 1;
}

function listOf(byPeer: Map<number, number[]>, peer: number): number[] {
  let items = byPeer.get(peer);
  if (items === undefined) byPeer.set(peer, items = []);
  return items;
}

/** The items whose mark is set. */
function markedOf(marks: Uint8Array): Uint32Array {
  let count = 0;
  for (let item = 0; item < marks.length; item++) count += marks[item]!;
  const marked = new Uint32Array(count);
  let at = 0;
  for (let item = 0; item < marks.length; item++) if (marks[item] === 1) marked[at++] = item;
  return marked;
}

/** Mostly they are ascending already: a step's items come in their order. */
function ascending(items: readonly number[]): Uint32Array {
  const sorted = new Uint32Array(items.length);
  let inOrder = true;
  for (let i = 0; i < items.length; i++) {
    sorted[i] = items[i]!;
    if (i > 0 && items[i]! < items[i - 1]!) inOrder = false;
  }
  return inOrder ? sorted : sorted.sort();
}
