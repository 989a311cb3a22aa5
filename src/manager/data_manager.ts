/**
 * The data manager: what one rank holds, and how it moves.
 *
 * @module
 */

import { Communicator, isRemoteError, requirePlace } from "../comm/communicator.ts";
import { Exchange } from "../comm/exchange.ts";
import { type DeviceRuntime, deviceRuntime } from "../device/runtime.ts";
import { SlabPool } from "../device/slab.ts";
import { ClosedError, DeadlineError, LayoutError, ManagerBusyError, PeerLostError, SeqferryError } from "../errors.ts";
import { type FlightEntry, FlightRecorder } from "../flight.ts";
import { ClusterLayout } from "../layout/cluster_layout.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";
import { Scratch } from "../scratch.ts";
import { show } from "../show.ts";
import { LatestCatalogue } from "../transfer/catalogue.ts";
import type { ReplicaGroup } from "../transfer/run.ts";
import { beforeStart, Deadline, settled, WaitEndedError, type WaitOptions } from "../wait.ts";
import { fingerprint, hexOf } from "./fingerprint.ts";
import { replicaColorings, splitReplicaGroups } from "./process_groups.ts";
import { rehearse } from "./rehearsal.ts";
import { Storage } from "./storage.ts";
import { type Prepared, type RedistribReport, type RedistributeOptions, transfer } from "./transfer.ts";

/** What {@linkcode DataManager.create} takes. */
export interface DataManagerOptions extends WaitOptions {
  /** The world's communicator; the manager owns it from now on. */
  communicator: Communicator;
  /** Which model shard sits on which rank; needed for replica groups, and for comparison with the reference. */
  layout?: ClusterLayout;
  /**
   * Whether the first manager of a process goes through some hundred small transfers, without its peers, so that the engine has compiled what the real ones
   * need: less than a second of one core, some megabytes of the device, a communicator of this rank alone, and never more than half of the deadline. True
   * unless given; a process that makes a few transfers and ends has nothing of it.
   */
  rehearse?: boolean;
}

/** What one rank remembers, told to all in the greeting of a rebuild. A rank that starts anew greets without words. */
interface Recollection {
  lastCommitted: string;
  prepared: string | null;
  sequence: number;
  hadGroups: boolean;
}

/**
 * Holds one rank's samples in device memory and redistributes them. One manager to a runtime: while one transfers, no other can reserve memory on it.
 *
 * `redistribute` is collective over the communicator: every rank calls it with the same meta and plan, ranks without a part in it too. Calls on one
 * manager queue; `store`, `update`, `remove` and `clearData` during a transfer throw {@linkcode ManagerBusyError}.
 *
 * After an abort (a deadline, an AbortSignal, a lost peer) the storage is still there and can be read; {@linkcode DataManager.rebuild} makes the
 * manager whole again.
 */
export class DataManager implements AsyncDisposable {
  readonly #device: DeviceRuntime;
  readonly #pool: SlabPool;
  readonly #storage: Storage;
  readonly #layout: ClusterLayout | undefined;
  readonly #gatherGroups: readonly (readonly number[])[];
  #communicator: Communicator;
  #exchange: Exchange;
  #replicaGroups: readonly ReplicaGroup[] = [];
  /** Whether a rebuild is to make the replica groups anew: `setupProcessGroups` has made them once. */
  #wantsGroups = false;
  #sequence = 0;
  #lastCommitted = "";
  #prepared: Prepared | null = null;
  readonly #flight = new FlightRecorder();
  readonly #catalogues = new LatestCatalogue();
  readonly #scratch = new Scratch();
  #queue: Promise<void> = Promise.resolve();
  #pending = 0;
  /** Fires when the manager is disposed. */
  readonly #ending = new AbortController();
  #disposal: Promise<void> | undefined;

  private constructor(communicator: Communicator, layout: ClusterLayout | undefined) {
    this.#communicator = communicator;
    this.#layout = layout;
    this.#gatherGroups = layout?.processGroupKeys().gather ?? [];
    this.#device = deviceRuntime(communicator.runtime);
    this.#pool = new SlabPool(this.#device);
    this.#storage = new Storage(this.#device, this.#pool);
    this.#sequence = Math.max(0, ...recollections(communicator).map((each) => each?.sequence ?? 0));
    this.#exchange = new Exchange(communicator);
  }

  /**
   * Makes a manager on a communicator, and reserves what it needs to agree with its peers. Not collective.
   *
   * @throws {DeadlineError} when the deadline passes or the signal fires; the communicator stays whole.
   * @throws {LayoutError} when the layout is for another number of ranks.
   * @throws {ClosedError} when the communicator has ended.
   * @throws {CudaError} when there is not enough device memory.
   */
  static async create(options: DataManagerOptions): Promise<DataManager> {
    const { communicator, layout } = options;
    if (!(communicator instanceof Communicator)) throw new SeqferryError("communicator is not a Communicator");
    if (!communicator.isOpen) throw new ClosedError(`the communicator of rank ${communicator.rank} has ended`);
    if (layout !== undefined && !(layout instanceof ClusterLayout)) {
      throw new LayoutError("layout is not a ClusterLayout", { field: "layout", value: layout });
    }
    if (layout !== undefined && layout.worldSize !== communicator.worldSize) {
      throw new LayoutError(
        `the layout is for worldSize ${layout.worldSize}, and the communicator has ${communicator.worldSize} ranks`,
      );
    }
    const deadline = new Deadline(options);
    try {
      deadline.check("DataManager.create");
      if (options.rehearse !== false) await rehearse(deviceRuntime(communicator.runtime), deadline);
    } catch (error) {
      throw beforeStart("no manager was made", error);
    }
    return new DataManager(communicator, layout);
  }

  /** This rank. */
  get rank(): number {
    return this.#communicator.rank;
  }

  /** How many ids are stored. */
  get storageSize(): number {
    return this.#storage.size;
  }

  /** The ids stored, in the order in which they came. */
  get ids(): string[] {
    return this.#storage.ids();
  }

  /**
   * Makes a communicator for each group of replicas of the destination models, so that one copy to a group can be broadcast within it. Collective;
   * without a layout it returns at once.
   *
   * @throws {LayoutError} on all ranks when their layouts differ.
   * @throws {DeadlineError} or {@linkcode PeerLostError}; then the communicator was aborted.
   * @throws {ClosedError} as {@linkcode DataManager.redistribute} does.
   */
  setupProcessGroups(options: WaitOptions = {}): Promise<void> {
    const layout = this.#layout;
    if (layout === undefined) return Promise.resolve();
    return this.#inTurn(
      "setupProcessGroups",
      options,
      (deadline) => this.#orAbort("setupProcessGroups", () => this.#split(layout, deadline)),
    );
  }

  /**
   * Takes a sample of one id, which must be new. Tensors on the host are copied to the device before this returns; tensors on this rank's device are shared.
   *
   * @throws {SampleError} for a sample of several ids, an id that is there, or a tensor that is elsewhere.
   * @throws {CudaError} when there is not enough device memory; then nothing has changed.
   * @throws {ManagerBusyError} in the middle of a transfer.
   */
  store(sample: SequenceSample): void {
    this.#mustBeIdle("store");
    this.#storage.store(sample);
  }

  /** Takes a sample of one id, which must be there; its keys are replaced, other keys stay. Throws as {@linkcode DataManager.store} does. */
  update(sample: SequenceSample): void {
    this.#mustBeIdle("update");
    this.#storage.update(sample);
  }

  /**
   * The sample of an id, its data borrowed handles: valid until that id is updated or removed or the manager disposed.
   *
   * @throws {SampleError} for an id that is not there.
   */
  get(id: string): SequenceSample {
    this.#mustBeOpen();
    return this.#storage.get(id);
  }

  /** Whether an id is stored. */
  hasData(id: string): boolean {
    return this.#storage.has(id);
  }

  /** The flight record: what this rank's transfers enqueued, started and finished, oldest first; the last {@linkcode FLIGHT_CAPACITY} entries. */
  flight(): FlightEntry[] {
    return this.#flight.entries();
  }

  /** Lets ids go; unknown ones are passed over. Throws a {@linkcode SampleError} for what is no array of strings, and then lets none go. */
  remove(ids: readonly string[]): void {
    this.#mustBeIdle("remove");
    this.#storage.remove(ids);
  }

  /** Lets everything go. */
  clearData(): void {
    this.#mustBeIdle("clearData");
    this.#storage.clear();
  }

  /**
   * Brings the samples where the plan says. Collective. All ranks install what they received, or none does.
   *
   * @param meta Ids, keys, dtypes, shapes and lengths of what moves, and the metadata to install; its data is not looked at. It stays as it is, for good:
   * what was made out of it is used again in the next transfer that is given it.
   * @param plan The steps, each of which stays as it is until the promise settles.
   * @throws {TypeError} for an `onProgress` or a `signal` that is none.
   * @throws {RedistributeRefusedError} on all ranks, before the first byte, with all ranks' reasons.
   * @throws {DeadlineError} when the deadline passes or the signal fires, and {@linkcode PeerLostError} when a peer is gone; then the communicator
   * was aborted.
   * @throws {VerificationError} on all ranks when `verify` finds a difference; nothing was installed.
   * @throws {DeadlineError} also when its turn does not come in time; then the communicator stays whole.
   * @throws {ClosedError} after an abort that no {@linkcode DataManager.rebuild} followed, and when the manager is disposed.
   */
  async redistribute(
    meta: SequenceSample,
    plan: readonly RedistribStep[],
    options: RedistributeOptions = {},
  ): Promise<RedistribReport> {
    const { onProgress } = options;
    if (onProgress !== undefined && typeof onProgress !== "function") {
      throw new TypeError(`onProgress is a function, not ${show(onProgress)}`);
    }
    // The caller may go on to make the next plan out of this one.
    const steps = Array.isArray(plan) ? plan.slice() : plan;
    return await this.#inTurn("the transfer", options, async (deadline) => {
      const { rank, worldSize } = this.#communicator;
      const context = {
        holdings: {
          rank,
          worldSize,
          device: this.#device,
          storage: this.#storage,
          pool: this.#pool,
          replicaGroups: this.#replicaGroups,
          catalogues: this.#catalogues,
          scratch: this.#scratch,
        },
        communicator: this.#communicator,
        exchange: this.#exchange,
        gatherGroups: this.#gatherGroups,
        sequence: this.#sequence,
        lastCommitted: this.#lastCommitted,
        prepared: this.#prepared,
        flight: this.#flight,
      };
      try {
        return await transfer(context, meta, steps, options, deadline);
      } finally {
        this.#sequence = context.sequence;
        this.#lastCommitted = context.lastCommitted;
        this.#prepared = context.prepared;
      }
    });
  }

  /**
   * Makes the manager whole after an abort. Collective: same ranks, same world size, a new unique id. A rank that was restarted takes part by
   * `Communicator.init` with that unique id. A transfer whose outcome was unknown is settled first: if any rank committed it, all who prepared it
   * install it, else all discard it. Replica groups are made anew where all ranks had them.
   *
   * @throws {DeadlineError} when not all ranks take part in time, and {@linkcode PeerLostError} when one is lost meanwhile; rebuild again with another unique id.
   * @throws {SeqferryError} for a unique id that cannot be; then nothing has changed.
   * @throws {ManagerBusyError} in the middle of a transfer, and {@linkcode ClosedError} when the manager is disposed meanwhile.
   */
  async rebuild(options: { uniqueId: Uint8Array } & WaitOptions): Promise<void> {
    this.#mustBeOpen();
    if (this.#pending > 0) throw new ManagerBusyError("rebuild was called in the middle of a transfer");
    const { uniqueId, ...waiting } = options;
    const signals = waiting.signal === undefined ? [] : [waiting.signal];
    const deadline = new Deadline({ ...waiting, signal: AbortSignal.any([this.#ending.signal, ...signals]) });
    await this.#enqueue("rebuild", deadline, () =>
      this.#renew(uniqueId, deadline).catch((error) => {
        throw this.#closed ? new ClosedError("the data manager was disposed", { cause: error }) : error;
      }));
  }

  async #renew(uniqueId: Uint8Array, deadline: Deadline): Promise<void> {
    const { rank, worldSize } = this.#communicator;
    // What could be refused is refused before what there is comes to an end.
    requirePlace(uniqueId, rank, worldSize);
    deadline.check("rebuild");
    this.#communicator.abort();
    await this.#communicator.released(deadline);
    const mine: Recollection = {
      lastCommitted: this.#lastCommitted,
      prepared: this.#prepared?.transferId ?? null,
      sequence: this.#sequence,
      hadGroups: this.#wantsGroups,
    };
    const communicator = await Communicator.init(this.#device, {
      uniqueId,
      rank,
      worldSize,
      greeting: new TextEncoder().encode(JSON.stringify(mine)),
      timeoutMs: deadline.remainingMs,
      ...(deadline.signal === undefined ? {} : { signal: deadline.signal }),
    });
    let exchange: Exchange;
    try {
      exchange = new Exchange(communicator);
    } catch (error) {
      communicator.abort();
      await communicator.ended();
      throw error;
    }
    this.#exchange[Symbol.dispose]();
    this.#communicator = communicator;
    this.#exchange = exchange;
    this.#replicaGroups = [];
    await this.#orAbort("rebuild", () => this.#settle(deadline));
  }

  /** Ends what is under way by an abort, lets all data go, and closes the communicator; never waits for a peer beyond a short grace. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposal ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    this.#ending.abort();
    if (this.#pending > 0) this.#communicator.abort();
    await this.#queue;
    this.#dropPrepared();
    this.#storage.clear();
    await this.#communicator[Symbol.asyncDispose]();
    this.#exchange[Symbol.dispose]();
    this.#pool[Symbol.dispose]();
  }

  async #split(layout: ClusterLayout, deadline: Deadline): Promise<void> {
    const digest = hexOf(fingerprint(new TextEncoder().encode(JSON.stringify(layout.toJSON()))));
    const words = await this.#exchange.gather("setupProcessGroups", new TextEncoder().encode(digest), deadline);
    const digests = words.map((bytes) => new TextDecoder().decode(bytes));
    const differing = [...digests.keys()].filter((rank) => digests[rank] !== digests[0]);
    if (differing.length > 0) {
      throw new LayoutError(`the layouts of rank ${differing.join(", rank ")} differ from that of rank 0`);
    }
    if (this.#replicaGroups.length > 0) return;
    this.#replicaGroups = await splitReplicaGroups(this.#communicator, replicaColorings(layout), deadline);
    this.#wantsGroups = true;
  }

  async #settle(deadline: Deadline): Promise<void> {
    const all = recollections(this.#communicator);
    this.#sequence = Math.max(...all.map((each) => each?.sequence ?? 0));
    const prepared = this.#prepared;
    if (prepared !== null && all.some((each) => each?.lastCommitted === prepared.transferId)) {
      this.#prepared = null;
      this.#storage.install(prepared.samples);
      this.#lastCommitted = prepared.transferId;
    } else {
      this.#dropPrepared();
    }
    this.#wantsGroups = all.every((each) => each?.hadGroups === true);
    if (this.#wantsGroups) await this.#split(this.#layout!, deadline);
  }

  #dropPrepared(): void {
    for (const sample of this.#prepared?.samples ?? []) sample.release();
    this.#prepared = null;
  }

  /** Runs a collective after those before it, all within the time that the call has. */
  async #inTurn<T>(what: string, options: WaitOptions, run: (deadline: Deadline) => Promise<T>): Promise<T> {
    const deadline = new Deadline(options);
    return await this.#enqueue(what, deadline, () => {
      this.#mustBeOpen();
      if (!this.#communicator.isOpen) {
        throw new ClosedError(`the communicator of rank ${this.rank} was aborted: call rebuild`);
      }
      return run(deadline);
    });
  }

  async #enqueue<T>(what: string, deadline: Deadline, run: () => Promise<T>): Promise<T> {
    const before = this.#queue;
    const { promise: done, resolve: end } = Promise.withResolvers<void>();
    // Whoever gives up before its turn has come lets nobody pass.
    this.#queue = before.then(() => done);
    try {
      if (this.#pending++ > 0) await settled("the wait for its turn", before, deadline);
      return await run();
    } catch (error) {
      throw this.#told(beforeStart(`${what} was not begun`, error));
    } finally {
      this.#pending--;
      end();
    }
  }

  /** Runs a collective that aborts the communicator when it cannot be brought to its end. */
  async #orAbort<T>(what: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (error instanceof LayoutError) throw error;
      const facts = { phase: -1, outcome: this.#prepared === null ? "unchanged" : "unknown" } as const;
      const lost = isRemoteError(error) ? this.#communicator.lostPeer() : null;
      const outstanding = error instanceof WaitEndedError ? this.#communicator.awaitedPeers() : [];
      this.#communicator.abort();
      await this.#communicator.ended();
      if (error instanceof WaitEndedError) {
        throw new DeadlineError(`${what}: ${error.message}`, { ...facts, outstanding }, {
          cause: error.cause ?? error,
        });
      }
      if (isRemoteError(error)) {
        const who = lost === null ? "a peer" : `rank ${lost}`;
        throw new PeerLostError(`${what}: ${who} is gone`, { ...facts, rank: lost }, { cause: error });
      }
      throw error;
    }
  }

  /** An error with what this rank has done so far, and with what is known of its storage. */
  #told(error: unknown): unknown {
    if (!(error instanceof SeqferryError)) return error;
    // As long as what was prepared is not settled, its outcome is in doubt.
    const outcome = this.#prepared === null ? error.outcome : "unknown";
    return Object.assign(error, { flight: error.flight ?? this.flight() }, outcome === undefined ? {} : { outcome });
  }

  get #closed(): boolean {
    return this.#ending.signal.aborted;
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new ClosedError("the data manager was disposed");
  }

  #mustBeIdle(what: string): void {
    this.#mustBeOpen();
    if (this.#pending > 0) throw new ManagerBusyError(`${what} was called in the middle of a transfer`);
  }
}

/** What the ranks of a communicator remember; null for one that started anew, and for one whose greeting says something else. */
function recollections(communicator: Communicator): (Recollection | null)[] {
  return communicator.greetings.map((bytes) => {
    try {
      const words = JSON.parse(new TextDecoder().decode(bytes));
      return Number.isSafeInteger(words?.sequence) ? words as Recollection : null;
    } catch {
      return null;
    }
  });
}
