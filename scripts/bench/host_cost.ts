/**
 * What issuing an operation costs the host.
 *
 * @module
 */

import { Communicator, Deadline, DeviceBuffer, openRuntime } from "../../mod.ts";
import { pollUntil } from "../../src/wait.ts";
import { median } from "./floor.ts";

/** What one call costs. */
export interface HostCost {
  /** From the wrapper through the stand-in's function and back. */
  readonly nanosecondsPerCall: number;
  /** JavaScript's heap, what the group itself takes included. */
  readonly heapBytesPerCall: number;
}

/** Sends, and as many receives, of one group: some below the most that a group holds. */
const PAIRS_PER_GROUP = 256;
const WARM_UP = 300;
const REPEATS = 200;

/** Issues groups of small sends from a rank to itself; medians over the groups. */
export async function measureHostCost(): Promise<HostCost> {
  using runtime = await openRuntime({ backend: "cpu" });
  await using communicator = await Communicator.init(runtime, {
    uniqueId: runtime.createUniqueId(),
    rank: 0,
    worldSize: 1,
  });
  using buffer = DeviceBuffer.allocate(runtime, 1024);
  const { address } = buffer;
  const deadline = new Deadline();
  const times: number[] = [];
  const growths: number[] = [];
  for (let i = 0; i < WARM_UP + REPEATS; i++) {
    const before = Deno.memoryUsage().heapUsed;
    let milliseconds = 0;
    const group = await communicator.group("the measurement", (calls) => {
      const started = performance.now();
      for (let pair = 0; pair < PAIRS_PER_GROUP; pair++) {
        calls.receive(address + 512n, 64, 0);
        calls.send(address, 64, 0);
      }
      milliseconds = performance.now() - started;
    }, deadline);
    const growth = Deno.memoryUsage().heapUsed - before;
    await pollUntil("the measurement", () => group.isDone(), deadline);
    if (i < WARM_UP) continue;
    times.push(milliseconds * 1e6 / (2 * PAIRS_PER_GROUP));
    growths.push(growth / (2 * PAIRS_PER_GROUP));
  }
  return { nanosecondsPerCall: median(times), heapBytesPerCall: median(growths) };
}
