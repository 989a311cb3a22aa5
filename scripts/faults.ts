/**
 * The whole fault matrix.
 *
 * ```sh
 * deno task faults [--only TEXT] [--sample N] [--seed S] [--from N] [--count N] [--at-once N]
 * ```
 *
 * `--only` takes the cells whose name has a text; `--sample` some of them, drawn by the seed; `--from` and `--count` a stretch of those, so that a long run
 * can be done in parts. Prints each failure, and the counts. Exit code 0 when nothing failed, else 1; 2 for wrong flags.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { allCallCells } from "../tests/faults/call_cells.ts";
import { allCells, type Cell, runCells } from "../tests/faults/cells.ts";
import { drawn } from "../tests/faults/draw.ts";
import { allProcessCells, type ProcessCell, runProcessCells } from "../tests/faults/process_cells.ts";
import { refuseFlag, wholeFlag } from "./refuse.ts";

const flags = parseArgs(Deno.args, {
  string: ["only", "sample", "seed", "from", "count", "at-once"],
  unknown: refuseFlag,
});
const seed = wholeFlag(flags, "seed", 1);
const sampled = wholeFlag(flags, "sample", Infinity);
const from = wholeFlag(flags, "from", 0);
const count = wholeFlag(flags, "count", Infinity);
const atOnce = wholeFlag(flags, "at-once", 6, 1);
const only = flags.only as string | undefined;
const all = [...await allCells(), ...await allCallCells(), ...await allProcessCells()].filter(({ name }) =>
  only === undefined || name.includes(only)
);
const sample = drawn<Cell | ProcessCell>(all, sampled, seed);
const cells = sample.slice(from, from + count);
print(`${all.length} cells, ${cells.length} to run, seed ${seed}`);
const started = performance.now();
let announced = 0;
const announce = (done: number) => {
  if (done - announced < 100) return;
  announced = done;
  print(`${done} cells after ${((performance.now() - started) / 1000).toFixed(0)} s`);
};
const inProcess = cells.filter((cell) => cell.where === "one process");
const failures = await runCells(inProcess, { atOnce, onLot: announce });
const inProcesses = cells.filter((cell) => cell.where === "processes");
const processes = await runProcessCells(inProcesses, (done) => announce(inProcess.length + done));
failures.push(...processes.failures);
print(`${processes.met} of ${inProcesses.length} processes' faults were met`);
for (const { cell, error } of failures) print(`FAILED ${cell}\n${told(error)}`);
print(`${cells.length} cells, ${failures.length} failures, ${((performance.now() - started) / 1000).toFixed(1)} s`);
Deno.exit(failures.length === 0 ? 0 : 1);

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

/** An error with all that it hides. */
function told(error: unknown): string {
  if (error instanceof SuppressedError) return `${told(error.suppressed)}\nthen ${told(error.error)}`;
  return error instanceof Error ? `${error.stack}` : `${error}`;
}
