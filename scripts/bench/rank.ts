/**
 * One rank of the benchmark, in a process of its own: `rank.ts` reads what to do as one line of JSON and answers with one.
 *
 * @module
 */

import {
  Catalogue,
  Communicator,
  DataManager,
  Deadline,
  lowerPlan,
  openRuntime,
  type Pattern,
  SequenceSample,
} from "../../mod.ts";
import { Exchange } from "../../src/comm/exchange.ts";
import { linesOf } from "../../src/lines.ts";
import { CASES, prepare, type Size } from "./cases.ts";

/** What a rank is told. */
export type Order =
  | { op: "uniqueId" }
  | { op: "join"; uniqueId: string; rank: number; worldSize: number }
  | { op: "run"; caseIndex: number; size: Size; pattern: Pattern; warmUp: number; repeats: number }
  | { op: "end" };

/** What a rank measured. */
export interface Measured {
  /** One for each repeat. */
  readonly seconds: readonly number[];
  /** The most resident memory of the process, in bytes. */
  readonly peakBytes: number;
  /** By how much it was more than before the first transfer, and than what the plan has this rank receive and pack. */
  readonly beyondPlanBytes: number;
}

const runtime = await openRuntime({ backend: "cpu" });
let communicator: Communicator;
let manager: DataManager;
let barrier: Exchange;

async function run({ caseIndex, size, pattern, warmUp, repeats }: Order & { op: "run" }): Promise<Measured> {
  const { worldSize } = communicator;
  const { meta, plan, before: owned } = prepare(CASES[caseIndex]!, size, pattern);
  const mine = new Set(owned[manager.rank]);
  for (const sample of meta.unpack()) if (mine.has(sample.ids[0]!)) manager.store(filled(sample));
  const seconds: number[] = [];
  const before = residentBytes("VmRSS");
  Deno.writeTextFileSync("/proc/self/clear_refs", RESET_PEAK);
  const nothing = new Uint8Array();
  for (let i = 0; i < warmUp + repeats; i++) {
    await barrier.gather("the barrier", nothing, new Deadline());
    const started = performance.now();
    await manager.redistribute(meta, plan);
    const ended = performance.now();
    await barrier.gather("the barrier", nothing, new Deadline());
    if (i >= warmUp) seconds.push((ended - started) / 1000);
    manager.remove(manager.ids.filter((id) => !mine.has(id)));
  }
  const peakBytes = residentBytes("VmHWM");
  manager.clearData();
  const planned = lowerPlan(plan, new Catalogue(meta), manager.rank, { worldSize }).peakBytes;
  return { seconds, peakBytes, beyondPlanBytes: peakBytes - before - planned };
}

/** The sample with data: bytes that differ from id to id. */
function filled(sample: SequenceSample): SequenceSample {
  const { ids, keys, dtypes, trailingShapes, seqlens } = sample;
  const seed = Number(ids[0]!.slice(-3));
  const sizes: Record<string, number> = { int64: 8, float32: 4, bool: 1 };
  return new SequenceSample({
    ids,
    keys,
    dtypes,
    trailingShapes,
    seqlens,
    data: Object.fromEntries(keys.map((key) => {
      const dtype = dtypes[key]!;
      const length = seqlens[key]![0]![0]!;
      return [key, {
        dtype,
        shape: [length],
        bytes: new Uint8Array(length * sizes[dtype]!).fill(dtype === "bool" ? 1 : seed),
      }];
    })),
  });
}

/** Makes what is resident now the peak. */
const RESET_PEAK = "5";

/** What this process has resident, or had at its peak, in bytes: shared pages included, of this process or another, that are in its page tables. */
function residentBytes(field: "VmRSS" | "VmHWM"): number {
  const line = Deno.readTextFileSync("/proc/self/status").match(`${field}:\\s*(\\d+) kB`);
  return Number(line?.[1] ?? 0) * 1024;
}

async function obey(order: Order): Promise<unknown> {
  switch (order.op) {
    case "uniqueId":
      return runtime.createUniqueId().toBase64();
    case "join": {
      const uniqueId = Uint8Array.fromBase64(order.uniqueId);
      communicator = await Communicator.init(runtime, { uniqueId, rank: order.rank, worldSize: order.worldSize });
      manager = await DataManager.create({ communicator });
      barrier = new Exchange(communicator);
      return null;
    }
    case "run":
      return await run(order);
    case "end":
      await manager[Symbol.asyncDispose]();
      barrier[Symbol.dispose]();
      runtime[Symbol.dispose]();
      return null;
  }
}

for await (const line of linesOf(Deno.stdin.readable)) {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(await obey(JSON.parse(line)))}\n`));
}
