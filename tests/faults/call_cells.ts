/**
 * The part of the fault matrix that goes by calls: any function of the libraries answers an error, at any of its calls in the life of two ranks.
 *
 * @module
 */

import { cpuCallCount } from "../../ffi/cpu_extras.ts";
import { native } from "../native.ts";
import type { Cell } from "./cells.ts";
import { liveWithFault } from "./life.ts";

/** Of each function the first calls, and from there on fewer and fewer: what comes later is more of the same. */
const LATER = 1.2;

/** What waits ask again and again: how often depends on how long things take. So many calls of each are taken, that come or do not. */
const ASKED_AGAIN = ["cudaEventQuery", "cudaStreamQuery", "ncclCommGetAsyncError"];
const TIMES_ASKED = 400;

/** All cells: by function of the libraries, and by which of its calls fails. */
export async function allCallCells(): Promise<Cell[]> {
  const names = [...Object.keys(native.cudart.symbols), ...Object.keys(native.nccl.symbols)];
  const counts = () => names.map((name) => cpuCallCount(native.cpu!, name) ?? 0);
  const before = counts();
  await liveWithFault("none", 0, 0);
  // Both ranks' calls are counted, and one rank's fail.
  const calls = counts().map((count, i) => ASKED_AGAIN.includes(names[i]!) ? TIMES_ASKED : (count - before[i]!) / 2);
  return names.flatMap((name, i): Cell[] => {
    const cells: Cell[] = [];
    for (let after = 0; after < calls[i]!; after = Math.max(after + 1, Math.floor(after * LATER))) {
      const code = name.startsWith("nccl") ? 2 : 700;
      cells.push({
        where: "one process",
        name: `the life of two ranks: call ${after + 1} of ${name} answers ${code}`,
        run: async () => void await liveWithFault(name, code, after),
      });
    }
    return cells;
  });
}
