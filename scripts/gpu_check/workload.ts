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
  DeviceBuffer,
  GlobalStorageTracker,
  lowerPlan,
  type Program,
  RedistribPlanner,
  SequenceSample,
} from "../../mod.ts";
import { type DeviceRuntime, deviceRuntime } from "../../src/device/runtime.ts";
import { aligned, type Region, Slab } from "../../src/device/slab.ts";
import { packingBytes, runProgram } from "../../src/transfer/run.ts";
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

/** The copies that come before the operations, as `Stream.copyBatch` takes them. */
export interface Copies {
  readonly to: BigUint64Array<ArrayBuffer>;
  readonly from: BigUint64Array<ArrayBuffer>;
  readonly bytes: BigUint64Array<ArrayBuffer>;
}

/** A phase, ready to run any number of times. */
export class Workload implements Disposable {
  /** Bytes that this rank sends in a round. */
  readonly bytes: number;
  readonly copies: Copies;
  readonly operations: readonly Operation[];
  readonly #communicator: Communicator;
  readonly #device: DeviceRuntime;
  readonly #catalogue: Catalogue;
  readonly #program: Program;
  readonly #regions: (Region | undefined)[];
  readonly #source: Slab;
  readonly #target: Slab;
  readonly #packed: DeviceBuffer;
  /** How many ids are told apart by their bytes. */
  readonly #distinctIds: number;

  private constructor(
    communicator: Communicator,
    catalogue: Catalogue,
    program: Program,
    distinctIds: number,
    memory: { regions: (Region | undefined)[]; source: Slab; target: Slab; packed: DeviceBuffer },
    calls: { copies: Copies; operations: Operation[] },
  ) {
    this.#communicator = communicator;
    this.#device = deviceRuntime(communicator.runtime);
    this.#catalogue = catalogue;
    this.#program = program;
    this.#distinctIds = distinctIds;
    this.#regions = memory.regions;
    this.#source = memory.source;
    this.#target = memory.target;
    this.#packed = memory.packed;
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
    const regions: (Region | undefined)[] = [];
    const sent = new Set(program.phases.flatMap(({ sends }) => sends.flatMap(({ items }) => [...items])));
    const source = new Slab(device, sumAligned(sent, catalogue));
    // As a manager stores: the keys of an id one after another.
    let at = 0;
    for (let idIndex = 0; idIndex < catalogue.ids.length; idIndex++) {
      for (let keyIndex = 0; keyIndex < catalogue.keys.length; keyIndex++) {
        const item = catalogue.item(keyIndex, idIndex);
        if (!sent.has(item)) continue;
        regions[item] = source.region(at, catalogue.bytes[item]!);
        at += aligned(catalogue.bytes[item]!);
      }
    }
    // As a transfer reserves: the items of a message one after another.
    const receives = program.phases.flatMap(({ receives }) => receives);
    const target = new Slab(device, receives.reduce((total, { bytes }) => total + aligned(bytes), 0));
    at = 0;
    for (const { items, bytes } of receives) {
      let offset = at;
      for (const item of items) {
        regions[item] = target.region(offset, catalogue.bytes[item]!);
        offset += catalogue.bytes[item]!;
      }
      at += aligned(bytes);
    }
    const regionOf = (item: number) => regions[item]!;
    const packed = DeviceBuffer.allocate(device, packingBytes(program, catalogue, worldSize, regionOf));
    const calls = await recorded(program, catalogue, rank, worldSize, regionOf, packed.address);
    const memory = { regions, source, target, packed };
    const workload = new Workload(communicator, catalogue, program, once.ids.length, memory, calls);
    await workload.#fill(sent);
    return workload;
  }

  /** One round, as a transfer runs it. */
  async run(deadline: Deadline): Promise<void> {
    await runProgram(this.#program, {
      communicator: this.#communicator,
      replicaGroups: [],
      catalogue: this.#catalogue,
      regionOf: (item) => this.#regions[item]!,
      staging: this.#packed.address,
      deadline,
      onPhase: () => {},
    });
  }

  /** Compares what arrived with what was sent; answers how many bytes. */
  async verify(): Promise<number> {
    const { address, byteLength } = this.#target;
    const bytes = await this.#device.copier.read(address, byteLength, new Deadline());
    let compared = 0;
    for (const { items } of this.#program.phases.flatMap(({ receives }) => receives)) {
      for (const item of items) {
        const start = Number(this.#regions[item]!.address - address);
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
    return Array.from({ length: count }, (_, i): Operation[] => [
      { kind: "receive", address: at(this.#target.address, i), bytes: SMALL_BYTES, peer: 0 },
      { kind: "send", address: at(this.#source.address, i), bytes: SMALL_BYTES, peer: 0 },
    ]).flat();
  }

  /** The calls as text, for C and Python; `calls.c` tells how it is read. Addresses are offsets in the three buffers. */
  callsText(operations = this.operations, { to, from, bytes } = this.copies): string {
    const lines = [`buffers ${this.#source.byteLength} ${this.#packed.byteLength} ${this.#target.byteLength}`];
    for (let i = 0; i < to.length; i++) {
      lines.push(`copy ${to[i]! - this.#packed.address} ${from[i]! - this.#source.address} ${bytes[i]!}`);
    }
    for (const { kind, address, bytes, peer } of operations) {
      const packedEnd = this.#packed.address + BigInt(this.#packed.byteLength);
      const isPacked = address >= this.#packed.address && address < packedEnd;
      const offset = address - (isPacked ? this.#packed.address : this.#source.address);
      if (kind === "receive") lines.push(`recv ${address - this.#target.address} ${bytes} ${peer}`);
      else lines.push(`send ${isPacked ? "p" : "s"} ${offset} ${bytes} ${peer}`);
    }
    for (const { peer, items } of this.#program.phases.flatMap(({ sends }) => sends)) {
      for (const item of items) {
        lines.push(
          `item ${peer} ${this.#regions[item]!.address - this.#source.address} ${this.#catalogue.bytes[item]!}`,
        );
      }
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
    const image = new Uint8Array(this.#source.byteLength);
    for (const item of sent) {
      image.set(this.#patternOf(item), Number(this.#regions[item]!.address - this.#source.address));
    }
    await this.#device.copier.write(this.#source.address, image, new Deadline());
  }

  [Symbol.dispose](): void {
    for (const region of this.#regions) region?.release();
    this.#source.seal();
    this.#target.seal();
    this.#packed[Symbol.dispose]();
  }
}

/** Bytes of one of many small messages. */
const SMALL_BYTES = 256;
/** No copies. */
export const NO_COPIES: Copies = { to: new BigUint64Array(), from: new BigUint64Array(), bytes: new BigUint64Array() };

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
  regionOf: (item: number) => Region,
  staging: bigint,
): Promise<{ copies: Copies; operations: Operation[] }> {
  let copies = NO_COPIES;
  let groups = 0;
  const operations: Operation[] = [];
  const recorder = {
    rank,
    worldSize,
    stream: {
      copyBatch: (to: Copies["to"], from: Copies["from"], bytes: Copies["bytes"]) => copies = { to, from, bytes },
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
  await runProgram(program, {
    communicator: recorder as unknown as Communicator,
    replicaGroups: [],
    catalogue,
    regionOf,
    staging,
    deadline: new Deadline(),
    onPhase: () => {},
  });
  expect(groups === 1, `the work is one group of calls, not ${groups}`);
  return { copies, operations };
}
