/**
 * Benchmarks of redistribution and of planning.
 *
 * ```sh
 * deno task bench [--sizes S,M,L] [--cases 0,1,2,3] [--patterns gather-scatter,bcast,direct] [--repeats N] [--json FILE] [--compare FILE]
 *   [--no-gloo] [--no-planning] [--quick]
 * ```
 *
 * Redistribution: one process for each rank on the CPU stand-in; the time of `redistribute` alone, a barrier before and after, the longest of all ranks, the
 * median of the repeats, over the floor: the time that one core's memcpy takes for the bytes that must be delivered, measured in the same run before and
 * after. Beside it, where Python with torch is found, the same deliveries through torch.distributed with gloo as the reference makes them. Planning: 512 ranks.
 * And what one NCCL call costs the host.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { openRuntime, type Pattern } from "../../mod.ts";
import { CASES, prepare, type Size } from "./cases.ts";
import { median, memcpyBytesPerSecond } from "./floor.ts";
import { measureGloo } from "./gloo.ts";
import { measureHostCost } from "./host_cost.ts";
import { measurePlanning } from "./planning.ts";
import { refuse, wholeFlag } from "../refuse.ts";
import type { Measured } from "./rank.ts";
import { RankProcess } from "./rank_process.ts";

/** One row of the result. */
interface Row {
  readonly case: string;
  readonly size: Size;
  readonly pattern: Pattern;
  readonly deliveredBytes: number;
  /** Median, in seconds. */
  readonly seconds: number;
  readonly fastest: number;
  readonly slowest: number;
  /** `seconds` over the floor. */
  readonly overFloor: number;
  /** Largest resident memory of a rank's process, in bytes. */
  readonly peakBytes: number;
  /** The most by which one of them grew beyond what the plan has its rank receive and pack, in bytes. */
  readonly beyondPlanBytes: number;
  /** How many times longer gloo took; null where it was not measured. */
  readonly glooRatio: number | null;
}

const REPEATS: Readonly<Record<Size, number>> = { S: 100, M: 30, L: 7 };
/** Until memory has been touched and code compiled. */
const WARM_UP: Readonly<Record<Size, number>> = { S: 300, M: 40, L: 20 };

const flags = parseArgs(Deno.args, {
  boolean: ["quick", "gloo", "planning"],
  negatable: ["gloo", "planning"],
  default: { gloo: true, planning: true },
  string: ["sizes", "cases", "patterns", "repeats", "json", "compare"],
  unknown: (argument: string) => refuse(`${argument} is no flag of the benchmark`),
});
const quick = flags.quick === true;
const withGloo = flags.gloo !== false && !quick;
const sizes = list<Size>("sizes", ["S", "M", "L"], quick ? ["S"] : undefined);
const patterns = list<Pattern>("patterns", ["gather-scatter", "bcast", "direct", "auto"], [
  "gather-scatter",
  "bcast",
  "direct",
]);
/** How many repeats were asked for; 0 where that is left to the size. */
const given = wholeFlag(flags, "repeats", 0, 1);
const caseIndices = list("cases", CASES.map((_, i) => String(i)), quick ? ["0"] : undefined).map(Number);

const library = await (async () => {
  using runtime = await openRuntime({ backend: "cpu" });
  return runtime.cudart.path;
})();
const hostCost = await measureHostCost();
print(
  `issuing an operation: ${hostCost.nanosecondsPerCall.toFixed(0)} ns, ${
    hostCost.heapBytesPerCall.toFixed(1)
  } B of heap`,
);
const rows: Row[] = [];
const floors: number[] = [memcpyBytesPerSecond()];
for (const caseIndex of caseIndices) {
  const { name, worldSize } = CASES[caseIndex]!;
  for (const size of sizes) {
    const repeats = given || (quick ? 3 : REPEATS[size]);
    for (const pattern of patterns) {
      const measured = await redistribution(caseIndex, size, pattern, quick ? 1 : WARM_UP[size], repeats);
      floors.push(memcpyBytesPerSecond());
      const bytesPerSecond = (floors.at(-1)! + floors.at(-2)!) / 2;
      const perRepeat = Array.from(
        { length: repeats },
        (_, i) => Math.max(...measured.map(({ seconds }) => seconds[i]!)),
      );
      const { delivered } = prepare(CASES[caseIndex]!, size, pattern);
      const seconds = median(perRepeat);
      const hasRival = withGloo && (pattern === "gather-scatter" || pattern === "bcast");
      const gloo = hasRival ? await measureGloo(caseIndex, size, pattern, worldSize) : null;
      const row: Row = {
        case: name,
        size,
        pattern,
        deliveredBytes: delivered,
        seconds,
        fastest: Math.min(...perRepeat),
        slowest: Math.max(...perRepeat),
        overFloor: seconds / (delivered / bytesPerSecond),
        peakBytes: Math.max(...measured.map(({ peakBytes }) => peakBytes)),
        beyondPlanBytes: Math.max(...measured.map(({ beyondPlanBytes }) => beyondPlanBytes)),
        glooRatio: gloo === null ? null : gloo / seconds,
      };
      rows.push(row);
      print(line(row));
    }
  }
}
const planning = flags.planning === false ? [] : measurePlanning(quick ? 2_048 : 65_536);
for (const { pattern, seconds, steps } of planning) {
  print(`planning, ${pattern}: ${seconds.toFixed(2)} s, ${steps} steps`);
}
const result = {
  machine: {
    processor: processor(),
    cores: navigator.hardwareConcurrency,
    memoryBytes: Deno.systemMemoryInfo().total,
    kernel: Deno.osRelease(),
    memcpyBytesPerSecond: median(floors),
    deno: Deno.version.deno,
  },
  hostCost,
  rows,
  planning,
};
if (typeof flags.json === "string") Deno.writeTextFileSync(flags.json, `${JSON.stringify(result, null, 2)}\n`);
if (typeof flags.compare === "string") compare(flags.compare);

/** The values of a flag with commas; all of `allowed` unless given. */
function list<T extends string>(
  flag: "sizes" | "patterns" | "cases",
  allowed: readonly T[],
  otherwise: readonly T[] = allowed,
): readonly T[] {
  const given = flags[flag];
  if (typeof given !== "string") return otherwise;
  const values = given.split(",") as T[];
  const wrong = values.find((value) => !allowed.includes(value));
  if (wrong !== undefined) refuse(`--${flag} takes some of ${allowed.join(", ")}, not ${JSON.stringify(wrong)}`);
  return values;
}

/** The processor's name, where the system tells it. */
function processor(): string {
  try {
    return Deno.readTextFileSync("/proc/cpuinfo").match(/model name\s*:\s*(.*)/)?.[1] ?? "unknown";
  } catch {
    return "unknown";
  }
}

/** Runs one case in processes of its own. */
async function redistribution(
  caseIndex: number,
  size: Size,
  pattern: Pattern,
  warmUp: number,
  repeats: number,
): Promise<Measured[]> {
  const { worldSize } = CASES[caseIndex]!;
  const ranks = Array.from({ length: worldSize }, () => new RankProcess(library));
  try {
    const uniqueId = await ranks[0]!.tell<string>({ op: "uniqueId" });
    await Promise.all(ranks.map((process, rank) => process.tell({ op: "join", uniqueId, rank, worldSize })));
    const measured = await Promise.all(
      ranks.map((process) => process.tell<Measured>({ op: "run", caseIndex, size, pattern, warmUp, repeats })),
    );
    await Promise.all(ranks.map((process) => process.tell({ op: "end" })));
    return measured;
  } finally {
    await Promise.all(ranks.map((process) => process[Symbol.asyncDispose]()));
  }
}

function line(row: Row): string {
  const ms = (seconds: number) => (seconds * 1000).toFixed(2);
  const gloo = row.glooRatio === null ? "" : `  gloo ${row.glooRatio.toFixed(1)}x as long`;
  return `${row.case.padEnd(32)} ${row.size} ${row.pattern.padEnd(15)} ${ms(row.seconds).padStart(9)} ms (${
    ms(row.fastest)
  } to ${ms(row.slowest)})  ${row.overFloor.toFixed(1).padStart(7)}x the floor  ${
    (row.deliveredBytes / 1e6).toFixed(2)
  } MB delivered  peak ${(row.peakBytes / 1e6).toFixed(0)} MB, ${
    (row.beyondPlanBytes / 1e6).toFixed(0)
  } beyond the plan${gloo}`;
}

/** Prints each row's time over that of a saved run. */
function compare(file: string): void {
  const saved = JSON.parse(Deno.readTextFileSync(file)) as { rows: Row[] };
  for (const row of rows) {
    const before = saved.rows.find((other) =>
      other.case === row.case && other.size === row.size && other.pattern === row.pattern
    );
    if (before === undefined) continue;
    print(
      `${row.case} ${row.size} ${row.pattern}: ${
        (row.overFloor / before.overFloor).toFixed(2)
      }x the saved run, each over its own floor`,
    );
  }
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
