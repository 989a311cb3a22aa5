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
  /** The number of ranks. */
  readonly worldSize?: number;
  /** The rank among the workers of this machine. */
  readonly localRank?: number;
}

/** Variables by launcher, in the order in which launchers are asked: rank, size, local rank. */
const LAUNCHERS: readonly (readonly [string, string, string])[] = [
  ["RANK", "WORLD_SIZE", "LOCAL_RANK"], // torchrun
  ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"], // Open MPI
  ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"], // Slurm
  ["JOB_COMPLETION_INDEX", "WORLD_SIZE", "LOCAL_RANK"], // Kubernetes Indexed Job: its size is in the job's specification only
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
  for (const [rankName, sizeName, localName] of LAUNCHERS) {
    const rank = read(rankName);
    if (rank === undefined) continue;
    const worldSize = read(sizeName);
    const localRank = read(localName);
    return {
      rank,
      ...(worldSize === undefined ? {} : { worldSize }),
      ...(localRank === undefined ? {} : { localRank }),
    };
  }
  const localRank = read("LOCAL_RANK");
  return localRank === undefined ? {} : { localRank };
}
