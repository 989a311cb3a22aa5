/**
 * Copies between host and device that never block the event loop for long.
 *
 * Bytes go through two pinned buffers in turn: while the device fills one, the host empties the other. The copies have a stream of their own, on
 * which nothing ever waits for a peer, so that a tensor can be read in the middle of a transfer.
 *
 * @module
 */

import { ClosedError } from "../errors.ts";
import { Deadline, pollUntil } from "../wait.ts";
import { PinnedBuffer } from "./pinned_buffer.ts";
import type { DeviceRuntime } from "./runtime.ts";
import { Event, Stream } from "./stream.ts";

/** Bytes of one pinned buffer: large enough for full speed, small enough that a chunk takes well under a millisecond. */
const CHUNK_BYTES = 1 << 20;
/** How long a copy that was given up may take to come to its end before its buffers are given up too. */
const GRACE_MS = 500;

/** Named in errors. */
const WHAT = "a copy between host and device";

/** A pinned buffer, and the mark behind the copy that uses it. */
interface Lane {
  readonly pinned: PinnedBuffer;
  readonly event: Event;
}

/** Copies between host memory and one device. */
export class HostCopier implements Disposable {
  /** Where the copies are enqueued. */
  readonly stream: Stream;
  readonly #runtime: DeviceRuntime;
  #lanes: Lane[] = [];
  /** Those of copies that never ended; the device may still write there. */
  #abandoned: Lane[] = [];
  #last: Promise<unknown> = Promise.resolve();
  /** Copies that have not ended. */
  #underWay = 0;
  #closed = false;

  /** Makes the stream; the pinned buffers come with the first asynchronous copy. */
  constructor(runtime: DeviceRuntime) {
    this.#runtime = runtime;
    this.stream = new Stream(runtime);
  }

  /** Has the pinned buffers made, for those who will read or write when it is too late to be refused. */
  reserve(): void {
    this.#openLanes();
  }

  /** Reads `byteLength` bytes at a device address. The memory must stay allocated until the promise settles. */
  async read(address: bigint, byteLength: number, deadline: Deadline): Promise<Uint8Array> {
    const bytes = new Uint8Array(byteLength);
    await this.#inChunks(byteLength, deadline, {
      start: (pinned, offset) => this.stream.copyToHost(pinned, address + BigInt(offset)),
      finish: (pinned, offset) => bytes.set(pinned, offset),
    });
    return bytes;
  }

  /** Writes `bytes` to a device address. */
  write(address: bigint, bytes: Uint8Array, deadline: Deadline): Promise<void> {
    return this.#inChunks(bytes.byteLength, deadline, {
      start: (pinned, offset) => {
        pinned.set(bytes.subarray(offset, offset + pinned.byteLength));
        this.stream.copyFromHost(address + BigInt(offset), pinned);
      },
      finish: () => {},
    });
  }

  /** Runs one copy after those before it, a chunk a lane; when it settles no lane is in use any more. */
  #inChunks(
    byteLength: number,
    deadline: Deadline,
    chunk: { start(pinned: Uint8Array, offset: number): void; finish(pinned: Uint8Array, offset: number): void },
  ): Promise<void> {
    const run = async () => {
      if (byteLength === 0) return;
      this.#mustBeOpen();
      const lanes = this.#openLanes();
      const busy: { event: Event; bytes: Uint8Array; offset: number }[] = [];
      const finishOldest = async (limit: Deadline) => {
        const { event, bytes, offset } = busy[0]!;
        await pollUntil(WHAT, () => event.isDone(), limit);
        busy.shift();
        chunk.finish(bytes, offset);
      };
      try {
        for (let offset = 0, turn = 0; offset < byteLength; offset += CHUNK_BYTES, turn++) {
          deadline.check(WHAT);
          this.#mustBeOpen();
          if (busy.length === lanes.length) await finishOldest(deadline);
          const { pinned, event } = lanes[turn % lanes.length]!;
          const bytes = pinned.bytes.subarray(0, Math.min(CHUNK_BYTES, byteLength - offset));
          chunk.start(bytes, offset);
          event.record(this.stream);
          busy.push({ event, bytes, offset });
        }
        while (busy.length > 0) await finishOldest(deadline);
      } catch (error) {
        // This stream waits for no peer, so that copies end soon in any case; a lane is not used again before its copy has.
        const grace = new Deadline({ timeoutMs: GRACE_MS });
        try {
          while (busy.length > 0) await finishOldest(grace);
        } catch {
          this.#abandoned.push(...this.#lanes.splice(0));
        }
        throw error;
      }
    };
    this.#underWay++;
    const result = this.#last.then(run).finally(() => {
      if (--this.#underWay === 0 && this.#closed) this.#release();
    });
    this.#last = result.catch(() => {});
    return result;
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new ClosedError(`${WHAT}: the runtime was disposed`);
  }

  #openLanes(): readonly Lane[] {
    while (this.#lanes.length < 2) {
      const event = new Event(this.#runtime);
      try {
        this.#lanes.push({ pinned: new PinnedBuffer(this.#runtime, CHUNK_BYTES), event });
      } catch (error) {
        event[Symbol.dispose]();
        throw error;
      }
    }
    return this.#lanes;
  }

  /** What is under way ends first, with an error. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#underWay === 0) this.#release();
  }

  #release(): void {
    for (const { pinned, event } of [...this.#lanes, ...this.#abandoned]) {
      event[Symbol.dispose]();
      pinned[Symbol.dispose]();
    }
    this.#lanes = [];
    this.#abandoned = [];
    this.stream[Symbol.dispose]();
  }
}
