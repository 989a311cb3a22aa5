import { assertEquals, assertNotEquals } from "@std/assert";
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

Deno.test("the matrix has the same cells each time, and a seed draws the same ones whatever else there is", async () => {
  const names = (cells: readonly { name: string }[]) => cells.map(({ name }) => name);
  const all = await allCallCells();
  assertEquals(names(await allCallCells()), names(all));
  const order = names(drawn(all, Infinity, SEED));
  assertEquals(order.toSorted(), names(all).toSorted());
  assertEquals(names(drawn(all.slice(1), Infinity, SEED)), order.filter((name) => name !== all[0]!.name));
  assertEquals(names(drawn(all, 5, SEED)), order.slice(0, 5));
  assertNotEquals(names(drawn(all, Infinity, SEED + 1)), order);
});
