/**
 * Groups of NCCL calls.
 *
 * @module
 */

import { ncclDataType, ncclInProgress } from "../../ffi/constants.ts";
import { ncclError } from "../../ffi/status.ts";
import type { Libraries } from "../../ffi/open.ts";
import type { Event, Stream } from "../device/stream.ts";

/** How many operations one group may hold; larger ones split into many kernels inside NCCL and get slow. */
export const MAX_GROUP_OPERATIONS = 1024;

/** The calls that a group is made of. All counts are bytes: on the wire everything is `ncclUint8`. */
export class GroupCalls {
  readonly #libraries: Libraries;
  readonly #communicator: bigint;
  readonly #stream: bigint;

  /** Bound to one communicator and its stream. */
  constructor(libraries: Libraries, communicator: bigint, stream: Stream) {
    this.#libraries = libraries;
    this.#communicator = communicator;
    this.#stream = stream.handle;
  }

  /** Sends `byteLength` bytes at a device address to `peer`. */
  send(address: bigint, byteLength: number, peer: number): void {
    const code = this.#libraries.nccl.symbols.ncclSend(
      address,
      BigInt(byteLength),
      ncclDataType.uint8,
      peer,
      this.#communicator,
      this.#stream,
    );
    if (code !== 0 && code !== ncclInProgress) throw ncclError(this.#libraries, "ncclSend", code);
  }

  /** Receives `byteLength` bytes from `peer` at a device address. */
  receive(address: bigint, byteLength: number, peer: number): void {
    const code = this.#libraries.nccl.symbols.ncclRecv(
      address,
      BigInt(byteLength),
      ncclDataType.uint8,
      peer,
      this.#communicator,
      this.#stream,
    );
    if (code !== 0 && code !== ncclInProgress) throw ncclError(this.#libraries, "ncclRecv", code);
  }

  /** Copies `byteLength` bytes at `address` of `root` to `address` of all. */
  broadcast(address: bigint, byteLength: number, root: number): void {
    const code = this.#libraries.nccl.symbols.ncclBroadcast(
      address,
      address,
      BigInt(byteLength),
      ncclDataType.uint8,
      root,
      this.#communicator,
      this.#stream,
    );
    if (code !== 0 && code !== ncclInProgress) throw ncclError(this.#libraries, "ncclBroadcast", code);
  }

  /** Brings `byteLength` bytes of each rank to all, in the order of ranks. */
  allGather(from: bigint, to: bigint, byteLength: number): void {
    const code = this.#libraries.nccl.symbols.ncclAllGather(
      from,
      to,
      BigInt(byteLength),
      ncclDataType.uint8,
      this.#communicator,
      this.#stream,
    );
    if (code !== 0 && code !== ncclInProgress) throw ncclError(this.#libraries, "ncclAllGather", code);
  }
}

/** A group that was issued. It counts as outstanding until the stream has passed it or its communicator is gone. */
export class IssuedGroup {
  readonly #event: Event;
  readonly #check: () => void;
  readonly #finished: (group: IssuedGroup) => void;
  #done = false;

  /** `check` throws when the communicator has failed; `finished` is called once. */
  constructor(event: Event, check: () => void, finished: (group: IssuedGroup) => void) {
    this.#event = event;
    this.#check = check;
    this.#finished = finished;
  }

  /** The event behind the group's work. */
  get event(): Event {
    return this.#event;
  }

  /** Whether the stream has passed the group. Throws when the communicator has failed meanwhile. */
  isDone(): boolean {
    if (this.#done) return true;
    this.#check();
    if (!this.#event.isDone()) return false;
    this.finish();
    return true;
  }

  /** Ends the group's being outstanding. */
  finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#finished(this);
  }
}
