/**
 * Lowering a plan to programs.
 *
 * The plan is walked step by step, keeping for each item which ranks have it by then, and since which phase. Each step becomes deliveries from
 * its source to those of its destinations that the plan does not already show to have the item; a delivery starts in the phase in which its
 * source has the item, so that steps without a data dependency share a phase. Where an item goes to several ranks, one copy leaves the
 * source; the rest is a broadcast within a replica group where the destinations hold a whole one, and else a binomial tree among them. Only in an
 * exchange the source sends to each destination itself.
 *
 * Pure: knows no device, and gives the same result everywhere.
 *
 * @module
 */

import { movementsOf } from "../plan/movements.ts";
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
  const builder = new ProgramBuilder(catalogue, rank);
  const holders = new Holders(catalogue.size);
  const groups = (options.replicaGroups ?? []).map((members, group) => ({ group, members }))
    .filter(({ members }) => members.length >= SMALLEST_BROADCAST_GROUP);
  const missing: number[] = [];

  for (const [position, step] of plan.entries()) {
    builder.step = position;
    const keyIndices = step.keys.map((key) => catalogue.keyIndex(key)!);
    for (const { source, destinations, ids, direct } of movementsOf(step)) {
      for (const id of ids) {
        const idIndex = catalogue.idIndex(id)!;
        for (const keyIndex of keyIndices) {
          const item = catalogue.item(keyIndex, idIndex);
          let start = holders.since(item, source);
          if (start < 0) {
            // The plan takes the source to have had the item from before.
            start = 0;
            holders.add(item, source, 0);
            if (source === rank) builder.required.push(item);
          }
          missing.length = 0;
          for (const to of destinations) if (holders.since(item, to) < 0) missing.push(to);
          if (missing.length === 0) continue;
          if (!direct && groups.length > 0) {
            deliverToGroups(item, source, start, missing, groups, builder, holders);
          }
          for (let i = 0; i < missing.length; i++) {
            // One copy leaves the source for the first. From then on all who have it pass it on: in round r those from 2^r to 2^(r+1) are served.
            const round = direct || i === 0 ? -1 : 31 - Math.clz32(i);
            const from = round < 0 ? source : missing[i - (1 << round)]!;
            const phase = start + 1 + round;
            builder.hop(phase, from, missing[i]!, item);
            holders.add(item, missing[i]!, phase + 1);
          }
        }
      }
    }
  }
  return builder.finish(options.worldSize);
}

/** Serves whole replica groups by one copy to a member, unless the source is one, and a broadcast from there; takes them out of `missing`. */
function deliverToGroups(
  item: number,
  source: number,
  start: number,
  missing: number[],
  groups: readonly { group: number; members: readonly number[] }[],
  builder: ProgramBuilder,
  holders: Holders,
): void {
  for (const { group, members } of groups) {
    if (!members.every((member) => member === source || missing.includes(member))) continue;
    const root = members.includes(source) ? source : members[0]!;
    if (root !== source) builder.hop(start, source, root, item);
    builder.cast(start, group, members, root, item);
    for (const member of members) {
      if (member === source) continue;
      missing.splice(missing.indexOf(member), 1);
      holders.add(item, member, start + 1);
    }
  }
}

/** Which ranks have each item, and since which phase (0: from before the transfer): a short list for each item, all in three arrays. */
class Holders {
  readonly #first: Int32Array;
  #next: Int32Array;
  #rank: Int32Array;
  #since: Int32Array;
  #used = 0;

  constructor(items: number) {
    this.#first = new Int32Array(items).fill(-1);
    const capacity = Math.max(16, 4 * items);
    this.#next = new Int32Array(capacity);
    this.#rank = new Int32Array(capacity);
    this.#since = new Int32Array(capacity);
  }

  /** The first phase in which `rank` can send the item; -1 where it has it not. */
  since(item: number, rank: number): number {
    for (let at = this.#first[item]!; at >= 0; at = this.#next[at]!) {
      if (this.#rank[at] === rank) return this.#since[at]!;
    }
    return -1;
  }

  add(item: number, rank: number, since: number): void {
    if (this.#used === this.#next.length) {
      this.#next = twice(this.#next);
      this.#rank = twice(this.#rank);
      this.#since = twice(this.#since);
    }
    const at = this.#used++;
    this.#next[at] = this.#first[item]!;
    this.#rank[at] = rank;
    this.#since[at] = since;
    this.#first[item] = at;
  }
}

function twice(array: Int32Array): Int32Array {
  const larger = new Int32Array(array.length * 2);
  larger.set(array);
  return larger;
}

/** What one rank does in one phase, while it is being collected. */
interface PhaseDraft {
  readonly sends: Map<number, number[]>;
  readonly receives: Map<number, number[]>;
  readonly casts: Map<string, { group: number; root: number; items: number[] }>;
  readonly steps: Set<number>;
}

/** Collects what concerns one rank. */
class ProgramBuilder {
  /** The position of the step that is being lowered. */
  step = 0;
  readonly required: number[] = [];
  readonly #received: number[] = [];
  readonly #catalogue: Catalogue;
  readonly #rank: number;
  readonly #drafts: (PhaseDraft | undefined)[] = [];
  #phases = 0;

  constructor(catalogue: Catalogue, rank: number) {
    this.#catalogue = catalogue;
    this.#rank = rank;
  }

  /** An item goes from one rank to another. */
  hop(phase: number, from: number, to: number, item: number): void {
    if (phase >= this.#phases) this.#phases = phase + 1;
    if (from !== this.#rank && to !== this.#rank) return;
    if (to === this.#rank) this.#received.push(item);
    // Items without bytes travel in no message.
    if (this.#catalogue.bytes[item] === 0) return;
    const draft = this.#draft(phase);
    if (from === this.#rank) append(draft.sends, to, item);
    else append(draft.receives, from, item);
  }

  /** An item goes from one member of a replica group to all others. */
  cast(phase: number, group: number, members: readonly number[], root: number, item: number): void {
    if (phase >= this.#phases) this.#phases = phase + 1;
    if (!members.includes(this.#rank)) return;
    // A root that is not the source of the item receives it in the same phase, by the message before.
    if (root !== this.#rank) this.#received.push(item);
    if (this.#catalogue.bytes[item] === 0) return;
    const { casts } = this.#draft(phase);
    const name = `${group} ${root}`;
    const cast = casts.get(name);
    if (cast === undefined) casts.set(name, { group, root, items: [item] });
    else cast.items.push(item);
  }

  finish(worldSize: number): Program {
    const rank = this.#rank;
    const phases = Array.from({ length: this.#phases }, (_, number): Phase => {
      const draft = this.#drafts[number];
      return {
        sends: this.#messages(draft?.sends, (peer) => (peer - rank + worldSize) % worldSize),
        receives: this.#messages(draft?.receives, (peer) => (rank - peer + worldSize) % worldSize),
        broadcasts: [...draft?.casts.values() ?? []].map(({ group, root, items }): GroupBroadcast => ({
          group,
          root,
          items: ascending(items),
          bytes: this.#catalogue.totalBytes(items),
        })).sort((a, b) => a.group - b.group || a.root - b.root),
        steps: [...draft?.steps ?? []],
      };
    });
    let bytesSent = 0;
    let stagingBytes = 0;
    for (const phase of phases) {
      let leaving = 0;
      for (const { bytes } of phase.sends) leaving += bytes;
      for (const { root, bytes } of phase.broadcasts) if (root === rank) leaving += bytes;
      bytesSent += leaving;
      stagingBytes = Math.max(stagingBytes, leaving);
    }
    const received = ascending(this.#received);
    const bytesReceived = this.#catalogue.totalBytes(received);
    return {
      rank,
      phases,
      required: ascending(this.required),
      received,
      bytesSent,
      bytesReceived,
      stagingBytes,
      peakBytes: bytesReceived + stagingBytes,
    };
  }

  #draft(phase: number): PhaseDraft {
    const draft = this.#drafts[phase] ??= { sends: new Map(), receives: new Map(), casts: new Map(), steps: new Set() };
    draft.steps.add(this.step);
    return draft;
  }

  /** The messages of one phase and direction, nearest peer first. */
  #messages(byPeer: ReadonlyMap<number, number[]> | undefined, distance: (peer: number) => number): Message[] {
    return [...byPeer ?? []]
      .map(([peer, items]): Message => ({ peer, items: ascending(items), bytes: this.#catalogue.totalBytes(items) }))
      .sort((a, b) => distance(a.peer) - distance(b.peer));
  }
}

function append(byPeer: Map<number, number[]>, peer: number, item: number): void {
  const items = byPeer.get(peer);
  if (items === undefined) byPeer.set(peer, [item]);
  else items.push(item);
}

function ascending(items: readonly number[]): Uint32Array {
  return Uint32Array.from(items).sort();
}
