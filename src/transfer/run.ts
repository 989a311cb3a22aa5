/**
 * Running a program on a device and its communicators.
 *
 * @module
 */

import type { Communicator } from "../comm/communicator.ts";
import { type IssuedGroup, MAX_GROUP_OPERATIONS } from "../comm/group.ts";
import type { Region, Slab } from "../device/slab.ts";
import { type Deadline, pollUntil } from "../wait.ts";
import type { Message, Phase, Program } from "./program.ts";

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
  /** Where an item that this rank sends or receives lies. */
  regionOf(item: number): Region;
  /** `program.stagingBytes` bytes for packing; 0 where there are none. */
  readonly staging: bigint;
  /** The deadline and signal of the transfer. */
  readonly deadline: Deadline;
  /** Called before a phase is issued, when the library has taken all of it, and when the stream has passed it. */
  onPhase(phase: number, event: "enqueued" | "started" | "finished"): void;
}

/**
 * Runs all phases. Everything is enqueued in order on one stream; resolves when the stream has passed the last phase.
 *
 * @throws {WaitEndedError} when the deadline passes or the signal fires.
 * @throws {NcclError} when a communicator fails, {@linkcode CudaError} when a copy does.
 */
export async function runProgram(program: Program, context: RunContext): Promise<void> {
  for (let number = 0; number < program.phases.length; number++) {
    context.onPhase(number, "enqueued");
    context.deadline.check(`phase ${number}`);
    const groups = await issuePhase(program.phases[number]!, number, context);
    context.onPhase(number, "started");
    for (const group of groups) await pollUntil(`phase ${number}`, () => group.isDone(), context.deadline);
    context.onPhase(number, "finished");
  }
}

async function issuePhase(phase: Phase, number: number, context: RunContext): Promise<IssuedGroup[]> {
  const { communicator, replicaGroups, deadline, regionOf } = context;
  const { rank, worldSize } = communicator;
  const packer = new Packer(context);
  const groups: IssuedGroup[] = [];
  const from = phase.sends.map(({ items }) => packer.contiguous(items));
  // Received items of one message lie one after another.
  const into = phase.receives.map(({ items }) => regionOf(items[0]!).address);
  // Both ends of a message have it at the same distance, so that groups cut by distance fit together on all ranks.
  const perGroup = MAX_GROUP_OPERATIONS / 2;
  for (let nearest = 0; nearest < worldSize; nearest += perGroup) {
    const within = (distance: number) => distance >= nearest && distance < nearest + perGroup;
    const sends = phase.sends.map((message, i) => ({ message, address: from[i]! }))
      .filter(({ message }) => within((message.peer - rank + worldSize) % worldSize));
    const receives = phase.receives.map((message, i) => ({ message, address: into[i]! }))
      .filter(({ message }) => within((rank - message.peer + worldSize) % worldSize));
    if (sends.length + receives.length === 0) continue;
    groups.push(
      await communicator.group(`phase ${number}`, (calls) => {
        for (const { message, address } of receives) calls.receive(address, message.bytes, message.peer);
        for (const { message, address } of sends) calls.send(address, message.bytes, message.peer);
      }, deadline),
    );
  }
  for (const { group, root, items, bytes } of phase.broadcasts) {
    const { members, communicator: replicas } = replicaGroups[group]!;
    const address = root === rank ? packer.contiguous(items) : regionOf(items[0]!).address;
    groups.push(
      await replicas!.group(
        `phase ${number}`,
        (calls) => calls.broadcast(address, bytes, members.indexOf(root)),
        deadline,
      ),
    );
  }
  return groups;
}

/** The ranks that a phase's operations of this rank involve, sorted. */
export function peersOf(phase: Phase, replicaGroups: readonly ReplicaGroup[], rank: number): number[] {
  const peers = new Set<number>();
  for (const { peer } of [...phase.sends, ...phase.receives] satisfies Message[]) peers.add(peer);
  for (const { group } of phase.broadcasts) for (const member of replicaGroups[group]!.members) peers.add(member);
  peers.delete(rank);
  return [...peers].sort((a, b) => a - b);
}

/** A stretch of one slab. */
export interface Run {
  /** Which slab: two of them may lie side by side, but a copy cannot go across. */
  slab: Slab;
  /** Where it begins. */
  address: bigint;
  /** Its size in bytes. */
  byteLength: number;
}

/** The runs of memory that hold the items one after another; items that already lie one behind the other are one run. */
export function runsOf(items: Iterable<number>, regionOf: (item: number) => Region): Run[] {
  const runs: Run[] = [];
  for (const item of items) {
    const { slab, address, byteLength } = regionOf(item);
    if (byteLength === 0) continue;
    const last = runs.at(-1);
    if (last?.slab === slab && last.address + BigInt(last.byteLength) === address) last.byteLength += byteLength;
    else runs.push({ slab, address, byteLength });
  }
  return runs;
}

/** Brings the bytes of messages together where they are not already. */
class Packer {
  readonly #context: RunContext;
  #used = 0;

  constructor(context: RunContext) {
    this.#context = context;
  }

  /** The address at which the items lie one after another: where they are, or packed in the staging memory. */
  contiguous(items: Uint32Array): bigint {
    const { communicator, regionOf, staging } = this.#context;
    const runs = runsOf(items, regionOf);
    if (runs.length === 1) return runs[0]!.address;
    const start = staging + BigInt(this.#used);
    for (const { address, byteLength } of runs) {
      communicator.stream.copy(staging + BigInt(this.#used), address, byteLength);
      this.#used += byteLength;
    }
    return start;
  }
}
