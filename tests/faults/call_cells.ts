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

/** All cells: by function of the libraries, and by which of its calls fails. */
export async function allCallCells(): Promise<Cell[]> {
  const names = [...Object.keys(native.cudart.symbols), ...Object.keys(native.nccl.symbols)];
  const counts = () => names.map((name) => cpuCallCount(native.cpu!, name) ?? 0);
  const before = counts();
  await liveWithFault("none", 0, 0);
  const calls = counts().map((count, i) => count - before[i]!);
  return names.flatMap((name, i): Cell[] => {
    const cells: Cell[] = [];
    // Both ranks' calls were counted, and one rank's fail.
    for (let after = 0; after < calls[i]! / 2; after = Math.max(after + 1, Math.floor(after * LATER))) {
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
