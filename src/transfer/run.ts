/**
 * Running a program on a device and its communicators.
 *
 * @module
 */

import type { Communicator } from "../comm/communicator.ts";
import { type IssuedGroup, MAX_GROUP_OPERATIONS } from "../comm/group.ts";
import { aligned, type Region, type Slab } from "../device/slab.ts";
import { type Deadline, pollUntil } from "../wait.ts";
import type { Catalogue } from "./catalogue.ts";
import { partsOf } from "./parts.ts";
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
  /** The items. */
  readonly catalogue: Catalogue;
  /** Where an item that this rank sends or receives lies. */
  regionOf(item: number): Region;
  /** As much memory for packing as {@linkcode packingBytes} tells; 0 where that is none. */
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
  const { communicator, replicaGroups, deadline, regionOf, catalogue } = context;
  const { rank, worldSize } = communicator;
  const packer = new Packer(context);
  const groups: IssuedGroup[] = [];
  const sends = phase.sends.map(({ peer, items }): Transmission => ({
    peer,
    distance: (peer - rank + worldSize) % worldSize,
    operations: partsOf(items, catalogue.bytes, worldSize).map(({ start, end, bytes }) => ({
      address: packer.contiguous(items.subarray(start, end)),
      bytes,
    })),
  }));
  const receives = phase.receives.map(({ peer, items }): Transmission => ({
    peer,
    distance: (rank - peer + worldSize) % worldSize,
    // Received items of one message lie one after another.
    operations: partsOf(items, catalogue.bytes, worldSize).map(({ start, bytes }) => ({
      address: regionOf(items[start]!).address,
      bytes,
    })),
  }));
  packer.flush();
  // Both ends of a message have it at the same distance, so that groups cut by distance fit together on all ranks.
  const perGroup = MAX_GROUP_OPERATIONS / 2;
  for (let nearest = 0; nearest < worldSize; nearest += perGroup) {
    const within = ({ distance }: Transmission) => distance >= nearest && distance < nearest + perGroup;
    const [out, into] = [sends.filter(within), receives.filter(within)];
    if (out.length + into.length === 0) continue;
    groups.push(
      await communicator.group(`phase ${number}`, (calls) => {
        for (const { peer, operations } of into) {
          for (const { address, bytes } of operations) calls.receive(address, bytes, peer);
        }
        for (const { peer, operations } of out) {
          for (const { address, bytes } of operations) calls.send(address, bytes, peer);
        }
      }, deadline),
    );
  }
  for (const { group, root, items, bytes } of phase.broadcasts) {
    const { members, communicator: replicas } = replicaGroups[group]!;
    const address = root === rank ? packer.contiguous(items) : regionOf(items[0]!).address;
    packer.flush();
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

/** One message's operations. */
interface Transmission {
  readonly peer: number;
  /** From sender to receiver, upwards and around. */
  readonly distance: number;
  readonly operations: readonly { readonly address: bigint; readonly bytes: number }[];
}

/** How much memory the packing of a program takes: the most of all phases, in bytes; 0 where everything leaves from where it lies. */
export function packingBytes(
  program: Program,
  catalogue: Catalogue,
  worldSize: number,
  regionOf: (item: number) => Region,
): number {
  let most = 0;
  for (const { sends, broadcasts } of program.phases) {
    let bytes = 0;
    const count = (items: Uint32Array) => {
      if (runsOf(items, regionOf).length > 1) bytes += aligned(catalogue.totalBytes(items));
    };
    for (const { items } of sends) {
      for (const { start, end } of partsOf(items, catalogue.bytes, worldSize)) count(items.subarray(start, end));
    }
    for (const { root, items } of broadcasts) if (root === program.rank) count(items);
    most = Math.max(most, bytes);
  }
  return most;
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
  readonly #copies: Run[] = [];
  /** By copy its place in the staging memory. */
  readonly #targets: number[] = [];
  #used = 0;
  #copied = 0;

  constructor(context: RunContext) {
    this.#context = context;
  }

  /** The address at which the items lie one after another: where they are, or, after {@linkcode flush}, packed in the staging memory. */
  contiguous(items: Uint32Array): bigint {
    const runs = runsOf(items, this.#context.regionOf);
    if (runs.length === 1) return runs[0]!.address;
    const start = this.#context.staging + BigInt(this.#used);
    let end = this.#used;
    for (const run of runs) {
      this.#copies.push(run);
      this.#targets.push(end);
      end += run.byteLength;
    }
    this.#used = aligned(end);
    return start;
  }

  /** Enqueues the copies. */
  flush(): void {
    const count = this.#copies.length - this.#copied;
    if (count === 0) return;
    const batch = { to: new BigUint64Array(count), from: new BigUint64Array(count), bytes: new BigUint64Array(count) };
    for (let i = 0; i < count; i++) {
      const { address, byteLength } = this.#copies[this.#copied + i]!;
      batch.to[i] = this.#context.staging + BigInt(this.#targets[this.#copied + i]!);
      batch.from[i] = address;
      batch.bytes[i] = BigInt(byteLength);
    }
    this.#copied += count;
    this.#context.communicator.stream.copyBatch(batch.to, batch.from, batch.bytes);
  }
}
