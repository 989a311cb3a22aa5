/**
 * What leaves a rank, cut into operations.
 *
 * @module
 */

import type { DeviceRuntime } from "../device/runtime.ts";
import { aligned } from "../device/slab.ts";
import type { Catalogue } from "./catalogue.ts";
import type { Places } from "./places.ts";
import type { GroupBroadcast, Message, Program } from "./program.ts";
import { LARGE_BYTES, LARGE_BYTES_BY_KERNEL, type Segment, segmentsOf } from "./segments.ts";

/** What leaves a rank in one phase. */
export interface OutgoingPhase {
  /** By the position of the send in the phase. */
  readonly sends: readonly (readonly Segment[])[];
  /** By the position of the broadcast in the phase; empty where this rank is not its root. */
  readonly broadcasts: readonly (readonly Segment[])[];
}

/** Where a message is cut: phase, group of a broadcast or -1, receiver or root, and the positions of its items where further segments begin. */
export type Cut = readonly [phase: number, group: number, peer: number, ...positions: number[]];

/** Cuts everything that a program sends from this device, among so many ranks. */
export function outgoingOf(
  program: Program,
  catalogue: Catalogue,
  places: Places,
  worldSize: number,
  device: Pick<DeviceRuntime, "copyKernel">,
): OutgoingPhase[] {
  const large = device.copyKernel === null ? LARGE_BYTES : LARGE_BYTES_BY_KERNEL;
  const cut = (message: Message | GroupBroadcast) => segmentsOf(message, catalogue.bytes, places, worldSize, large);
  return program.phases.map(({ sends, broadcasts }) => ({
    sends: sends.map(cut),
    broadcasts: broadcasts.map((cast) => cast.root === program.rank ? cut(cast) : []),
  }));
}

/** What peers have to be told of it: the messages of several segments. */
export function cutsOf(program: Program, outgoing: readonly OutgoingPhase[]): Cut[] {
  const cuts: Cut[] = [];
  const add = (phase: number, group: number, peer: number, segments: readonly Segment[]) => {
    if (segments.length > 1) cuts.push([phase, group, peer, ...segments.slice(1).map(({ start }) => start)]);
  };
  outgoing.forEach(({ sends, broadcasts }, phase) => {
    const messages = program.phases[phase]!;
    sends.forEach((segments, i) => add(phase, -1, messages.sends[i]!.peer, segments));
    broadcasts.forEach((segments, i) => add(phase, messages.broadcasts[i]!.group, program.rank, segments));
  });
  return cuts;
}

/** How much memory the packing takes: the most of all phases, in bytes; 0 where everything leaves from where it lies. */
export function packingBytes(outgoing: readonly OutgoingPhase[]): number {
  let most = 0;
  for (const { sends, broadcasts } of outgoing) {
    let total = 0;
    for (const segments of [...sends, ...broadcasts]) {
      for (const { bytes, runs } of segments) if (runs > 1) total += aligned(bytes);
    }
    most = Math.max(most, total);
  }
  return most;
}
