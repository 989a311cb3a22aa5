import { assertEquals } from "@std/assert";
import { allCallCells } from "./call_cells.ts";
import { allCells, runCells } from "./cells.ts";
import { drawn } from "./draw.ts";
import { allProcessCells, runProcessCells } from "./process_cells.ts";

/** Drawn anew in every run; a run that failed comes back with the seed that it printed. */
const SEED = Number(Deno.env.get("SEQFERRY_TEST_SEED") ?? Math.floor(Math.random() * 1e9));

function say(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

Deno.test("a transfer with a fault on one rank ends in time, all or nothing, and goes on after rebuild: a sample of the matrix", async () => {
  const all = await allCells();
  const cells = drawn(all, 60, SEED);
  say(`${cells.length} of ${all.length} cells, SEQFERRY_TEST_SEED=${SEED}`);
  const failures = await runCells(cells);
  assertEquals(failures.map(({ cell, error }) => `${cell}: ${error}`), []);
});

Deno.test("a call that answers an error costs one step, which can be done again: a sample of all calls of all functions", async () => {
  const all = await allCallCells();
  const cells = drawn(all, 40, SEED);
  say(`${cells.length} of ${all.length} cells, SEQFERRY_TEST_SEED=${SEED}`);
  const failures = await runCells(cells);
  assertEquals(failures.map(({ cell, error }) => `${cell}: ${error}`), []);
});

Deno.test("a process that is killed or stopped at any moment costs nothing but itself: a sample of the matrix", async () => {
  const all = await allProcessCells();
  const cells = drawn(all, 16, SEED);
  say(`${cells.length} of ${all.length} cells, SEQFERRY_TEST_SEED=${SEED}`);
  const { failures } = await runProcessCells(cells);
  assertEquals(failures.map(({ cell, error }) => `${cell}: ${error}`), []);
});
