/**
 * One redistribution on one rank: agree, move, commit.
 *
 * **Agree.** The rank checks plan and meta, lowers its program, looks up what it sends, reserves its memory, and brings its verdict together with
 * everyone's. Any refusal refuses for all, before the first byte.
 * **Move.** The program runs; what arrives is prepared under the transfer's id, not yet visible.
 * **Commit.** Everyone votes, and all install or none. A rank that voted and cannot learn the outcome keeps what it prepared.
 *
 * @module
 */

import { type Communicator, isRemoteError } from "../comm/communicator.ts";
import type { Exchange } from "../comm/exchange.ts";
import { Event } from "../device/stream.ts";
import {
  DeadlineError,
  type Outcome,
  PeerLostError,
  RedistributeRefusedError,
  type Refusal,
  SeqferryError,
  VerificationError,
} from "../errors.ts";
import type { FlightEntry, FlightRecorder, FlightStage } from "../flight.ts";
import { sameList } from "../plan/same_list.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import { type Cut, cutsOf } from "../transfer/outgoing.ts";
import type { Message, Phase } from "../transfer/program.ts";
import { type ReferenceBytes, referenceBytes } from "../transfer/reference_bytes.ts";
import { peersOf, type ReplicaGroup, runProgram } from "../transfer/run.ts";
import { Deadline, WaitEndedError, type WaitOptions } from "../wait.ts";
import { type Fingerprint, hexOf } from "./fingerprint.ts";
import { discard, type Holdings, type Preparation, prepare, releaseStaging, type Reserved } from "./reservation.ts";
import type { StoredSample } from "./stored_sample.ts";
import { digestsOfSent, mismatches } from "./verification.ts";
import { decodeReasons, decodeVerdict, encodeReasons, encodeVerdict, type Reason, type Verdict } from "./words.ts";

/** Options of `redistribute`. */
export interface RedistributeOptions extends WaitOptions {
  /** Checks each (id, key) by a digest before anything is installed; false unless given. The same on all ranks. */
  verify?: boolean;
  /**
   * Told after each phase; bytes are those sent and received on this rank. To throw here is to give the transfer up, as its signal does: the communicator is
   * aborted, and what was thrown comes out of the call.
   */
  onProgress?: (done: { bytes: number; totalBytes: number; phase: number; phases: number }) => void;
}

/** What a redistribution did on this rank. */
export interface RedistribReport {
  /** The transfer's id, the same on all ranks. */
  transferId: string;
  /** How many phases the plan has. */
  phases: number;
  /** Bytes that left this rank. */
  bytesSent: number;
  /** Bytes that arrived at this rank. */
  bytesReceived: number;
  /** What the reference would have sent from this rank for the same plan, in bytes. */
  referenceBytesSent: number;
  /** What the reference would have received on this rank for the same plan, in bytes. */
  referenceBytesReceived: number;
  /** From the call's turn to the commit. */
  seconds: number;
  /** How many (id, key)s were installed on this rank. */
  installed: number;
}

/** What arrived in a transfer whose outcome this rank does not know yet. */
export interface Prepared {
  /** The transfer's id. */
  readonly transferId: string;
  /** What would be installed. */
  readonly samples: readonly StoredSample[];
}

/** What a manager lends to its transfers. */
export interface TransferContext {
  /** What this rank reserves from. */
  readonly holdings: Holdings;
  /** The world's communicator. */
  readonly communicator: Communicator;
  /** How ranks agree. */
  readonly exchange: Exchange;
  /** The reference's gather groups, for comparison. */
  readonly gatherGroups: readonly (readonly number[])[];
  /** The number of the last transfer that this rank knows of. */
  sequence: number;
  /** The id of the last transfer that was committed here. */
  lastCommitted: string;
  /** Set when a vote's outcome could not be learnt. */
  prepared: Prepared | null;
  /** What this rank did. */
  readonly flight: FlightRecorder;
}

/** Where a transfer is; told in errors. */
interface Progress {
  phase: number;
  outcome: Outcome;
  /** What the present phase has this rank do; null in an agreement. */
  operations: Phase | null;
  /** Empty until agreed. */
  transferId: string;
  /** The part under way. */
  stage: FlightStage;
}

/** Runs one redistribution. Collective. After a failure that aborted the communicator, nothing of the transfer holds memory, unless the outcome is unknown. */
export async function transfer(
  context: TransferContext,
  meta: SequenceSample,
  plan: readonly RedistribStep[],
  options: RedistributeOptions,
  deadline: Deadline,
): Promise<RedistribReport> {
  const started = performance.now();
  deadline.check("the transfer");
  const preparation = prepare(context.holdings, meta, plan, options.verify === true);
  return await carryOut(context, preparation, plan, options, deadline, started);
}

/** Agrees on what was prepared, moves it, and commits. `started` is when the preparation began. */
export async function carryOut(
  context: TransferContext,
  { digest, reserved, refusals }: Preparation,
  plan: readonly RedistribStep[],
  options: RedistributeOptions,
  deadline: Deadline,
  started: number,
): Promise<RedistribReport> {
  const verify = options.verify === true;
  const progress: Progress = { phase: -1, outcome: "unchanged", operations: null, transferId: "", stage: "agreement" };
  try {
    const cuts = reserved === null ? [] : cutsOf(reserved.program, reserved.outgoing);
    const verdict: Verdict = { digest, sequence: context.sequence, refusals, cuts };
    const { transferId, cutsByRank } = await agree(context, progress, verdict, deadline);
    progress.transferId = transferId;
    const { program, incoming } = reserved!;
    const reference = await move(context, reserved!, plan, cutsByRank, progress, deadline, options);
    const objections = verify ? await verifyBytes(context, reserved!, progress, deadline) : [];
    const votes = await bringTogether(context, progress, "commit", encodeReasons(objections), deadline);
    progress.outcome = "unchanged";
    const against = collect(votes.map(decodeReasons));
    if (against.length > 0) throw new VerificationError(against);
    context.lastCommitted = transferId;
    context.holdings.storage.install(incoming);
    releaseStaging(reserved!);
    return {
      transferId,
      phases: program.phases.length,
      bytesSent: program.bytesSent,
      bytesReceived: program.bytesReceived,
      referenceBytesSent: reference.sent,
      referenceBytesReceived: reference.received,
      seconds: (performance.now() - started) / 1000,
      installed: program.received.length,
    };
  } catch (error) {
    let raised = error;
    if (error instanceof RedistributeRefusedError || error instanceof VerificationError) discard(reserved);
    else raised = await failed(context, reserved, error, progress);
    if (raised instanceof SeqferryError) {
      Object.assign(raised, { outcome: raised.outcome ?? progress.outcome });
    }
    throw raised;
  }
}

/** Brings the verdicts together; returns the transfer's id and where each rank cuts its messages, or throws all ranks' refusals. */
async function agree(
  context: TransferContext,
  progress: Progress,
  verdict: Verdict,
  deadline: Deadline,
): Promise<{ transferId: string; cutsByRank: (readonly Cut[])[] }> {
  const words = await bringTogether(context, progress, "agreement", encodeVerdict(verdict), deadline);
  const verdicts = words.map(decodeVerdict);
  context.sequence = Math.max(...verdicts.map(({ sequence }) => sequence)) + 1;
  const refusals = collect(verdicts.map((each) => each.refusals));
  refusals.push(...differences(verdicts.map(({ digest }) => digest)));
  if (refusals.length > 0) throw new RedistributeRefusedError(refusals.sort((a, b) => a.rank - b.rank));
  return {
    transferId: `${hexOf(verdicts[0]!.digest).slice(0, 16)}-${context.sequence}`,
    cutsByRank: verdicts.map(({ cuts }) => cuts),
  };
}

/**
 * Where plans differ, the ranks in the minority are named; of equal parties the one with the lowest rank is the standard. A rank that could not make its
 * digest tells why itself.
 */
export function differences(digests: readonly Fingerprint[]): Refusal[] {
  if (digests.every((digest) => sameList(digest, digests[0]!))) return [];
  const names = digests.map(hexOf);
  const parties = new Map<string, number>();
  for (const name of names) if (name !== "") parties.set(name, (parties.get(name) ?? 0) + 1);
  if (parties.size < 2) return [];
  const [standard] = [...parties].sort((a, b) => b[1] - a[1])[0]!;
  const reason = `its plan, meta, replica groups or verify option differ from those of rank ${names.indexOf(standard)}`;
  return names.flatMap((name, rank) => name === "" || name === standard ? [] : [{ rank, reason }]);
}

/** One small collective of the transfer. From the moment a vote may be on its way this rank is in doubt about the outcome. */
async function bringTogether(
  context: TransferContext,
  progress: Progress,
  stage: FlightStage,
  words: Uint8Array,
  deadline: Deadline,
): Promise<Uint8Array[]> {
  // Until all have agreed on the transfer's number it is the next one that this rank knows of.
  const transfer = stage === "agreement" ? context.sequence + 1 : context.sequence;
  progress.stage = stage;
  const all = await context.exchange.gather(`the ${stage}`, words, deadline, () => {
    context.flight.record({ transfer, stage, phase: -1, event: "enqueued" });
    if (stage === "commit") progress.outcome = "unknown";
  });
  context.flight.record({ transfer, stage, phase: -1, event: "finished" });
  return all;
}

/** What a phase moves on this rank, for the flight record; a broadcast counts as a message from its root to each other member. */
function contentsOf(
  phase: Phase,
  { catalogue, program }: Reserved,
  replicaGroups: readonly ReplicaGroup[],
): Required<Pick<FlightEntry, "steps" | "keys" | "sends" | "receives">> {
  const sends = bytesByPeer(phase.sends);
  const receives = bytesByPeer(phase.receives);
  const add = (to: Map<number, number>, peer: number, bytes: number) => to.set(peer, (to.get(peer) ?? 0) + bytes);
  for (const { group, root, bytes } of phase.broadcasts) {
    if (root !== program.rank) add(receives, root, bytes);
    else for (const peer of replicaGroups[group]!.members) if (peer !== root) add(sends, peer, bytes);
  }
  const messages = [...phase.sends, ...phase.receives, ...phase.broadcasts];
  const keys = catalogue.keys.filter((_, k) => {
    const [start, end] = [catalogue.item(k, 0), catalogue.item(k + 1, 0)];
    return messages.some(({ items }) => hasBetween(items, start, end));
  }).map(({ name }) => name);
  const listed = (byPeer: ReadonlyMap<number, number>) => [...byPeer].map(([peer, bytes]) => ({ peer, bytes }));
  return { steps: phase.steps, keys, sends: listed(sends), receives: listed(receives) };
}

/** Without pairs of peer and bytes: an array of both holds both as floating-point numbers, and so would what is made of them. */
function bytesByPeer(messages: readonly Message[]): Map<number, number> {
  const byPeer = new Map<number, number>();
  for (const { peer, bytes } of messages) byPeer.set(peer, bytes);
  return byPeer;
}

/** Whether a list of ascending items has one from `start` to before `end`. */
function hasBetween(items: Uint32Array, start: number, end: number): boolean {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle]! < start) low = middle + 1;
    else high = middle;
  }
  return low < items.length && items[low]! < end;
}

/** Uploads and compaction run on another stream: what they write is there before the first byte leaves. */
function startBehindUploads({ communicator, holdings: { device } }: TransferContext): void {
  using written = new Event(device);
  written.record(device.copier.stream);
  communicator.stream.waitFor(written);
}

/** Runs the program. What the reference would have moved is counted meanwhile. */
async function move(
  context: TransferContext,
  reserved: Reserved,
  plan: readonly RedistribStep[],
  cuts: readonly (readonly Cut[])[],
  progress: Progress,
  deadline: Deadline,
  options: RedistributeOptions,
): Promise<ReferenceBytes> {
  const { communicator, holdings: { replicaGroups, device }, gatherGroups } = context;
  const { program, positions, catalogue, places, outgoing, staging } = reserved;
  if (!device.copier.stream.isIdle()) startBehindUploads(context);
  const totalBytes = program.bytesSent + program.bytesReceived;
  let bytes = 0;
  const count = () => referenceBytes(plan, positions, catalogue, communicator.rank, gatherGroups);
  let reference: ReferenceBytes | undefined;
  await runProgram(program, {
    communicator,
    replicaGroups,
    catalogue,
    places,
    outgoing,
    cuts,
    staging,
    deadline,
    onPhase: (number, event) => {
      const phase = program.phases[number]!;
      progress.phase = number;
      progress.stage = "phase";
      progress.operations = phase;
      if (event === "awaited") {
        reference ??= count();
        return;
      }
      const entry = { transfer: context.sequence, stage: "phase", phase: number, event } as const;
      if (event === "enqueued") {
        const { steps, keys, sends, receives } = contentsOf(phase, reserved, replicaGroups);
        context.flight.record({ ...entry, steps, keys, sends, receives });
      } else {
        context.flight.record(entry);
      }
      if (event !== "finished") return;
      for (const message of [...phase.sends, ...phase.receives, ...phase.broadcasts]) bytes += message.bytes;
      options.onProgress?.({ bytes, totalBytes, phase: number, phases: program.phases.length });
    },
  });
  progress.phase = -1;
  progress.operations = null;
  return reference ?? count();
}

/** Compares what arrived with what its senders had. */
async function verifyBytes(
  context: TransferContext,
  reserved: Reserved,
  progress: Progress,
  deadline: Deadline,
): Promise<Reason[]> {
  progress.stage = "verification";
  const { program, catalogue, places } = reserved;
  const regionOf = (item: number) => places.regionOf(item);
  const mine = await digestsOfSent(program, regionOf, deadline);
  const all = await bringTogether(context, progress, "verification", mine, deadline);
  return (await mismatches(program, context.holdings.replicaGroups, all, regionOf, deadline)).map((item) => {
    const id = catalogue.idOf(item);
    const key = catalogue.keyOf(item).name;
    return {
      reason: `id ${JSON.stringify(id)}, key ${
        JSON.stringify(key)
      }: the bytes that arrived are not those that were sent`,
      id,
      key,
    };
  });
}

/** Ends a transfer that failed: who is missing, abort, memory, and the error to raise. */
async function failed(
  context: TransferContext,
  reserved: Reserved | null,
  error: unknown,
  { phase, outcome, operations, transferId, stage }: Progress,
): Promise<unknown> {
  const { communicator } = context;
  const where = stage === "phase" ? `phase ${phase}` : `the ${stage}`;
  context.flight.record({
    transfer: stage === "agreement" ? context.sequence + 1 : context.sequence,
    stage,
    phase,
    event: "failed",
    error: error instanceof Error ? error.message : String(error),
  });
  const lost = isRemoteError(error) ? lostPeer(context) : null;
  const outstanding = error instanceof WaitEndedError ? await awaitedPeers(context, operations) : [];
  communicator.abort();
  await communicator.ended();
  if (outcome === "unknown" && reserved !== null) {
    releaseStaging(reserved);
    context.prepared = { transferId, samples: reserved.incoming };
  } else {
    discard(reserved);
  }
  if (error instanceof WaitEndedError) {
    const who = outstanding.length === 0 ? "" : `; outstanding: rank ${outstanding.join(", rank ")}`;
    return new DeadlineError(
      `the transfer ended in ${where}: ${error.message}${who}; storage: ${outcome}`,
      { phase, outstanding, outcome },
      { cause: error.cause ?? error },
    );
  }
  if (isRemoteError(error)) {
    return new PeerLostError(
      `the transfer ended in ${where}: ${lost === null ? "a peer" : `rank ${lost}`} is gone; storage: ${outcome}`,
      { rank: lost, phase, outcome },
      { cause: error },
    );
  }
  return error;
}

/** The rank that is gone, as far as any communicator tells. */
function lostPeer({ communicator, holdings: { replicaGroups } }: TransferContext): number | null {
  const lost = communicator.lostPeer();
  if (lost !== null) return lost;
  for (const { members, communicator: replicas } of replicaGroups) {
    const member = replicas?.lostPeer() ?? null;
    if (member !== null) return members[member]!;
  }
  return null;
}

/** Who has not done their part of what is under way, sorted: an agreement where `operations` is null, else those of a phase. */
async function awaitedPeers(
  { communicator, exchange, holdings: { replicaGroups } }: TransferContext,
  operations: Phase | null,
): Promise<number[]> {
  if (operations === null) {
    const missing = await exchange.missing(new Deadline({ timeoutMs: 1000 })).catch(() => []);
    // Where all words have come, a peer may still owe its having read this rank's.
    return missing.length > 0 ? missing : communicator.awaitedPeers();
  }
  const awaited = new Set(communicator.awaitedPeers(peersOf(operations, replicaGroups, communicator.rank)));
  for (const { members, communicator: replicas } of replicaGroups) {
    for (const member of replicas?.awaitedPeers([]) ?? []) awaited.add(members[member]!);
  }
  return [...awaited].sort((a, b) => a - b);
}

function collect(perRank: readonly (readonly Reason[])[]): Refusal[] {
  return perRank.flatMap((refusals, rank) => refusals.map((refusal) => ({ rank, ...refusal })));
}
