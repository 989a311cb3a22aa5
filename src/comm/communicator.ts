/**
 * Communicators: who can talk to whom, in which order.
 *
 * All are nonblocking: a call starts something, and the state is polled. One communicator has one stream; those split from it share the stream, so
 * that all NCCL calls of a device have one order.
 *
 * @module
 */

import { encodeNcclConfig } from "../../ffi/structs.ts";
import { NCCL_SPLIT_NOCOLOR, ncclInProgress, ncclRemoteError, ncclSuccess } from "../../ffi/constants.ts";
import type { Libraries } from "../../ffi/open.ts";
import { ncclError } from "../../ffi/status.ts";
import { type DeviceRuntime, deviceRuntime, type Runtime } from "../device/runtime.ts";
import { Event, Stream } from "../device/stream.ts";
import { ClosedError, DeadlineError, NcclError, PeerLostError, SeqferryError } from "../errors.ts";
import { beforeStart, Deadline, pollUntil, settled, WaitEndedError, type WaitOptions } from "../wait.ts";
import { Exchange } from "./exchange.ts";
import { GroupCalls, IssuedGroup } from "./group.ts";

/** How long an orderly end may wait for the peers, and how long anything waits for an abort to come through. */
const GRACE_MS = 500;

/** What {@linkcode Communicator.init} needs to know. */
export interface CommunicatorOptions extends WaitOptions {
  /** The 128 bytes that one process made with `createUniqueId`; the same on all ranks. */
  uniqueId: Uint8Array;
  /** This rank: 0 to worldSize - 1. */
  rank: number;
  /** How many ranks join. */
  worldSize: number;
  /** A few bytes that this rank tells all others on joining; none unless given. */
  greeting?: Uint8Array;
}

/** A nonblocking NCCL communicator with its stream. */
export class Communicator implements AsyncDisposable {
  /** This rank: 0 to worldSize - 1. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly worldSize: number;
  /** The runtime it was made with. */
  readonly runtime: Runtime;
  /** What each rank told on joining, in the order of ranks; empty for a communicator that was split off. */
  greetings: readonly Uint8Array[] = [];
  /** Where its operations are enqueued; shared with the communicators split from it. */
  readonly stream: Stream;
  readonly #device: DeviceRuntime;
  readonly #parent: Communicator | null;
  readonly #children = new Set<Communicator>();
  /** Few as a rule, and mostly one: a Set would be made larger and smaller again for each. */
  readonly #outstanding: IssuedGroup[] = [];
  readonly #freeEvents: Event[] = [];
  readonly #stateOut = new Int32Array(1);
  #calls: GroupCalls;
  /** Where the library writes the communicators that are split off, some time later: also after a split that was given up. */
  readonly #splits: BigUint64Array[] = [];
  #handle: bigint;
  #state: "open" | "closing" | "aborted" | "closed" = "open";
  #end: Promise<void> | undefined;

  private constructor(
    device: DeviceRuntime,
    handle: bigint,
    rank: number,
    worldSize: number,
    stream: Stream,
    parent: Communicator | null,
  ) {
    this.#device = device;
    this.#handle = handle;
    this.rank = rank;
    this.worldSize = worldSize;
    this.runtime = device;
    this.stream = stream;
    this.#parent = parent;
    this.#calls = new GroupCalls(device.libraries, handle, stream);
  }

  /**
   * Joins the other ranks. Collective: resolves when all `worldSize` ranks have called it with the same unique id.
   *
   * @throws {SeqferryError} for a rank, world size or unique id that cannot be.
   * @throws {NcclError} when the library refuses.
   * @throws {DeadlineError} when not all have joined in time, and {@linkcode PeerLostError} when one that had joined is gone.
   */
  static async init(runtime: Runtime, options: CommunicatorOptions): Promise<Communicator> {
    const { uniqueId, rank, worldSize } = options;
    requirePlace(uniqueId, rank, worldSize);
    const deadline = new Deadline(options);
    try {
      deadline.check(`ncclCommInitRankConfig on rank ${rank}`);
    } catch (error) {
      throw beforeStart(`rank ${rank} did not join`, error);
    }
    const device = deviceRuntime(runtime);
    const { libraries } = device;
    const stream = new Stream(device);
    const out = new BigUint64Array(1);
    const config = encodeNcclConfig({ version: libraries.nccl.version, blocking: false });
    const id = new Uint8Array(uniqueId);
    try {
      device.makeCurrent();
      const code = libraries.nccl.symbols.ncclCommInitRankConfig(out, worldSize, id, rank, config);
      if (code !== ncclSuccess && code !== ncclInProgress) throw ncclError(libraries, "ncclCommInitRankConfig", code);
    } catch (error) {
      stream[Symbol.dispose]();
      throw error;
    }
    const communicator = new Communicator(device, out[0]!, rank, worldSize, stream, null);
    let exchange: Exchange | undefined;
    try {
      await communicator.settled("ncclCommInitRankConfig", deadline);
      exchange = new Exchange(communicator);
      const greetings = await exchange.gather("the greeting", options.greeting ?? new Uint8Array(), deadline);
      communicator.greetings = greetings.map((greeting) => greeting.slice());
    } catch (error) {
      const missing = communicator.awaitedPeers();
      const lost = isRemoteError(error) ? communicator.lostPeer() : null;
      communicator.abort();
      await communicator.ended();
      if (isRemoteError(error)) {
        throw new PeerLostError(
          `rank ${rank} was to join ${worldSize - 1} peers, and ${lost === null ? "one" : `rank ${lost}`} is gone`,
          { rank: lost, phase: -1, outcome: "unchanged" },
          { cause: error },
        );
      }
      if (!(error instanceof WaitEndedError)) throw error;
      throw new DeadlineError(
        `rank ${rank} waited for ${worldSize - 1} peers to join: ${error.message}`,
        { phase: -1, outstanding: missing, outcome: "unchanged" },
        { cause: error.cause ?? error },
      );
    } finally {
      exchange?.[Symbol.dispose]();
    }
    return communicator;
  }

  /** Whether operations can be issued. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Issues operations as one group: they start together, and complete together. No `await` can come between them. */
  async group(what: string, issue: (calls: GroupCalls) => void, deadline: Deadline): Promise<IssuedGroup> {
    this.#mustBeOpen();
    const { libraries } = this.#device;
    this.#device.makeCurrent();
    // Before the group is open: what throws in between would leave it open, and the thread's other ranks in it.
    const event = this.#freeEvents.pop() ?? new Event(this.#device);
    let code = libraries.nccl.symbols.ncclGroupStart();
    if (code !== ncclSuccess) {
      this.#freeEvents.push(event);
      throw ncclError(libraries, "ncclGroupStart", code);
    }
    const group = new IssuedGroup(event, () => this.#check(what), (finished) => this.#finished(finished));
    this.#outstanding.push(group);
    this.#device.groupStarted();
    try {
      issue(this.#calls);
    } finally {
      code = libraries.nccl.symbols.ncclGroupEnd();
    }
    if (code !== ncclSuccess && code !== ncclInProgress) throw ncclError(libraries, "ncclGroupEnd", code);
    // Until the group is enqueued no other call may be made on the communicator, and no work put on its stream.
    await this.settled(what, deadline);
    this.#mustBeOpen();
    event.record(this.stream);
    return group;
  }

  /** Resolves when the last call on this communicator has come through. */
  async settled(what: string, deadline: Deadline): Promise<void> {
    if (!this.#inProgress(what)) return;
    await pollUntil(what, () => !this.#inProgress(what), deadline);
  }

  /**
   * Splits off communicators, one for each color; collective. Ranks with a negative color get none. Members are ordered by their rank here.
   */
  async split(color: number, deadline: Deadline): Promise<Communicator | null> {
    this.#mustBeOpen();
    const { libraries } = this.#device;
    const out = new BigUint64Array(1);
    this.#splits.push(out);
    this.#device.makeCurrent();
    const code = libraries.nccl.symbols.ncclCommSplit(
      this.#handle,
      color < 0 ? NCCL_SPLIT_NOCOLOR : color,
      this.rank,
      out,
      null,
    );
    if (code !== ncclSuccess && code !== ncclInProgress) throw ncclError(libraries, "ncclCommSplit", code);
    await this.settled("ncclCommSplit", deadline);
    this.#mustBeOpen();
    const handle = out[0]!;
    if (handle === 0n) return null;
    const number = new Int32Array(1);
    const inProgress = () => isInProgress(libraries, handle, number, "ncclCommSplit");
    if (inProgress()) await pollUntil("ncclCommSplit", () => !inProgress(), deadline);
    const rankCode = libraries.nccl.symbols.ncclCommUserRank(handle, number);
    if (rankCode !== ncclSuccess) throw ncclError(libraries, "ncclCommUserRank", rankCode);
    const rank = number[0]!;
    const countCode = libraries.nccl.symbols.ncclCommCount(handle, number);
    if (countCode !== ncclSuccess) throw ncclError(libraries, "ncclCommCount", countCode);
    const child = new Communicator(this.#device, handle, rank, number[0]!, this.stream, this);
    this.#children.add(child);
    return child;
  }

  /**
   * The peers that this rank's unfinished operations still wait for, as far as the library tells; sorted. Where it does not, all of `suspects`
   * (every peer, unless given). Best asked before the abort.
   */
  awaitedPeers(suspects?: readonly number[]): number[] {
    const everyone = suspects ??
      Array.from({ length: this.worldSize }, (_, rank) => rank).filter((rank) => rank !== this.rank);
    const extras = this.#device.libraries.cpu;
    if (extras === null || this.#handle === 0n || this.#state !== "open") return [...everyone];
    const flags = new Uint8Array(this.worldSize);
    if (extras.seqferryCpuOutstanding(this.#handle, flags, BigInt(this.worldSize)) !== 0) return [...everyone];
    return Array.from(flags.keys()).filter((rank) => flags[rank] === 1 && rank !== this.rank);
  }

  /** The rank whose process the library found dead, or null where it did not say. */
  lostPeer(): number | null {
    const extras = this.#device.libraries.cpu;
    if (extras === null || this.#handle === 0n || this.#state !== "open") return null;
    const rank = extras.seqferryCpuLostPeer(this.#handle);
    return rank < 0 ? null : rank;
  }

  /** At once, never waits for a peer; nothing is issued on this communicator any more. What it had outstanding is dropped. */
  abort(): void {
    if (this.#state !== "open" && this.#state !== "closing") return;
    this.#state = "aborted";
    for (const child of this.#children) child.abort();
    const handle = this.#handle;
    this.#handle = 0n;
    // Blocks inside NCCL whatever the communicator's mode, so it runs on the thread pool.
    const aborted = handle === 0n
      ? Promise.resolve(ncclSuccess)
      : this.#device.libraries.nccl.symbols.ncclCommAbort(handle);
    this.#end = Promise.all([aborted, ...[...this.#children].map((child) => child.#end)]).then(() => this.#release());
  }

  /** Resolves when an abort or an orderly end has come through, or after a short grace. */
  async ended(): Promise<void> {
    try {
      await this.released(new Deadline({ timeoutMs: GRACE_MS }));
    } catch (error) {
      if (!(error instanceof WaitEndedError)) throw error;
    }
  }

  /**
   * Resolves when an abort or an orderly end has come through, which may take the library seconds. Until then what was outstanding still is, and no device memory
   * can be had.
   *
   * @throws {WaitEndedError} when the deadline passes or the signal fires first.
   */
  async released(deadline: Deadline): Promise<void> {
    if (this.#end !== undefined) await settled(`the end of the communicator of rank ${this.rank}`, this.#end, deadline);
  }

  /** Finalizes with a short grace, then aborts; never waits for a peer beyond the grace. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === "open") {
      this.#state = "closing";
      for (const child of this.#children) await child[Symbol.asyncDispose]();
      if (await this.#finalized()) {
        this.#state = "closed";
        const handle = this.#handle;
        this.#handle = 0n;
        // An intra-node collective that blocks: on the thread pool, and never waited for beyond the grace.
        this.#end = Promise.resolve(this.#device.libraries.nccl.symbols.ncclCommDestroy(handle)).then(() =>
          this.#release()
        );
      } else {
        this.abort();
      }
    }
    await this.ended();
  }

  async #finalized(): Promise<boolean> {
    const code = this.#device.libraries.nccl.symbols.ncclCommFinalize(this.#handle);
    if (code !== ncclSuccess && code !== ncclInProgress) return false;
    try {
      await this.settled("ncclCommFinalize", new Deadline({ timeoutMs: GRACE_MS }));
      return true;
    } catch (error) {
      if (error instanceof WaitEndedError || error instanceof NcclError) return false;
      throw error;
    }
  }

  /** The communicator is gone from the library: so is all that it had outstanding. */
  #release(): void {
    for (const group of [...this.#outstanding]) group.finish();
    for (const event of this.#freeEvents.splice(0)) event[Symbol.dispose]();
    if (this.#parent === null) this.stream[Symbol.dispose]();
    else this.#parent.#children.delete(this);
  }

  #finished(group: IssuedGroup): void {
    this.#outstanding.splice(this.#outstanding.indexOf(group), 1);
    this.#device.groupFinished();
    // One for the next group; a transfer of many phases needs more only while it runs.
    if (this.#freeEvents.length === 0) this.#freeEvents.push(group.event);
    else group.event[Symbol.dispose]();
  }

  #mustBeOpen(): void {
    if (this.#state !== "open") throw new ClosedError(`the communicator of rank ${this.rank} is ${this.#state}`);
  }

  /** Throws when this communicator has failed, or the one it was split from: whom it waits for may itself wait for a rank that is gone. */
  #check(what: string): void {
    this.#mustBeOpen();
    this.#inProgress(what);
    if (this.#parent !== null) this.#parent.#check(what);
  }

  /** Asks for the asynchronous state; throws when it is an error. */
  #inProgress(what: string): boolean {
    if (this.#handle === 0n) throw new ClosedError(`the communicator of rank ${this.rank} is ${this.#state}`);
    return isInProgress(this.#device.libraries, this.#handle, this.#stateOut, what);
  }
}

/** Refuses what no rank can join with. */
export function requirePlace(uniqueId: Uint8Array, rank: number, worldSize: number): void {
  if (!Number.isInteger(worldSize) || worldSize < 1 || worldSize > 0x7fffffff) {
    throw new SeqferryError(`worldSize is a number of ranks from 1 up, not ${worldSize}`);
  }
  if (!Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
    throw new SeqferryError(`rank is from 0 to ${worldSize - 1}, not ${rank}`);
  }
  if (!(uniqueId instanceof Uint8Array) || uniqueId.byteLength !== 128) {
    throw new SeqferryError(
      `uniqueId is the 128 bytes of createUniqueId, not ${uniqueId?.byteLength ?? uniqueId} bytes`,
    );
  }
}

/** Asks a communicator for its asynchronous state; `out` holds one number. Throws when the state is an error. */
function isInProgress(libraries: Libraries, handle: bigint, out: Int32Array<ArrayBuffer>, what: string): boolean {
  const code = libraries.nccl.symbols.ncclCommGetAsyncError(handle, out);
  if (code !== ncclSuccess && code !== ncclInProgress) throw ncclError(libraries, "ncclCommGetAsyncError", code);
  const state = out[0]!;
  if (state === ncclSuccess) return false;
  if (state === ncclInProgress) return true;
  throw ncclError(libraries, what, state);
}

/** Whether an error says that a peer is gone. */
export function isRemoteError(error: unknown): error is NcclError {
  return error instanceof NcclError && error.code === ncclRemoteError;
}
