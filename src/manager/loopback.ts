/**
 * Transfers of a rank with itself: the part of a rehearsal that has a device and a communicator, and no peer.
 *
 * Three ranks are to swap their samples. This process is one of them, and stands for the others as well: what it would send to them it sends to itself, and
 * takes that for what would come from them. So everything that a transfer does is done, from the agreement to the commit, and all of it is real.
 *
 * @module
 */

import { Communicator } from "../comm/communicator.ts";
import { Exchange } from "../comm/exchange.ts";
import type { DeviceRuntime } from "../device/runtime.ts";
import { SlabPool } from "../device/slab.ts";
import { FlightRecorder } from "../flight.ts";
import { type Pattern, RedistribPlanner } from "../plan/planner.ts";
import { fence, type RedistribStep } from "../plan/step.ts";
import { GlobalStorageTracker } from "../plan/storage_tracker.ts";
import { itemSize } from "../sample/dtype.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import { Scratch } from "../scratch.ts";
import { LatestCatalogue } from "../transfer/catalogue.ts";
import type { Message } from "../transfer/program.ts";
import { type Deadline, pollUntil, type WaitOptions } from "../wait.ts";
import { ALL_KEYS, batchOf, type BatchShape, partOf } from "./rehearsal_batch.ts";
import { type Holdings, prepare } from "./reservation.ts";
import { Storage } from "./storage.ts";
import { carryOut, type TransferContext } from "./transfer.ts";

/** Each is one transfer. */
const ROUNDS = 400;
/** The ranks that this process stands for. */
const WORLD_SIZE = 3;
/** Patterns by which in each phase as much arrives as leaves, and in the same pieces. */
const PATTERNS: readonly Pattern[] = ["direct", "bcast"];
/** Polls behind each transfer: with a peer there is more to wait for. */
const POLLS = 16;

/** A batch, and whether it is stored from its end on, so that what leaves together does not lie together. */
interface Kind extends BatchShape {
  readonly backwards: boolean;
}

/** What leaves from where it lies, what is packed before, and what is cut. All sequences of a key are equally long, for so are all messages then. */
const KINDS: readonly Kind[] = [
  { ids: 60, sequences: 1, length: 200, spread: 0, keys: ["tokens"], backwards: false },
  { ids: 60, sequences: 1, length: 100, spread: 0, keys: ALL_KEYS, backwards: true },
  { ids: 12, sequences: 1, length: 20_000, spread: 0, keys: ["tokens"], backwards: true },
];

/** One batch with its plans and what holds it. */
interface Stock {
  readonly meta: SequenceSample;
  readonly plans: readonly (readonly RedistribStep[])[];
  readonly context: TransferContext;
  /** What a transfer brings, and what is let go behind it. */
  readonly arriving: readonly string[];
}

/** The transfers, one after another. */
export class Loopback implements AsyncDisposable {
  readonly #stocks: readonly Stock[];
  readonly #resources: AsyncDisposableStack;
  #round = 0;

  private constructor(stocks: readonly Stock[], resources: AsyncDisposableStack) {
    this.#stocks = stocks;
    this.#resources = resources;
  }

  /** Makes a communicator of one rank, and stores what is to be moved. All or nothing. */
  static async open(device: DeviceRuntime, options: WaitOptions = {}): Promise<Loopback> {
    await using resources = new AsyncDisposableStack();
    const uniqueId = device.createUniqueId();
    const communicator = resources.use(
      await Communicator.init(device, { ...options, uniqueId, rank: 0, worldSize: 1 }),
    );
    const exchange = new Exchange(communicator);
    // It is done with when the communicator has ended.
    resources.defer(async () => {
      await communicator[Symbol.asyncDispose]();
      exchange[Symbol.dispose]();
    });
    const stocks: Stock[] = [];
    for (const [i, kind] of KINDS.entries()) {
      const pool = resources.use(new SlabPool(device));
      const storage = new Storage(device, pool);
      resources.defer(() => storage.clear());
      stocks.push(stockOf(kind, `loopback-${i}`, { device, pool, storage, communicator, exchange }));
    }
    return new Loopback(stocks, resources.move());
  }

  /** Whether all has been gone through. */
  get isOver(): boolean {
    return this.#round >= ROUNDS;
  }

  /** One transfer. Resolves with how many (id, key)s it installed. */
  async round(deadline: Deadline): Promise<number> {
    const round = this.#round++;
    const { meta, plans, context, arriving } = this.#stocks[round % KINDS.length]!;
    const plan = plans[Math.floor(round / KINDS.length) % plans.length]!;
    const started = performance.now();
    const preparation = prepare(context.holdings, meta, plan, false);
    for (const { sends, receives } of preparation.reserved?.program.phases ?? []) {
      for (const message of [...sends, ...receives]) toSelf(message);
    }
    const { installed } = await carryOut(context, preparation, plan, {}, deadline, started);
    context.holdings.storage.remove(arriving);
    let polls = 0;
    await pollUntil("the rehearsal", () => context.communicator.stream.isIdle() && ++polls > POLLS, deadline);
    return installed;
  }

  /** Lets everything go, and what a vote that failed has left in doubt. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { context: { prepared } } of this.#stocks) prepared?.samples.forEach((sample) => sample.release());
    await this.#resources.disposeAsync();
  }
}

/** Sends to rank 0 what another would get, and takes from there what another would send. In place: a copy would be of another shape to the engine. */
function toSelf(message: { -readonly [K in keyof Message]: Message[K] }): void {
  message.peer = 0;
}

/** Stores the first third of a batch; one half of each third is to go to either of the other ranks. */
function stockOf(
  kind: Kind,
  name: string,
  { device, pool, storage, communicator, exchange }:
    & Pick<Holdings, "device" | "pool" | "storage">
    & Pick<TransferContext, "communicator" | "exchange">,
): Stock {
  const meta = batchOf(kind, name);
  const part = kind.ids / (2 * WORLD_SIZE);
  /** The ids of a rank that are for the next one, or for the one after that. */
  const half = (rank: number, which: number) => {
    const start = (2 * (rank % WORLD_SIZE) + which) * part;
    return meta.ids.slice(start, start + part);
  };
  const tracker = new GlobalStorageTracker(WORLD_SIZE);
  for (let rank = 0; rank < WORLD_SIZE; rank++) {
    for (const key of meta.keys) tracker.addData(rank, [...half(rank, 0), ...half(rank, 1)], key, true);
  }
  const dests = new Map(
    Array.from({ length: WORLD_SIZE }, (_, rank) => [rank, [...half(rank + 2, 0), ...half(rank + 1, 1)]] as const),
  );
  const own = [...half(0, 0), ...half(0, 1)];
  for (const id of kind.backwards ? own.toReversed() : own) {
    storage.store(
      partOf(meta, id, (dtype, elements) => ({
        dtype,
        shape: [elements],
        bytes: new Uint8Array(elements * itemSize(dtype)),
      })),
    );
  }
  const plan = (pattern: Pattern, keys: readonly string[]) =>
    new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, keys, pattern, { meta });
  const betweenOthers: RedistribStep = {
    commType: "exchange",
    root: null,
    srcs: [1],
    dsts: [[2]],
    ids: [half(1, 1)],
    keys: [...meta.keys],
  };
  return {
    meta,
    plans: PATTERNS.flatMap((pattern) => [
      plan(pattern, meta.keys),
      // Each key in a phase of its own, and then one in which this rank has no part.
      [...meta.keys.flatMap((key) => [...plan(pattern, [key]), fence([key])]), betweenOthers],
    ]),
    arriving: dests.get(0)!,
    context: {
      holdings: {
        rank: 0,
        worldSize: WORLD_SIZE,
        device,
        storage,
        pool,
        replicaGroups: [],
        catalogues: new LatestCatalogue(),
        scratch: new Scratch(),
      },
      communicator,
      exchange,
      gatherGroups: [],
      sequence: 0,
      lastCommitted: "",
      prepared: null,
      flight: new FlightRecorder(),
    },
  };
}
