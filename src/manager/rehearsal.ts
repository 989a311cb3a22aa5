/**
 * Some hundred transfers without peers, before the first real one: here the host's part of them, without a device; with one, in `loopback.ts`.
 *
 * The engine interprets code until it has run often enough to be compiled, which a transfer's code has after some hundred transfers: until then each takes
 * two or three times as long, and shares its core with the compiler. A process that starts has time for that, and one that moves batches has not.
 *
 * What is compiled fits what it was run with. So all ranks of a small world are played in turn, with batches and plans of every kind, from the storing of
 * samples to the letting go of them; and where memory is given back there are two functions here, so that the engine counts on neither.
 *
 * @module
 */

import type { DeviceRuntime } from "../device/runtime.ts";
import { SlabPool } from "../device/slab.ts";
import { parsePlan, planToJSON } from "../plan/plan_json.ts";
import { type Pattern, RedistribPlanner } from "../plan/planner.ts";
import type { RedistribStep } from "../plan/step.ts";
import { GlobalStorageTracker } from "../plan/storage_tracker.ts";
import { type DType, itemSize } from "../sample/dtype.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import { Scratch } from "../scratch.ts";
import { LatestCatalogue } from "../transfer/catalogue.ts";
import { DeviceTensor } from "../transfer/device_tensor.ts";
import { cutsOf } from "../transfer/outgoing.ts";
import { referenceBytes } from "../transfer/reference_bytes.ts";
import type { ReplicaGroup } from "../transfer/run.ts";
import { Deadline, nextTurn, type WaitOptions, within } from "../wait.ts";
import { Loopback } from "./loopback.ts";
import { ALL_KEYS, batchOf, type BatchShape, partOf } from "./rehearsal_batch.ts";
import { type Holdings, prepare, releaseStaging, type Reserved } from "./reservation.ts";
import { Storage } from "./storage.ts";
import { decodeReasons, decodeVerdict, encodeReasons, encodeVerdict } from "./words.ts";

/** Each is one transfer on every rank. With 200 the first real ones are no faster. */
const ROUNDS = 100;
const WORLD_SIZE = 4;
const PATTERNS: readonly Pattern[] = ["direct", "bcast", "gather-scatter"];
/** Ranks that get the same: as many as get it by a broadcast among themselves. */
const REPLICA_GROUPS: readonly ReplicaGroup[] = [{ members: [1, 2, 3], communicator: null }];

/** Where a batch is: in equal shares on the first ranks; and where it goes: by rank the part of it, or nothing. */
interface Ways {
  readonly holders: number;
  readonly parts: readonly (number | null)[];
}

/** Two halves on two ranks each; all of it on two ranks that had nothing; all of it from one rank to the three others. */
const SAME_RANKS: Ways = { holders: 4, parts: [0, 0, 1, 1] };
const DISJOINT: Ways = { holders: 2, parts: [null, null, 0, 0] };
const ONE_TO_ALL: Ways = { holders: 1, parts: [null, 0, 0, 0] };

/** What a batch is like, and how it moves. */
interface Kind extends BatchShape {
  readonly ways: Ways;
}

/** Prompts, rollouts one by one and by group, and sequences that are too long to be packed. */
const KINDS: readonly Kind[] = [
  { ids: 64, sequences: 1, length: 500, spread: 127, keys: ["tokens"], ways: SAME_RANKS },
  { ids: 96, sequences: 1, length: 2000, spread: 127, keys: ALL_KEYS, ways: DISJOINT },
  { ids: 12, sequences: 4, length: 700, spread: 127, keys: ALL_KEYS, ways: SAME_RANKS },
  { ids: 16, sequences: 1, length: 40_000, spread: 127, keys: ALL_KEYS, ways: DISJOINT },
  { ids: 64, sequences: 1, length: 500, spread: 127, keys: ["tokens"], ways: DISJOINT },
  { ids: 96, sequences: 1, length: 2000, spread: 127, keys: ALL_KEYS, ways: SAME_RANKS },
  { ids: 24, sequences: 1, length: 2000, spread: 127, keys: ALL_KEYS, ways: ONE_TO_ALL },
];
/** Copies nothing: there is no memory. */
const NOWHERE = { copy: () => {} };
/** Every so many rounds a rank works in memory of its own for the first time. */
const FRESH_SCRATCH = 16;

/** The transfers of a rehearsal, one after another. */
export class Rehearsal {
  readonly #ranks: readonly Holdings[];
  readonly #batches: readonly SequenceSample[];
  /** By kind what moves at present. */
  readonly #metas: SequenceSample[] = [];
  readonly #plans = new Map<string, readonly RedistribStep[]>();
  /** Of the last round, by rank. */
  readonly #arrived: Reserved[] = [];
  #round = 0;

  /** Asks nothing of the device. */
  constructor(device: DeviceRuntime) {
    this.#ranks = Array.from({ length: WORLD_SIZE }, (_, rank) => {
      const pool = new SlabPool(device, { address: 0n, giveBack: rank % 2 === 0 ? () => {} : () => undefined });
      return {
        rank,
        worldSize: WORLD_SIZE,
        device,
        storage: new Storage(device, pool, () => NOWHERE),
        pool,
        replicaGroups: [],
        catalogues: new LatestCatalogue(),
        scratch: new Scratch(),
      };
    });
    this.#batches = KINDS.map((shape, kind) => batchOf(shape, `batch-${kind}-id`));
    for (const [kind, batch] of this.#batches.entries()) {
      for (const { rank, storage, pool } of this.#ranks) {
        for (const id of shareOf(batch, kind, rank)) storage.store(partOf(batch, id, tensorIn(pool)));
      }
    }
  }

  /** Whether all has been gone through. */
  get isOver(): boolean {
    return this.#round >= ROUNDS;
  }

  /** One batch is moved, and is let go where it was not before. */
  round(): void {
    const round = this.#round++;
    const kind = round % KINDS.length;
    const batch = this.#batches[kind]!;
    const plan = this.#plan(kind, PATTERNS[round % PATTERNS.length]!, round % 5 < 4, round % 2 === 0);
    // A batch is mostly moved more than once.
    if (round % (4 * KINDS.length) < KINDS.length) this.#metas[kind] = batch.meta();
    const meta = this.#metas[kind]!;
    const { ids } = meta;
    const replicaGroups = round % 11 < 5 ? REPLICA_GROUPS : [];
    for (const holdings of this.#ranks) {
      const scratch = round % FRESH_SCRATCH === 0 ? new Scratch() : holdings.scratch;
      const arrived = this.#transfer({ ...holdings, replicaGroups, scratch }, meta, plan);
      holdings.storage.install(arrived.incoming);
      releaseStaging(arrived);
      this.#arrived[holdings.rank] = arrived;
    }
    for (const { rank, storage } of this.#ranks) {
      const own = new Set(shareOf(meta, kind, rank));
      storage.remove(ids.filter((id) => !own.has(id)));
    }
  }

  /** A plan for a batch: a part of it is a stretch, or every so many ids. As it was made, or as it is read from JSON. */
  #plan(kind: number, pattern: Pattern, isStretch: boolean, isAsMade: boolean): readonly RedistribStep[] {
    const name = JSON.stringify([kind, pattern, isStretch, isAsMade]);
    const known = this.#plans.get(name);
    if (known !== undefined) return known;
    const batch = this.#batches[kind]!;
    const { ids, keys } = batch;
    const tracker = new GlobalStorageTracker(WORLD_SIZE);
    for (let rank = 0; rank < WORLD_SIZE; rank++) {
      for (const key of keys) tracker.addData(rank, shareOf(batch, kind, rank), key, true);
    }
    const { parts } = KINDS[kind]!.ways;
    const count = new Set(parts.filter((part) => part !== null)).size;
    const partAt = (i: number) => isStretch ? Math.floor(count * i / ids.length) : i % count;
    const dests = new Map(parts.map((part, rank) => [rank, ids.filter((_, i) => partAt(i) === part)]));
    const made = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, keys, pattern, { meta: batch });
    const plan = isAsMade ? made : parsePlan(planToJSON(made));
    this.#plans.set(name, plan);
    return plan;
  }

  /** What a rank does on the host up to the first byte, and what it tells its peers and they tell it. */
  #transfer(holdings: Holdings, meta: SequenceSample, plan: readonly RedistribStep[]): Reserved {
    const { digest, reserved, refusals } = prepare(holdings, meta, plan, false);
    if (reserved === null) throw new Error(`a rehearsal was refused: ${JSON.stringify(refusals)}`);
    const { program, outgoing, positions, catalogue } = reserved;
    const verdict = encodeVerdict({ digest, sequence: this.#round, refusals, cuts: cutsOf(program, outgoing) });
    const vote = encodeReasons([]);
    for (let rank = 0; rank < WORLD_SIZE; rank++) {
      decodeVerdict(verdict);
      decodeReasons(vote);
    }
    referenceBytes(plan, positions, catalogue, program.rank, []);
    return reserved;
  }
}

/** The ids of a batch that a rank has from the beginning. */
function shareOf({ ids }: SequenceSample, kind: number, rank: number): readonly string[] {
  const { holders } = KINDS[kind]!.ways;
  return ids.slice(rank * ids.length / holders, (rank + 1) * ids.length / holders);
}

/** Makes tensors where there is no memory. */
function tensorIn(pool: SlabPool): (dtype: DType, elements: number, key: string) => DeviceTensor {
  return (dtype, elements, key) => {
    const elementBytes = itemSize(dtype);
    return new DeviceTensor(pool.place(elements * elementBytes, key, elementBytes), dtype, [elements]);
  };
}

/** The process's rehearsal. It stays: the engine gives up code that was compiled for objects of which none is left. */
let rehearsal: Rehearsal | undefined;
/** The process's transfers with itself; they are begun once. */
let loopback: Promise<void> | undefined;
/** With less time than this, in milliseconds, they are not begun: to open a communicator and to give it up takes some of it. */
const LEAST_LOOPBACK_MS = 1_000;
/** And no more is spent on them, whatever the library may wait for. */
const MOST_LOOPBACK_MS = 5_000;

/**
 * Rehearses, once in a process: whoever comes meanwhile helps, and whoever comes later finds it done. The event loop turns all along. A rehearsal is no end in
 * itself: when half of the time is over it is left for the next to come.
 *
 * @throws {WaitEndedError} when the signal fires.
 */
export async function rehearse(device: DeviceRuntime, deadline: Deadline): Promise<void> {
  rehearsal ??= new Rehearsal(device);
  const { signal } = deadline;
  const end = performance.now() + deadline.remainingMs / 2;
  /** One slow round may last longer than there was time: only the signal ends this by an error. */
  const checkSignal = () => {
    if (signal?.aborted === true) deadline.check("the rehearsal");
  };
  while (!rehearsal.isOver && performance.now() < end) {
    rehearsal.round();
    await nextTurn();
    checkSignal();
  }
  const timeoutMs = Math.min(end - performance.now(), MOST_LOOPBACK_MS);
  if (loopback !== undefined) {
    await within(timeoutMs, loopback);
  } else if (timeoutMs >= LEAST_LOOPBACK_MS) {
    await (loopback = loopBack(device, { timeoutMs, ...(signal === undefined ? {} : { signal }) }));
  }
  checkSignal();
}

/** Never throws: what the device or the library refuses is for the real transfers to tell. */
async function loopBack(device: DeviceRuntime, options: WaitOptions): Promise<void> {
  const deadline = new Deadline(options);
  try {
    await using transfers = await Loopback.open(device, options);
    while (!transfers.isOver) await transfers.round(deadline);
  } catch {
    // It ends here.
  }
}
