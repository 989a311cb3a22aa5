/**
 * What a launcher tells a worker through its environment.
 *
 * @module
 */

import { SeqferryError } from "../errors.ts";

/** A worker's place, as far as the environment tells. */
export interface LaunchEnvironment {
  /** The rank. */
  readonly rank?: number;
  /** The rank among the workers of this machine. */
  readonly localRank?: number;
}

/** Variables by launcher, in the order in which launchers are asked: rank, local rank. */
const LAUNCHERS: readonly (readonly [string, string])[] = [
  ["RANK", "LOCAL_RANK"], // torchrun
  ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"], // Open MPI
  ["SLURM_PROCID", "SLURM_LOCALID"], // Slurm
  ["JOB_COMPLETION_INDEX", "LOCAL_RANK"], // Kubernetes Indexed Job: a local rank only where its specification sets one
];

/** Every variable that {@linkcode readLaunchEnvironment} may ask for. */
export const LAUNCH_VARIABLES: readonly string[] = [...new Set(LAUNCHERS.flat())];

/**
 * Reads a worker's place from the first launcher that names a rank.
 *
 * @param variable Looks a variable up; empty counts as unset.
 * @throws {SeqferryError} for a variable that is no integer from 0 up.
 */
export function readLaunchEnvironment(variable: (name: string) => string | undefined): LaunchEnvironment {
  const read = (name: string): number | undefined => {
    const text = variable(name);
    if (text === undefined || text === "") return undefined;
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!Number.isSafeInteger(value)) {
      throw new SeqferryError(`${name}: it is an integer from 0 up, not ${JSON.stringify(text)}`);
    }
    return value;
  };
  for (const [rankName, localName] of LAUNCHERS) {
    const rank = read(rankName);
    if (rank !== undefined) return { rank, ...localRankOf(read(localName)) };
  }
  return localRankOf(read("LOCAL_RANK"));
}

/** A local rank as a field, absent where it is not known. */
function localRankOf(localRank: number | undefined): LaunchEnvironment {
  return localRank === undefined ? {} : { localRank };
}
