/**
 * Lowering a plan to programs.
 *
 * The plan is walked step by step, keeping for each item which ranks have it by then, and since which phase (`history.ts` has the rules). Each step becomes
 * deliveries from its source to those of its destinations that the plan does not already show to have the item; a delivery starts in the phase in
 * which its source has the item, so that steps without a data dependency share a phase. Where the destinations hold a whole replica group, one copy to a
 * member is broadcast within it.
 *
 * Pure: knows no device, and gives the same result everywhere.
 *
 * @module
 */

import { blankHistory, type Effect, effectOf, type History, nameOf, type ReplicaMembers } from "../plan/history.ts";
import { forEachMovement, type IdPositions, type Movement, positionsOf } from "../plan/movements.ts";
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
  const positions = plan.map((step) => positionsOf(step, catalogue.idIndices));
  return lowerResolved(plan, positions, catalogue, rank, options);
}

/** As {@linkcode lowerPlan}, where the positions of each step's ids in the catalogue are known. */
export function lowerResolved(
  plan: readonly RedistribStep[],
  positions: readonly IdPositions[],
  catalogue: Catalogue,
  rank: number,
  options: LoweringOptions,
): Program {
  const groups = (options.replicaGroups ?? []).map((members, group): ReplicaMembers => ({ group, members }))
    .filter(({ members }) => members.length >= SMALLEST_BROADCAST_GROUP);
  const lowering = new Lowering(catalogue, rank, groups);
  for (const [position, step] of plan.entries()) {
    const keyIndices = step.keys.map((key) => catalogue.keyIndex(key)!);
    forEachMovement(step, positions[position]!, (movement, ids) => lowering.take(position, movement, ids, keyIndices));
  }
  return lowering.finish(options.worldSize);
}

/** What an effect means for the rank whose program is made. */
interface Part {
  /** The messages and broadcasts that the items travel in. */
  readonly drafts: readonly Draft[];
  /** Whether the items arrive here. */
  readonly arrives: boolean;
  /** Whether the plan takes this rank to have had them from before. */
  readonly required: boolean;
}

/** A message or broadcast while it is being collected. */
interface Draft {
  readonly items: number[];
  readonly steps: Set<number>;
}

/** What one rank does in one phase, while it is being collected. */
interface PhaseDraft {
  /** By peer. */
  readonly sends: Map<number, Draft>;
  /** By peer. */
  readonly receives: Map<number, Draft>;
  readonly casts: Map<string, Draft & { group: number; root: number }>;
  readonly steps: Set<number>;
}

/** Walks through a plan and collects what concerns one rank. */
class Lowering {
  readonly #catalogue: Catalogue;
  readonly #rank: number;
  readonly #groups: readonly ReplicaMembers[];
  /** By item. */
  readonly #histories: History[];
  /** By item, 1 where it is. */
  readonly #required: Uint8Array;
  /** By item, 1 where it is. */
  readonly #received: Uint8Array;
  /** Null where an effect means nothing for this rank. */
  readonly #parts = new Map<Effect, Part | null>();
  readonly #phases: PhaseDraft[] = [];

  constructor(catalogue: Catalogue, rank: number, groups: readonly ReplicaMembers[]) {
    this.#catalogue = catalogue;
    this.#rank = rank;
    this.#groups = groups;
    this.#histories = new Array<History>(catalogue.size).fill(blankHistory());
    this.#required = new Uint8Array(catalogue.size);
    this.#received = new Uint8Array(catalogue.size);
  }

  /** Takes one movement of the step at a position in the plan. */
  take(step: number, movement: Movement, ids: Int32Array, keyIndices: readonly number[]): void {
    const name = nameOf(movement);
    const histories = this.#histories;
    const { bytes } = this.#catalogue;
    for (const keyIndex of keyIndices) {
      const firstItem = this.#catalogue.item(keyIndex, 0);
      let before: History | undefined;
      let next = histories[0]!;
      let part: Part | null = null;
      for (let i = 0; i < ids.length; i++) {
        const item = firstItem + ids[i]!;
        if (histories[item] !== before) {
          before = histories[item]!;
          const effect = effectOf(before, movement, name, this.#groups);
          next = effect.next;
          part = this.#partOf(effect, movement);
          for (const { steps } of part?.drafts ?? []) steps.add(step);
        }
        histories[item] = next;
        if (part === null) continue;
        if (part.required) this.#required[item] = 1;
        if (part.arrives) this.#received[item] = 1;
        // Items without bytes travel in no message.
        if (bytes[item] !== 0) { for (const { items } of part.drafts) items.push(item); }
      }
    }
  }

  #partOf(effect: Effect, movement: Movement): Part | null {
    let part = this.#parts.get(effect);
    if (part === undefined) this.#parts.set(effect, part = this.#newPart(effect, movement));
    return part;
  }

  #newPart(effect: Effect, { source }: Movement): Part | null {
    const drafts: Draft[] = [];
    let arrives = false;
    for (const { phase, from, to } of effect.hops) {
      const draft = this.#phase(phase);
      if (from === this.#rank) drafts.push(draftOf(draft.sends, to, draft));
      else if (to === this.#rank) drafts.push(draftOf(draft.receives, from, draft));
      arrives ||= to === this.#rank;
    }
    for (const { phase, root, group: { group, members } } of effect.casts) {
      const draft = this.#phase(phase);
      if (!members.includes(this.#rank)) continue;
      const name = `${group} ${root}`;
      let cast = draft.casts.get(name);
      if (cast === undefined) draft.casts.set(name, cast = { group, root, items: [], steps: draft.steps });
      drafts.push(cast);
      // A root that is not the source of the item receives it in the same phase, by the message before.
      arrives ||= root !== this.#rank;
    }
    const required = effect.fromBefore && source === this.#rank;
    return drafts.length > 0 || arrives || required ? { drafts, arrives, required } : null;
  }

  #phase(number: number): PhaseDraft {
    while (this.#phases.length <= number) {
      this.#phases.push({ sends: new Map(), receives: new Map(), casts: new Map(), steps: new Set() });
    }
    return this.#phases[number]!;
  }

  finish(worldSize: number): Program {
    const rank = this.#rank;
    const catalogue = this.#catalogue;
    const phases = this.#phases.map(({ sends, receives, casts, steps }): Phase => ({
      sends: this.#messages(sends, (peer) => (peer - rank + worldSize) % worldSize),
      receives: this.#messages(receives, (peer) => (rank - peer + worldSize) % worldSize),
      broadcasts: [...casts.values()].filter(({ items }) => items.length > 0)
        .map(({ group, root, items }): GroupBroadcast => ({
          group,
          root,
          items: ascending(items),
          bytes: catalogue.totalBytes(items),
        })).sort((a, b) => a.group - b.group || a.root - b.root),
      steps: [...steps],
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
  #messages(byPeer: ReadonlyMap<number, Draft>, distance: (peer: number) => number): Message[] {
    return [...byPeer].filter(([, { items }]) => items.length > 0)
      .map(([peer, { items }]): Message => ({
        peer,
        items: ascending(items),
        bytes: this.#catalogue.totalBytes(items),
      }))
      .sort((a, b) => distance(a.peer) - distance(b.peer));
  }
}

function draftOf(byPeer: Map<number, Draft>, peer: number, { steps }: PhaseDraft): Draft {
  let draft = byPeer.get(peer);
  if (draft === undefined) byPeer.set(peer, draft = { items: [], steps });
  return draft;
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
