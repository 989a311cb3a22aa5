/**
 * A limit for what must never hang.
 *
 * @module
 */

import { within } from "../../src/wait.ts";

/** When a cell counts as hanging: far beyond every deadline in it. */
const CELL_LIMIT_MS = 60_000;

/** Gives a cell up that does not end; `state` is asked then what it hangs in. */
export async function endsInTime<T>(cell: Promise<T>, state: () => string = () => ""): Promise<T> {
  const end = await within(CELL_LIMIT_MS, cell.then((value) => ({ value })));
  if (end === undefined) throw new Error(`it hangs: no end after ${CELL_LIMIT_MS} ms\n${state()}`);
  return end.value;
}
