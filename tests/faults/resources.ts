/**
 * What a process holds of the stand-in.
 *
 * @module
 */

import { readCpuAccounts } from "../../ffi/cpu_extras.ts";
import { native } from "../native.ts";

/** What the stand-in counts of this process's resources. */
export function resources(): Record<string, number> {
  const { liveAllocations, liveBytes, pinnedBytes, liveStreams, liveEvents, liveCommunicators, outstandingGroups } =
    readCpuAccounts(native.cpu!);
  return { liveAllocations, liveBytes, pinnedBytes, liveStreams, liveEvents, liveCommunicators, outstandingGroups };
}
