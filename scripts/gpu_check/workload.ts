/**
 * What the speed checks run: the bytes of one phase, laid out on the device as a manager lays them out, and the calls that they take.
 *
 * With one rank a phase sends every tensor to the rank itself, which no plan would; with several, each rank has a share of the ids and all are to have all.
 *
 * @module
 */

import {
  Catalogue,
  type Communicator,
  GlobalStorageTracker,
  lowerPlan,
  type Program,
  RedistribPlanner,
  SequenceSample,
} from "../../mod.ts";
import { CopyBatch } from "../../src/device/copy_batch.ts";
import { type DeviceRuntime, deviceRuntime } from "../../src/device/runtime.ts";
import { aligned, Slab } from "../../src/device/slab.ts";
import { outgoingOf, type OutgoingPhase, packingBytes } from "../../src/transfer/outgoing.ts";
import { Places } from "../../src/transfer/places.ts";
import { type RunContext, runProgram } from "../../src/transfer/run.ts";
import { Deadline } from "../../src/wait.ts";
import { payload, type Size } from "../bench/cases.ts";
import { expect } from "./check.ts";

/** One send or receive of the phase. */
export interface Operation {
  readonly kind: "send" | "receive";
  readonly address: bigint;
  readonly bytes: number;
  readonly peer: number;
}

/** A phase, ready to run any number of times. */
export class Workload implements Disposable {
  /** Bytes that this rank sends in a round. */
  readonly bytes: number;
  readonly copies: CopyBatch;
  readonly operations: readonly Operation[];
  readonly #communicator: Communicator;
  readonly #device: DeviceRuntime;
  readonly #catalogue: Catalogue;
  readonly #program: Program;
  readonly #memory: Memory;
  /** How many ids are told apart by their bytes. */
  readonly #distinctIds: number;

  private constructor(
    communicator: Communicator,
    catalogue: Catalogue,
    program: Program,
    distinctIds: number,
    memory: Memory,
    calls: { copies: CopyBatch; operations: Operation[] },
  ) {
    this.#communicator = communicator;
    this.#device = deviceRuntime(communicator.runtime);
    this.#catalogue = catalogue;
    this.#program = program;
    this.#distinctIds = distinctIds;
    this.#memory = memory;
    this.copies = calls.copies;
    this.operations = calls.operations;
    this.bytes = program.bytesSent;
  }

  /** Allocates and fills the memory. */
  static async open(communicator: Communicator, size: Size): Promise<Workload> {
    const { rank, worldSize } = communicator;
    const device = deviceRuntime(communicator.runtime);
    const once = payload(size);
    const meta = worldSize === 1 ? twice(once) : once;
    const catalogue = new Catalogue(meta);
    const program = worldSize === 1 ? toSelf(catalogue) : exchanged(meta, catalogue, rank, worldSize);
    const places = new Places(catalogue.size);
    const sent = new Set(program.phases.flatMap(({ sends }) => sends.flatMap(({ items }) => [...items])));
    const source = new Slab(device, sumAligned(sent, catalogue));
    // The keys of an id one after another: scattered in the order of a message, so that all of it is packed.
    const given = source.lot();
    let at = 0;
    for (let idIndex = 0; idIndex < catalogue.ids.length; idIndex++) {
      for (let keyIndex = 0; keyIndex < catalogue.keys.length; keyIndex++) {
        const item = catalogue.item(keyIndex, idIndex);
        if (!sent.has(item)) continue;
        places.put(item, given, given.add(at, catalogue.bytes[item]!));
        at += aligned(catalogue.bytes[item]!);
      }
    }
    // As a transfer reserves: the items of a message one after another.
    const receives = program.phases.flatMap(({ receives }) => receives);
    const target = new Slab(device, receives.reduce((total, { bytes }) => total + aligned(bytes), 0));
    const taken = target.lot();
    at = 0;
    for (const { items, bytes } of receives) {
      let offset = at;
      for (const item of items) {
        places.put(item, taken, taken.add(offset, catalogue.bytes[item]!));
        offset += catalogue.bytes[item]!;
      }
      at += aligned(bytes);
    }
    const outgoing = outgoingOf(program, catalogue, places, worldSize, device);
    const isWhole = outgoing.every(({ sends }) => sends.every((segments) => segments.length === 1));
    expect(isWhole, "a message is more than one operation");
    const packed = new Slab(device, packingBytes(outgoing));
    const memory: Memory = { places, outgoing, source, target, packed };
    const calls = await recorded(program, catalogue, rank, worldSize, memory);
    const workload = new Workload(communicator, catalogue, program, once.ids.length, memory, calls);
    await workload.#fill(sent);
    return workload;
  }

  /** One round, as a transfer runs it. */
  async run(deadline: Deadline): Promise<void> {
    await runProgram(this.#program, contextOf(this.#communicator, this.#catalogue, this.#memory, deadline));
  }

  /** Compares what arrived with what was sent; answers how many bytes. */
  async verify(): Promise<number> {
    const { places, target: { address, byteLength } } = this.#memory;
    const bytes = await this.#device.copier.read(address, byteLength, new Deadline());
    let compared = 0;
    for (const { items } of this.#program.phases.flatMap(({ receives }) => receives)) {
      for (const item of items) {
        const start = places.offsetOf(item);
        const expected = this.#patternOf(item);
        for (let i = 0; i < expected.length; i++) {
          expect(bytes[start + i] === expected[i], `byte ${i} of item ${item} is not what was sent`);
        }
        compared += expected.length;
      }
    }
    return compared;
  }

  /** As many sends, and receives, of a few bytes from this rank to itself, and no copies: what is timed is the issuing. One rank's alone. */
  manySmall(count: number): Operation[] {
    const at = (base: bigint, i: number) => base + BigInt(i * SMALL_BYTES);
    const { source, target } = this.#memory;
    return Array.from({ length: count }, (_, i): Operation[] => [
      { kind: "receive", address: at(target.address, i), bytes: SMALL_BYTES, peer: 0 },
      { kind: "send", address: at(source.address, i), bytes: SMALL_BYTES, peer: 0 },
    ]).flat();
  }

  /** The calls as text, for C and Python; `calls.c` tells how it is read. Addresses are offsets in the three buffers. */
  callsText(operations = this.operations, { to, from, bytes } = this.copies): string {
    const { places, source, target, packed } = this.#memory;
    const lines = [`buffers ${source.byteLength} ${packed.byteLength} ${target.byteLength}`];
    for (let i = 0; i < to.length; i++) {
      lines.push(`copy ${to[i]! - packed.address} ${from[i]! - source.address} ${bytes[i]!}`);
    }
    for (const { kind, address, bytes, peer } of operations) {
      const isPacked = address >= packed.address && address < packed.address + BigInt(packed.byteLength);
      const offset = address - (isPacked ? packed.address : source.address);
      if (kind === "receive") lines.push(`recv ${address - target.address} ${bytes} ${peer}`);
      else lines.push(`send ${isPacked ? "p" : "s"} ${offset} ${bytes} ${peer}`);
    }
    for (const { peer, items } of this.#program.phases.flatMap(({ sends }) => sends)) {
      for (const item of items) lines.push(`item ${peer} ${places.offsetOf(item)} ${this.#catalogue.bytes[item]!}`);
    }
    return `${lines.join("\n")}\n`;
  }

  /** Every item of the same key and id has the same bytes on every rank, and neighbours have others. */
  #patternOf(item: number): Uint8Array {
    const [key, id] = [Math.floor(item / this.#catalogue.ids.length), item % this.#catalogue.ids.length];
    const start = (key * 977 + (id % this.#distinctIds) * 61) % PATTERNS;
    return PATTERN.subarray(start, start + this.#catalogue.bytes[item]!);
  }

  async #fill(sent: Iterable<number>): Promise<void> {
    const { places, source } = this.#memory;
    const image = new Uint8Array(source.byteLength);
    for (const item of sent) image.set(this.#patternOf(item), places.offsetOf(item));
    await this.#device.copier.write(source.address, image, new Deadline());
  }

  [Symbol.dispose](): void {
    const { source, target, packed } = this.#memory;
    for (const lot of [...source.lots, ...target.lots]) lot.releaseAll();
    for (const slab of [source, target, packed]) slab.seal();
  }
}

/** The memory of a phase. */
interface Memory {
  readonly places: Places;
  readonly outgoing: readonly OutgoingPhase[];
  readonly source: Slab;
  readonly target: Slab;
  /** Where messages are packed. */
  readonly packed: Slab;
}

/** Bytes of one of many small messages. */
const SMALL_BYTES = 256;
/** No copies. */
export const NO_COPIES: CopyBatch = new CopyBatch(0);

const PATTERNS = 4096;
/** Longer than any item by the number of places to begin at. */
const PATTERN = (() => {
  const bytes = new Uint8Array(PATTERNS + 65_536);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) bytes[i] = (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
  return bytes;
})();

function sumAligned(items: Iterable<number>, { bytes }: Catalogue): number {
  let total = 0;
  for (const item of items) total += aligned(bytes[item]!);
  return total;
}

/** The same ids again under other names: the first half is sent, the second received. */
function twice(meta: SequenceSample): SequenceSample {
  const { ids, keys, dtypes, trailingShapes, seqlens } = meta;
  return new SequenceSample({
    ids: [...ids, ...ids.map((id) => `received-${id}`)],
    keys,
    dtypes,
    trailingShapes,
    seqlens: Object.fromEntries(keys.map((key) => [key, [...seqlens[key]!, ...seqlens[key]!]])),
  });
}

/** The program of one rank that sends all of the first half to itself. */
function toSelf(catalogue: Catalogue): Program {
  const half = catalogue.ids.length / 2;
  const items = (first: number) =>
    Uint32Array.from(
      catalogue.keys.flatMap((_, key) => Array.from({ length: half }, (_, id) => catalogue.item(key, first + id))),
    );
  const [out, into] = [items(0), items(half)];
  const bytes = catalogue.totalBytes(out);
  return {
    rank: 0,
    phases: [{
      sends: [{ peer: 0, items: out, bytes }],
      receives: [{ peer: 0, items: into, bytes }],
      broadcasts: [],
      steps: [0],
    }],
    required: out,
    received: into,
    bytesSent: bytes,
    bytesReceived: bytes,
    stagingBytes: bytes,
    peakBytes: 2 * bytes,
  };
}

/** The program of one of several ranks: each has a share of the ids, and all are to have all. */
function exchanged(meta: SequenceSample, catalogue: Catalogue, rank: number, worldSize: number): Program {
  const tracker = new GlobalStorageTracker(worldSize);
  for (let each = 0; each < worldSize; each++) {
    const ids = meta.ids.filter((_, i) => i % worldSize === each);
    for (const key of meta.keys) tracker.addData(each, ids, key, true);
  }
  const dests = new Map(Array.from({ length: worldSize }, (_, each) => [each, meta.ids]));
  const plan = new RedistribPlanner({ gpusPerNode: 8 }, tracker).derivePlan(dests, meta.keys, "direct", { meta });
  return lowerPlan(plan, catalogue, rank, { worldSize });
}

/** The calls that running a program makes: it runs on a communicator that writes down what is asked of it, and does nothing. */
async function recorded(
  program: Program,
  catalogue: Catalogue,
  rank: number,
  worldSize: number,
  memory: Memory,
): Promise<{ copies: CopyBatch; operations: Operation[] }> {
  let copies = NO_COPIES;
  let groups = 0;
  const operations: Operation[] = [];
  const recorder = {
    rank,
    worldSize,
    stream: {
      commandsFor: () => 0,
      copyBatch: (batch: CopyBatch) => copies = batch,
    },
    group: (_: string, issue: (calls: unknown) => void) => {
      groups++;
      issue({
        send: (address: bigint, bytes: number, peer: number) => operations.push({ kind: "send", address, bytes, peer }),
        receive: (address: bigint, bytes: number, peer: number) =>
          operations.push({ kind: "receive", address, bytes, peer }),
      });
      return Promise.resolve({ isDone: () => true });
    },
  };
  const communicator = recorder as unknown as Communicator;
  await runProgram(program, contextOf(communicator, catalogue, memory, new Deadline()));
  expect(groups === 1, `the work is one group of calls, not ${groups}`);
  return { copies, operations };
}

/** What running a program takes. */
function contextOf(communicator: Communicator, catalogue: Catalogue, memory: Memory, deadline: Deadline): RunContext {
  const { places, outgoing, packed } = memory;
  const cuts = Array.from({ length: communicator.worldSize }, () => []);
  return {
    communicator,
    replicaGroups: [],
    catalogue,
    places,
    outgoing,
    cuts,
    staging: packed,
    deadline,
    onPhase: () => {},
  };
}
