/**
 * Lowering a plan to programs.
 *
 * The plan is walked step by step, keeping for each item which ranks have it by then, and since which phase. Each step becomes deliveries from
 * its source to those of its destinations that the plan does not already show to have the item; a delivery starts in the phase in which its
 * source has the item, so that steps without a data dependency share a phase. Where an item goes to several ranks, one copy leaves the
 * source; the rest is a broadcast within a replica group where the destinations hold a whole one, and else a binomial tree among them.
 *
 * Nearly all items of a plan have one of a few histories. Histories are interned, and what a step does to a history is worked out once: the cost
 * of lowering is a table look-up for each (item, step).
 *
 * Pure: knows no device, and gives the same result everywhere.
 *
 * @module
 */

import { deliveriesOf, type Delivery, type RedistribStep } from "../plan/step.ts";
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

/** Which ranks have an item, and since which phase (0: from before the transfer). */
interface History {
  readonly since: ReadonlyMap<number, number>;
  /** What a movement does to this history, by the number of its source and destinations. */
  readonly effects: Map<number, Effect>;
}

interface Hop {
  readonly phase: number;
  readonly from: number;
  readonly to: number;
}

interface Cast {
  readonly phase: number;
  readonly group: number;
  readonly root: number;
}

/** What happens to an item of a given history when a source sends it to some destinations. */
interface Effect {
  readonly hops: readonly Hop[];
  readonly casts: readonly Cast[];
  /** Whether the source is taken to have had the item from before. */
  readonly claimed: boolean;
  readonly next: History;
}

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
  const router = new Router(options.replicaGroups ?? []);
  const history = new Array<History>(catalogue.size).fill(router.blank);
  const sends = new Map<number, Map<number, number[]>>();
  const receives = new Map<number, Map<number, number[]>>();
  const casts = new Map<number, Map<string, { cast: Cast; items: number[] }>>();
  const required: number[] = [];
  const received: number[] = [];
  let phaseCount = 0;
  const numbers = new Map<string, number>();
  const steps: Set<number>[] = [];
  const served = (phase: number, step: number) => (steps[phase] ??= new Set()).add(step);

  for (const [position, step] of plan.entries()) {
    const keyIndices = step.keys.map((key) => catalogue.keyIndex(key)!);
    for (const { src: source, dsts: destinations, ids } of movementsOf(step)) {
      // Movements between the same ranks do the same to the same history.
      const name = `${source}>${destinations.join()}`;
      const number = numbers.get(name) ?? numbers.size;
      numbers.set(name, number);
      const idIndices = ids.map((id) => catalogue.idIndex(id)!);
      for (const keyIndex of keyIndices) {
        for (const idIndex of idIndices) {
          const item = catalogue.item(keyIndex, idIndex);
          const travels = catalogue.bytes[item]! > 0;
          const before = history[item]!;
          let effect = before.effects.get(number);
          if (effect === undefined) {
            effect = router.route(before, source, destinations);
            before.effects.set(number, effect);
          }
          history[item] = effect.next;
          if (effect.claimed && source === rank) required.push(item);
          for (const hop of effect.hops) {
            phaseCount = Math.max(phaseCount, hop.phase + 1);
            if (hop.to === rank) received.push(item);
            if (!travels) continue;
            if (hop.from === rank) append(sends, hop.phase, hop.to, item);
            if (hop.to === rank) append(receives, hop.phase, hop.from, item);
            if (hop.from === rank || hop.to === rank) served(hop.phase, position);
          }
          for (const cast of effect.casts) {
            phaseCount = Math.max(phaseCount, cast.phase + 1);
            if (!router.groups[cast.group]!.includes(rank)) continue;
            if (cast.root !== rank) received.push(item);
            if (!travels) continue;
            const inPhase = casts.get(cast.phase) ?? casts.set(cast.phase, new Map()).get(cast.phase)!;
            const name = `${cast.group} ${cast.root}`;
            const entry = inPhase.get(name) ?? inPhase.set(name, { cast, items: [] }).get(name)!;
            entry.items.push(item);
            served(cast.phase, position);
          }
        }
      }
    }
  }

  const { worldSize } = options;
  const phases = Array.from({ length: phaseCount }, (_, phase): Phase => ({
    sends: messages(sends.get(phase), catalogue, (peer) => (peer - rank + worldSize) % worldSize),
    receives: messages(receives.get(phase), catalogue, (peer) => (rank - peer + worldSize) % worldSize),
    broadcasts: [...casts.get(phase)?.values() ?? []].map(({ cast, items }): GroupBroadcast => ({
      group: cast.group,
      root: cast.root,
      items: ascending(items),
      bytes: catalogue.totalBytes(items),
    })).sort((a, b) => a.group - b.group || a.root - b.root),
    steps: [...steps[phase] ?? []],
  }));
  return finish(rank, phases, ascending(required), ascending(received), catalogue);
}

function finish(
  rank: number,
  phases: readonly Phase[],
  required: Uint32Array,
  received: Uint32Array,
  catalogue: Catalogue,
): Program {
  let bytesSent = 0;
  let stagingBytes = 0;
  for (const phase of phases) {
    let leaving = 0;
    for (const { bytes } of phase.sends) leaving += bytes;
    for (const { root, bytes } of phase.broadcasts) if (root === rank) leaving += bytes;
    bytesSent += leaving;
    stagingBytes = Math.max(stagingBytes, leaving);
  }
  const bytesReceived = catalogue.totalBytes(received);
  const peakBytes = bytesReceived + stagingBytes;
  return { rank, phases, required, received, bytesSent, bytesReceived, stagingBytes, peakBytes };
}

/** The movements of one step: its deliveries, with the destinations sorted; ids of a scatter that go to the same destinations travel together. */
function movementsOf(step: RedistribStep): Delivery[] {
  const deliveries = deliveriesOf(step);
  if (step.commType !== "scatter") {
    return deliveries.map(({ src, dsts, ids }) => ({ src, dsts: [...dsts].sort((a, b) => a - b), ids }));
  }
  const destinationsOf = new Map<string, number[]>();
  for (const { dsts, ids } of deliveries.sort((a, b) => a.dsts[0]! - b.dsts[0]!)) {
    for (const id of ids) {
      const destinations = destinationsOf.get(id);
      if (destinations === undefined) destinationsOf.set(id, [...dsts]);
      else destinations.push(...dsts);
    }
  }
  const movements = new Map<string, { src: number; dsts: number[]; ids: string[] }>();
  for (const [id, dsts] of destinationsOf) {
    const name = dsts.join();
    const movement = movements.get(name);
    if (movement === undefined) movements.set(name, { src: step.root, dsts, ids: [id] });
    else movement.ids.push(id);
  }
  return [...movements.values()];
}

/** Works out what a movement does to a history, and interns histories. */
class Router {
  readonly groups: readonly (readonly number[])[];
  readonly blank: History;
  readonly #histories = new Map<string, History>();

  constructor(groups: readonly (readonly number[])[]) {
    this.groups = groups;
    this.blank = this.#intern(new Map());
  }

  route(before: History, source: number, destinations: readonly number[]): Effect {
    const since = new Map(before.since);
    const claimed = !since.has(source);
    if (claimed) since.set(source, 0);
    const missing = destinations.filter((rank) => !since.has(rank));
    const hops: Hop[] = [];
    const casts: Cast[] = [];
    if (missing.length > 0) this.#deliver(since, source, missing, hops, casts);
    return { hops, casts, claimed, next: this.#intern(since) };
  }

  /** Brings the item from `source` to all of `missing` (sorted, not empty, without the source), and notes their arrival in `since`. */
  #deliver(since: Map<number, number>, source: number, missing: readonly number[], hops: Hop[], casts: Cast[]): void {
    const start = since.get(source)!;
    const left = new Set(missing);
    // Whole replica groups first: one copy to a member, unless the source is one, and a broadcast from there.
    for (let group = 0; group < this.groups.length; group++) {
      const members = this.groups[group]!;
      if (members.length < SMALLEST_BROADCAST_GROUP) continue;
      if (!members.every((member) => member === source || left.has(member))) continue;
      const root = members.includes(source) ? source : members[0]!;
      if (root !== source) hops.push({ phase: start, from: source, to: root });
      casts.push({ phase: start, group, root });
      for (const member of members) {
        left.delete(member);
        if (member !== source) since.set(member, start + 1);
      }
    }
    const rest = [...left];
    if (rest.length === 0) return;
    // One copy leaves the source; from then on everyone who has it passes it on.
    const holders = [rest[0]!];
    hops.push({ phase: start, from: source, to: rest[0]! });
    since.set(rest[0]!, start + 1);
    for (let phase = start + 1, next = 1; next < rest.length; phase++) {
      for (const from of [...holders]) {
        if (next === rest.length) break;
        const to = rest[next++]!;
        hops.push({ phase, from, to });
        since.set(to, phase + 1);
        holders.push(to);
      }
    }
  }

  #intern(since: ReadonlyMap<number, number>): History {
    const name = [...since].sort((a, b) => a[0] - b[0]).join(";");
    let history = this.#histories.get(name);
    if (history === undefined) {
      history = { since, effects: new Map() };
      this.#histories.set(name, history);
    }
    return history;
  }
}

function append(table: Map<number, Map<number, number[]>>, phase: number, peer: number, item: number): void {
  const inPhase = table.get(phase) ?? table.set(phase, new Map()).get(phase)!;
  const items = inPhase.get(peer);
  if (items === undefined) inPhase.set(peer, [item]);
  else items.push(item);
}

/** The messages of one phase and direction, nearest peer first. */
function messages(
  byPeer: ReadonlyMap<number, number[]> | undefined,
  catalogue: Catalogue,
  distance: (peer: number) => number,
): Message[] {
  return [...byPeer ?? []]
    .map(([peer, items]): Message => ({ peer, items: ascending(items), bytes: catalogue.totalBytes(items) }))
    .sort((a, b) => distance(a.peer) - distance(b.peer));
}

function ascending(items: readonly number[]): Uint32Array {
  return Uint32Array.from(items).sort();
}
