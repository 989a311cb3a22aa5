/**
 * The host's part of some hundred small transfers, without peers and without a device, before the first real one.
 *
 * The engine interprets code until it has run often enough to be compiled, which a transfer's code has after some hundred transfers: until then each takes
 * two or three times as long, and shares its core with the compiler. A process that starts has time for that, and one that moves batches has not.
 *
 * @module
 */

import type { DeviceRuntime } from "../device/runtime.ts";
import { Slab, SlabPool } from "../device/slab.ts";
import type { RedistribStep } from "../plan/step.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import { Scratch } from "../scratch.ts";
import { cutsOf } from "../transfer/outgoing.ts";
import { referenceBytes } from "../transfer/reference_bytes.ts";
import { type Deadline, nextTurn } from "../wait.ts";
import { discard, type Holdings, prepare, releaseStaging, type Reserved } from "./reservation.ts";
import { Storage } from "./storage.ts";
import { decodeReasons, decodeVerdict, encodeReasons, encodeVerdict } from "./words.ts";

/** Each is two transfers. With a quarter of them a third of what is to be gained is; with four times as many there is no more. */
const ROUNDS = 400;
/** What is done between two turns of the event loop: some milliseconds. */
const ROUNDS_PER_TURN = 4;
const WORLD_SIZE = 4;
const IDS = Array.from({ length: 64 }, (_, i) => `id-${i}`);
const [FORMER, LATTER] = [IDS.slice(0, 32), IDS.slice(32)];
const KEYS = ["tokens", "logprobs", "mask", "reward"];

/** Plans that bring ids to rank 0 of an imaginary world. */
const INTO: readonly RedistribStep[][] = [
  [{ commType: "bcast", root: 1, srcs: [1], dsts: [0, 2, 3], ids: IDS, keys: KEYS }],
  [{ commType: "exchange", root: null, srcs: [1, 2], dsts: [[0], [0]], ids: [FORMER, LATTER], keys: KEYS }],
  [{ commType: "scatter", root: 1, srcs: null, dsts: [0, 2], ids: [IDS, FORMER], keys: KEYS }],
  KEYS.map((key) => ({ commType: "bcast", root: 1, srcs: [1], dsts: [0, 2, 3], ids: IDS, keys: [key] })),
];
/** And such as bring them away, once they are there. */
const AWAY: readonly RedistribStep[][] = [
  [{ commType: "bcast", root: 0, srcs: [0], dsts: [1, 2, 3], ids: IDS, keys: KEYS }],
  [{ commType: "exchange", root: null, srcs: [0, 0], dsts: [[1], [2, 3]], ids: [FORMER, LATTER], keys: KEYS }],
  [{ commType: "gather", root: 1, srcs: [0, 2], dsts: null, ids: [FORMER, LATTER], keys: KEYS }],
  KEYS.map((key) => ({ commType: "bcast", root: 0, srcs: [0], dsts: [1, 2, 3], ids: IDS, keys: [key] })),
];

/** Slabs without memory: nothing is ever copied in a rehearsal. */
class ImaginaryPool extends SlabPool {
  readonly #device: DeviceRuntime;

  constructor(device: DeviceRuntime) {
    super(device);
    this.#device = device;
  }

  override allocate(byteLength: number): Slab {
    return new Slab(this.#device, byteLength, { address: 0n, giveBack() {} });
  }
}

/** The transfers of a rehearsal, one after another. */
export class Rehearsal {
  readonly #holdings: Holdings;
  #meta: SequenceSample;
  #round = 0;

  /** Asks nothing of the device. */
  constructor(device: DeviceRuntime) {
    const pool = new ImaginaryPool(device);
    this.#holdings = {
      communicator: { rank: 0, worldSize: WORLD_SIZE },
      device,
      pool,
      storage: new Storage(device, pool),
      replicaGroups: [],
      scratch: new Scratch(),
    };
    this.#meta = batch(1);
  }

  /** Whether all has been gone through. */
  get isOver(): boolean {
    return this.#round >= ROUNDS;
  }

  /** Receives a batch, sends it on, and lets it go. */
  round(): void {
    const { storage } = this.#holdings;
    const kind = this.#round % INTO.length;
    // Mostly an id has one sequence, and every batch comes with new lengths.
    if (kind === 0) this.#meta = batch(this.#round % 32 === 0 ? 2 : 1);
    const arrived = this.#transfer(INTO[kind]!);
    storage.install(arrived.incoming);
    releaseStaging(arrived);
    discard(this.#transfer(AWAY[kind]!));
    storage.remove(IDS);
    this.#round++;
  }

  /** What a rank does on the host up to the first byte, and what it tells its peers and they tell it. */
  #transfer(plan: readonly RedistribStep[]): Reserved {
    const { digest, reserved, refusals } = prepare(this.#holdings, this.#meta, plan, false);
    if (reserved === null) throw new Error(`a rehearsal was refused: ${JSON.stringify(refusals)}`);
    const { program, outgoing, positions, catalogue } = reserved;
    const verdict = encodeVerdict({ digest, sequence: this.#round, refusals, cuts: cutsOf(program, outgoing) });
    const vote = encodeReasons([]);
    for (let rank = 0; rank < WORLD_SIZE; rank++) {
      decodeVerdict(verdict);
      decodeReasons(vote);
    }
    referenceBytes(plan, positions, catalogue, 0, []);
    return reserved;
  }
}

/** A batch as a rollout yields it, `sequences` of them for an id. */
function batch(sequences: number): SequenceSample {
  const lengths = IDS.map((_, i) => Array.from({ length: sequences }, (_, k) => 448 + (i * 31 + k) % 128));
  const rewards = IDS.map(() => Array.from({ length: sequences }, () => 1));
  return new SequenceSample({
    ids: IDS,
    keys: KEYS,
    dtypes: { tokens: "int64", logprobs: "float32", mask: "bool", reward: "float32" },
    trailingShapes: { tokens: [], logprobs: [], mask: [], reward: [] },
    seqlens: { tokens: lengths, logprobs: lengths, mask: lengths, reward: rewards },
  });
}

/** The process's rehearsal; null when it is over. */
let rehearsal: Rehearsal | null | undefined;

/**
 * Rehearses, once in a process: whoever comes meanwhile helps, and whoever comes later finds it done. The event loop turns all along.
 *
 * @throws {WaitEndedError} when the deadline passes or the signal fires.
 */
export async function rehearse(device: DeviceRuntime, deadline: Deadline): Promise<void> {
  if (rehearsal === undefined) rehearsal = new Rehearsal(device);
  while (rehearsal !== null) {
    deadline.check("the rehearsal");
    for (let i = 0; i < ROUNDS_PER_TURN && !rehearsal.isOver; i++) rehearsal.round();
    if (rehearsal.isOver) rehearsal = null;
    else await nextTurn();
  }
}
