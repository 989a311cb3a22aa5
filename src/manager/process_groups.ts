/**
 * Replica groups: for each destination model, the ranks that hold the same data-parallel shard.
 *
 * @module
 */

import type { Communicator } from "../comm/communicator.ts";
import type { ClusterLayout } from "../layout/cluster_layout.ts";
import type { ReplicaGroup } from "../transfer/run.ts";
import type { Deadline } from "../wait.ts";

/** The groups of one model: by data-parallel index, each sorted. */
export interface ReplicaColoring {
  /** The model. */
  readonly model: string;
  /** By data-parallel index the members' ranks, sorted. */
  readonly groups: readonly (readonly number[])[];
}

/**
 * The destination models that have replicas, in the order of the layout's pairs. A model of which one rank holds shards of two data-parallel
 * indices is left out: such a rank could not belong to just one group.
 */
export function replicaColorings(layout: ClusterLayout): ReplicaColoring[] {
  const models = new Set(layout.transferPairs.map(([, destination]) => destination));
  return [...models].map((model): ReplicaColoring => {
    const { topology } = layout.models.find(({ name }) => name === model)!;
    const groups = Array.from(
      { length: topology.getDim("data") },
      (_, data) => [...new Set(layout.ranksOf(model, { data }))].sort((a, b) => a - b),
    );
    return { model, groups };
  }).filter(({ groups }) => {
    const members = groups.flat();
    return new Set(members).size === members.length && groups.some((group) => group.length > 1);
  });
}

/** Makes the communicators of the groups: one collective split for each model. */
export async function splitReplicaGroups(
  communicator: Communicator,
  colorings: readonly ReplicaColoring[],
  deadline: Deadline,
): Promise<ReplicaGroup[]> {
  const made: ReplicaGroup[] = [];
  for (const { groups } of colorings) {
    const color = groups.findIndex((members) => members.includes(communicator.rank));
    const mine = await communicator.split(color, deadline);
    groups.forEach((members, index) => made.push({ members, communicator: index === color ? mine : null }));
  }
  return made;
}
