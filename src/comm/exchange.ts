/**
 * The small collective by which ranks agree: each brings a few bytes, all get everyone's.
 *
 * Bytes travel in fixed slots whose memory was reserved beforehand, so that nothing is allocated while a group is outstanding. Where a rank brings more
 * than a slot holds, all see so in the first round. Then each tells whether it has the memory for larger slots, and one round with those follows; or, where
 * a device is full, as many more rounds as it takes.
 *
 * @module
 */

import type { Communicator } from "./communicator.ts";
import { PinnedBuffer } from "../device/pinned_buffer.ts";
import { type DeviceRuntime, deviceRuntime } from "../device/runtime.ts";
import { Slab } from "../device/slab.ts";
import { CudaError, SeqferryError } from "../errors.ts";
import { hashOf } from "../hash.ts";
import { type Deadline, pollUntil } from "../wait.ts";

/** Bytes of one rank's slot, with its header. */
const SLOT_BYTES = 1024;
/** Round number, length, and what the round is for; all u32, little-endian. */
const HEADER_BYTES = 12;
/** What one rank can say in a slot, in bytes. */
const SLOT_ROOM = SLOT_BYTES - HEADER_BYTES;

/** Slots on the device and, pinned, on the host: the first is what this rank brings, and behind it lie what all brought. */
interface Slots {
  readonly slotBytes: number;
  readonly memory: Slab;
  readonly pinned: PinnedBuffer;
  /** The pinned memory: its two parts, and the headers in it. */
  readonly out: Uint8Array;
  readonly back: Uint8Array<ArrayBuffer>;
  readonly headers: DataView;
}

const NOTHING = new Uint8Array(0);

/** What one rank brought: how many bytes it has to say, and those of them that fit. */
interface Word {
  readonly length: number;
  readonly inline: Uint8Array;
}

/** The exchange of one communicator. Collective: all ranks make the same calls in the same order. */
export class Exchange implements Disposable {
  readonly #communicator: Communicator;
  readonly #device: DeviceRuntime;
  readonly #slots: Slots;
  #extra: Slots | undefined;
  /** Those of the round under way; after a failure, of the one that failed. */
  #underWay: Slots | undefined;
  #round = 0;

  /** Reserves the slots. */
  constructor(communicator: Communicator) {
    this.#communicator = communicator;
    this.#device = deviceRuntime(communicator.runtime);
    this.#slots = this.#reserve(SLOT_BYTES);
  }

  /**
   * Brings `payload` to all ranks and returns everyone's, in the order of ranks.
   *
   * @param what Named in errors, and the same on all ranks.
   * @param enqueued Called as soon as this rank's bytes may be on their way: from then on peers can have them.
   * @throws {SeqferryError} on all ranks where a rank's `what` is another.
   */
  async gather(
    what: string,
    payload: Uint8Array,
    deadline: Deadline,
    enqueued: () => void = () => {},
  ): Promise<Uint8Array[]> {
    deadline.check(what);
    const first = await this.#run(what, this.#slots, payload, deadline, enqueued);
    const longest = Math.max(...first.map(({ length }) => length));
    if (longest <= SLOT_ROOM) return first.map(({ inline }) => inline);
    this.#extra = this.#reserveOrNone(aligned(HEADER_BYTES + longest));
    const mine = Uint8Array.of(this.#extra === undefined ? 0 : 1);
    const able = await this.#run(what, this.#slots, mine, deadline);
    if (able.some(({ inline }) => inline[0] !== 1)) {
      this.#releaseExtra();
      return await this.#inParts(what, first, payload, longest, deadline);
    }
    const all = await this.#run(what, this.#extra!, payload, deadline);
    // Not after a failure: then the library may still write there, and the memory goes when the communicator has.
    this.#releaseExtra();
    return all.map(({ inline }) => inline);
  }

  /** Brings what did not fit into the first round, a slot's worth each time. */
  async #inParts(
    what: string,
    first: readonly Word[],
    payload: Uint8Array,
    longest: number,
    deadline: Deadline,
  ): Promise<Uint8Array[]> {
    const whole = first.map(({ length, inline }) => {
      const bytes = new Uint8Array(length);
      bytes.set(inline);
      return bytes;
    });
    for (let offset = SLOT_ROOM; offset < longest; offset += SLOT_ROOM) {
      const parts = await this.#run(what, this.#slots, payload.subarray(offset, offset + SLOT_ROOM), deadline);
      parts.forEach(({ inline }, rank) => whole[rank]!.set(inline, Math.min(offset, whole[rank]!.length)));
    }
    return whole;
  }

  /**
   * The other ranks whose bytes of the round under way, or of the one that failed, have not come; none where there is no such round. After an abort too, as
   * long as this object is not disposed.
   */
  async missing(deadline: Deadline): Promise<number[]> {
    if (this.#underWay === undefined) return [];
    const { memory, slotBytes } = this.#underWay;
    const { rank: own, worldSize } = this.#communicator;
    const from = memory.address + BigInt(slotBytes);
    const bytes = await this.#device.copier.read(from, worldSize * slotBytes, deadline);
    const view = new DataView(bytes.buffer);
    return Array.from({ length: worldSize }, (_, rank) => rank).filter((rank) =>
      rank !== own && view.getUint32(rank * slotBytes, true) !== this.#round
    );
  }

  async #run(
    what: string,
    slots: Slots,
    payload: Uint8Array,
    deadline: Deadline,
    enqueued: () => void = () => {},
  ): Promise<Word[]> {
    const { slotBytes, memory, out, back, headers } = slots;
    const { stream } = this.#communicator;
    const room = slotBytes - HEADER_BYTES;
    this.#round++;
    this.#underWay = slots;
    headers.setUint32(0, this.#round, true);
    headers.setUint32(4, payload.byteLength, true);
    headers.setUint32(8, hashOf(what), true);
    out.set(payload.byteLength <= room ? payload : payload.subarray(0, room), HEADER_BYTES);
    stream.copyFromHost(memory.address, out);
    const received = memory.address + BigInt(slotBytes);
    const issuing = this.#communicator.group(
      what,
      (calls) => calls.allGather(memory.address, received, slotBytes),
      deadline,
    );
    enqueued();
    const group = await issuing;
    stream.copyToHost(back, received);
    await pollUntil(what, () => group.isDone() && stream.isIdle(), deadline);
    this.#underWay = undefined;
    this.#requireSame(what, slots);
    return this.#words(slots);
  }

  /** Refuses what ranks bring for something else: one of them made another call than the others. */
  #requireSame(what: string, { slotBytes, headers }: Slots): void {
    const { rank: own, worldSize } = this.#communicator;
    const others: number[] = [];
    for (let rank = 0; rank < worldSize; rank++) {
      if (headers.getUint32((rank + 1) * slotBytes + 8, true) !== headers.getUint32(8, true)) others.push(rank);
    }
    if (others.length === 0) return;
    throw new SeqferryError(
      `rank ${own} is at ${what}, and rank ${
        others.join(", rank ")
      } at something else: all ranks make the same calls in the same order`,
    );
  }

  /** What all brought, in memory of its own: the slots are for the next round. */
  #words({ slotBytes, back, headers }: Slots): Word[] {
    const { worldSize } = this.#communicator;
    const room = slotBytes - HEADER_BYTES;
    const lengthOf = (rank: number) => headers.getUint32((rank + 1) * slotBytes + 4, true);
    let total = 0;
    for (let rank = 0; rank < worldSize; rank++) total += aligned(Math.min(room, lengthOf(rank)));
    const kept = total === 0 ? NOTHING : new Uint8Array(total);
    const words: Word[] = [];
    for (let rank = 0, at = 0; rank < worldSize; rank++) {
      const length = lengthOf(rank);
      const end = at + Math.min(room, length);
      const from = rank * slotBytes + HEADER_BYTES;
      if (end > at) kept.set(back.subarray(from, from + end - at), at);
      words.push({ length, inline: kept.subarray(at, end) });
      at = aligned(end);
    }
    return words;
  }

  #reserve(slotBytes: number): Slots {
    const byteLength = slotBytes * (this.#communicator.worldSize + 1);
    const memory = new Slab(this.#device, byteLength);
    try {
      const pinned = new PinnedBuffer(this.#device, byteLength);
      const [out, back] = [pinned.bytes.subarray(0, slotBytes), pinned.bytes.subarray(slotBytes)];
      return { slotBytes, memory, pinned, out, back, headers: new DataView(pinned.bytes.buffer) };
    } catch (error) {
      memory.seal();
      throw error;
    }
  }

  #reserveOrNone(slotBytes: number): Slots | undefined {
    try {
      return this.#reserve(slotBytes);
    } catch (error) {
      if (error instanceof CudaError) return undefined;
      throw error;
    }
  }

  #releaseExtra(): void {
    if (this.#extra === undefined) return;
    release(this.#extra);
    this.#extra = undefined;
  }

  /** Frees the slots. The communicator must have ended, or have nothing outstanding. */
  [Symbol.dispose](): void {
    this.#releaseExtra();
    release(this.#slots);
  }
}

function release({ memory, pinned }: Slots): void {
  pinned[Symbol.dispose]();
  memory.seal();
}

function aligned(byteLength: number): number {
  return Math.ceil(byteLength / 16) * 16;
}
