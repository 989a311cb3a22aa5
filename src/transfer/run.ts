/**
 * Running a program on a device and its communicators.
 *
 * @module
 */

import type { Communicator } from "../comm/communicator.ts";
import { type GroupCalls, type IssuedGroup, MAX_GROUP_OPERATIONS } from "../comm/group.ts";
import { CopyBatch } from "../device/copy_batch.ts";
import { aligned, type Slab } from "../device/slab.ts";
import { type Deadline, nextTurn, pollUntil } from "../wait.ts";
import type { Catalogue } from "./catalogue.ts";
import type { Cut, OutgoingPhase } from "./outgoing.ts";
import type { Places } from "./places.ts";
import type { Message, Phase, Program } from "./program.ts";
import { runBytes, runEnd, type Segment, segmentsAt } from "./segments.ts";

/** A replica group's communicator, as this rank has it. */
export interface ReplicaGroup {
  /** The members' ranks in the world, sorted: member i has rank i in the communicator. */
  readonly members: readonly number[];
  /** Null where this rank is no member. */
  readonly communicator: Communicator | null;
}

/** What a run needs beside the program. */
export interface RunContext {
  /** The world's communicator. */
  readonly communicator: Communicator;
  /** In the order that the program was lowered with. */
  readonly replicaGroups: readonly ReplicaGroup[];
  /** The items. */
  readonly catalogue: Catalogue;
  /** Where the items that this rank sends or receives lie. */
  readonly places: Places;
  /** What leaves this rank, by phase. */
  readonly outgoing: readonly OutgoingPhase[];
  /** By rank where it cuts what it sends. */
  readonly cuts: readonly (readonly Cut[])[];
  /** Memory for packing; null where none is needed. */
  readonly staging: Slab | null;
  /** The deadline and signal of the transfer. */
  readonly deadline: Deadline;
  /** Called before a phase is issued, when the library has taken all of it, when the phase is waited for, and when the stream has passed it. */
  onPhase(phase: number, event: "enqueued" | "started" | "awaited" | "finished"): void;
}

/**
 * How many phases, and how many copies, are enqueued while those before them have not ended: a stream of CUDA takes a thousand commands ahead, and whoever
 * gives it more is held up until the peers have come, without a turn of the event loop.
 */
const MOST_PHASES_AHEAD = 64;
const MOST_COMMANDS_AHEAD = 256;
/** Copies that are enqueued in one go: where each is a command, that takes a millisecond. */
const COPIES_AT_ONCE = 340;
/** For how many milliseconds copies are enqueued between two turns of the event loop. */
const TURN_MS = 4;

/**
 * Runs all phases. They are enqueued in order on one stream, where one phase follows another without the host; resolves when the stream has passed the
 * last one.
 *
 * @throws {WaitEndedError} when the deadline passes or the signal fires.
 * @throws {NcclError} when a communicator fails, {@linkcode CudaError} when a copy does.
 */
export async function runProgram(program: Program, context: RunContext): Promise<void> {
  const { deadline, onPhase } = context;
  const issued: IssuedGroup[][] = [];
  let finished = 0;
  /** Waits until no more than so many phases are under way. */
  const finishBut = async (phases: number) => {
    for (; finished < issued.length - phases; finished++) {
      const number = finished;
      onPhase(number, "awaited");
      for (const group of issued[number]!) await pollUntil(`phase ${number}`, () => group.isDone(), deadline);
      onPhase(number, "finished");
    }
  };
  for (const [number, phase] of program.phases.entries()) {
    await finishBut(MOST_PHASES_AHEAD);
    onPhase(number, "enqueued");
    deadline.check(`phase ${number}`);
    issued.push(await issuePhase(phase, number, context, () => finishBut(0)));
    onPhase(number, "started");
  }
  await finishBut(0);
}

/** One operation of a message. */
interface Operation {
  readonly address: bigint;
  readonly bytes: number;
}

/** One message's operations. */
interface Transmission {
  readonly peer: number;
  /** From sender to receiver, upwards and around. */
  readonly distance: number;
  readonly operations: readonly Operation[];
}

/** Issues a phase; `finishOthers` waits for all before it. */
async function issuePhase(
  phase: Phase,
  number: number,
  context: RunContext,
  finishOthers: () => Promise<void>,
): Promise<IssuedGroup[]> {
  const { communicator, replicaGroups, deadline } = context;
  const { rank, worldSize } = communicator;
  const { sends: cutSends, broadcasts: cutBroadcasts } = context.outgoing[number]!;
  const packer = new Packer(context, finishOthers);
  const groups: IssuedGroup[] = [];
  const sends = phase.sends.map(({ peer, items }, i): Transmission => ({
    peer,
    distance: (peer - rank + worldSize) % worldSize,
    operations: cutSends[i]!.map((segment) => packer.operation(items, segment)),
  }));
  const receives = phase.receives.map(({ peer, items }): Transmission => ({
    peer,
    distance: (rank - peer + worldSize) % worldSize,
    operations: arriving(items, cutsBy(context, number, -1, peer, rank), context),
  }));
  await packer.flush();
  // Both ends of a message have it at the same distance, so that groups cut by distance fit together on all ranks.
  const perGroup = MAX_GROUP_OPERATIONS / 2;
  for (let nearest = 0; nearest < worldSize; nearest += perGroup) {
    const within = ({ distance }: Transmission) => distance >= nearest && distance < nearest + perGroup;
    const [out, into] = [sends.filter(within), receives.filter(within)];
    if (out.length + into.length === 0) continue;
    const issue = (calls: GroupCalls) => {
      for (const { peer, operations } of into) {
        for (const { address, bytes } of operations) calls.receive(address, bytes, peer);
      }
      for (const { peer, operations } of out) {
        for (const { address, bytes } of operations) calls.send(address, bytes, peer);
      }
    };
    groups.push(await communicator.group(`phase ${number}`, issue, deadline));
  }
  for (const [i, { group, root, items }] of phase.broadcasts.entries()) {
    const { members, communicator: replicas } = replicaGroups[group]!;
    const operations = root === rank
      ? cutBroadcasts[i]!.map((segment) => packer.operation(items, segment))
      : arriving(items, cutsBy(context, number, group, root, root), context);
    await packer.flush();
    const issue = (calls: GroupCalls) => {
      for (const { address, bytes } of operations) calls.broadcast(address, bytes, members.indexOf(root));
    };
    groups.push(await replicas!.group(`phase ${number}`, issue, deadline));
  }
  return groups;
}

/** Where the sender cuts a message. */
function cutsBy({ cuts }: RunContext, phase: number, group: number, sender: number, peer: number): number[] {
  const found = cuts[sender]!.find((cut) => cut[0] === phase && cut[1] === group && cut[2] === peer);
  return found === undefined ? [] : found.slice(3);
}

/** A message that arrives: its items lie one after another. */
function arriving(items: Uint32Array, cuts: readonly number[], { catalogue, places }: RunContext): Operation[] {
  return segmentsAt(items, catalogue.bytes, cuts).map(({ start, bytes }) => ({
    address: places.addressOf(items[start]!),
    bytes,
  }));
}

/** The ranks that a phase's operations of this rank involve, sorted. */
export function peersOf(phase: Phase, replicaGroups: readonly ReplicaGroup[], rank: number): number[] {
  const peers = new Set<number>();
  for (const { peer } of [...phase.sends, ...phase.receives] satisfies Message[]) peers.add(peer);
  for (const { group } of phase.broadcasts) for (const member of replicaGroups[group]!.members) peers.add(member);
  peers.delete(rank);
  return [...peers].sort((a, b) => a - b);
}

/** Brings together the bytes of segments that lie in several pieces. */
class Packer {
  readonly #context: RunContext;
  readonly #finishOthers: () => Promise<void>;
  readonly #packed: { items: Uint32Array; segment: Segment; offset: number }[] = [];
  #used = 0;

  constructor(context: RunContext, finishOthers: () => Promise<void>) {
    this.#context = context;
    this.#finishOthers = finishOthers;
  }

  /** The operation of a segment: from where it lies, or, after {@linkcode Packer.flush}, packed in the staging memory. */
  operation(items: Uint32Array, segment: Segment): Operation {
    const { start, bytes, runs } = segment;
    if (runs === 1) return { address: this.#context.places.addressOf(items[start]!), bytes };
    const offset = this.#used;
    this.#packed.push({ items, segment, offset });
    this.#used = aligned(offset + bytes);
    return { address: this.#context.staging!.address + BigInt(offset), bytes };
  }

  /** Enqueues the copies, behind all other phases where they are many. */
  async flush(): Promise<void> {
    const packed = this.#packed.splice(0);
    if (packed.length === 0) return;
    const { catalogue, places, communicator: { stream }, staging, deadline } = this.#context;
    const batch = new CopyBatch(packed.reduce((count, { segment }) => count + segment.runs, 0));
    for (const { items, segment: { start, end }, offset } of packed) {
      let to = offset;
      for (let first = start, next = 0; first < end; first = next) {
        next = runEnd(items, first, end, catalogue.bytes, places);
        const bytes = runBytes(items, first, next, catalogue.bytes, places);
        const item = items[first]!;
        batch.add(staging!.addressWords, to, places.slabOf(item).addressWords, places.offsetOf(item), bytes);
        to += bytes;
      }
    }
    if (stream.commandsFor(batch.count) > MOST_COMMANDS_AHEAD) await this.#finishOthers();
    let turned = performance.now();
    for (let begin = 0; begin < batch.count; begin += COPIES_AT_ONCE) {
      if (performance.now() - turned > TURN_MS) {
        await nextTurn();
        deadline.check("packing");
        turned = performance.now();
      }
      stream.copyBatch(batch, begin, Math.min(batch.count, begin + COPIES_AT_ONCE));
    }
  }
}
