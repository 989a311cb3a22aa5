/**
 * One rank: every way in which bytes move on one device, in a process that lasts from check to check.
 *
 * @module
 */

import type { Checks, Numbers } from "./check.ts";
import { ONE_RANK_CHECKS, type OneRankCommand } from "./one_rank_process.ts";
import { PeerProcess } from "./peer_process.ts";
import type { Place } from "./place.ts";

/** Makes the checks. A check that hangs or crashes takes its process with it; the next one gets a fresh one. */
export async function checkOneRank(checks: Checks, { backend, env }: Place): Promise<void> {
  let process: PeerProcess<OneRankCommand> | undefined;
  try {
    for (const check of ONE_RANK_CHECKS.keys()) {
      await checks.run("one rank", check, async () => {
        if (process?.isAlive !== true) {
          process = PeerProcess.deno("the rank", "one_rank_process.ts", [backend, "0"], env);
        }
        return await process.must<Numbers>({ check });
      });
    }
  } finally {
    await process?.[Symbol.asyncDispose]();
  }
}
