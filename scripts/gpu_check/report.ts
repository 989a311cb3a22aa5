/**
 * What a person reads of the checks, and what a program reads.
 *
 * @module
 */

import { type Column, renderTable } from "../../src/commands/table.ts";
import { bytesText } from "../../src/commands/units.ts";
import type { CheckResult } from "./check.ts";
import type { Machine, Place } from "./place.ts";

/** Everything, as it goes into the JSON file. */
export interface Report {
  /** `gpu_check/1`. */
  readonly format: string;
  /** When it was begun, in UTC. */
  readonly date: string;
  readonly backend: "cuda" | "cpu";
  readonly machine: Machine;
  /** Versions and paths of the libraries, and the devices; null where they could not be opened. */
  readonly libraries: Omit<Place, "env"> | null;
  /** What this machine lacks, so that no check could be made; empty where it lacks nothing. */
  readonly lacking: string;
  readonly checks: readonly CheckResult[];
  /** How many checks held, did not, and could not be made. */
  readonly ok: number;
  readonly failed: number;
  readonly skipped: number;
  /** Whether a signal ended it before all checks were made. */
  readonly interrupted: boolean;
  readonly seconds: number;
}

/** What stands above the table. */
export function headOf(machine: Machine, place: Place): string {
  const { cudart, nccl, driverCuda, devices, deviceBytes, backend } = place;
  const gpus = machine.gpus.length === 0 ? [] : machine.gpus.map((gpu, i) => [`GPU ${i}`, gpu]);
  const rows = [
    ["backend", backend === "cuda" ? "cuda" : "cpu: the stand-in, no GPU takes part"],
    ["machine", `${machine.cpu}, ${machine.cores} cores, ${bytesText(machine.memoryBytes)}; ${machine.system}`],
    ...gpus,
    ["devices", `${devices}, the first with ${bytesText(deviceBytes)}`],
    ...backend === "cuda" ? [["driver", `${machine.driver || "unknown"}, for CUDA up to ${driverCuda}`]] : [],
    ["libcudart", `${cudart.text}  ${cudart.path}`],
    ["libnccl", `${nccl.text}  ${nccl.path}`],
    ["deno", machine.deno],
  ];
  return rows.map(([name, text]) => `${name!.padEnd(10)}  ${text}\n`).join("");
}

/** One result, as soon as it is there. */
export function lineOf({ status, name, why, numbers, seconds }: CheckResult): string {
  const measured = numbersText(numbers);
  return `${status.padEnd(7)}  ${name} (${seconds.toFixed(1)} s)${why === "" ? "" : `: ${why}`}${
    measured === "" ? "" : `  [${measured}]`
  }\n`;
}

const COLUMNS: readonly Column[] = [
  { title: "check" },
  { title: "" },
  { title: "time", align: "right" },
  { title: "numbers, or why" },
];

/** The table of results: a group's name before its checks. */
export function tableOf(results: readonly CheckResult[]): string {
  const rows: string[][] = [];
  let group = "";
  for (const result of results) {
    if (result.group !== group) rows.push([group = result.group]);
    const { name, status, why, seconds } = result;
    rows.push([
      `  ${name}`,
      status,
      `${seconds.toFixed(1)} s`,
      [numbersText(result.numbers), why].filter(Boolean).join("; "),
    ]);
  }
  return renderTable(COLUMNS, rows);
}

/** `ratio 1.02, hostNs 310`: three significant digits. */
function numbersText(numbers: Readonly<Record<string, number>>): string {
  return Object.entries(numbers).map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`).join(", ");
}

/** How many results have a status. */
export function count(results: readonly CheckResult[], status: CheckResult["status"]): number {
  return results.filter((result) => result.status === status).length;
}
