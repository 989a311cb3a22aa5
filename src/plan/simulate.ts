/**
 * Running a plan on a described cluster, on paper.
 *
 * @module
 */

import { BinaryHeap } from "../sample/binary_heap.ts";
import { type ClusterSpec, type CostModel, requireCluster } from "./cluster_spec.ts";
import { costModelOf } from "./cost_model.ts";
import { itemSizes } from "./item_sizes.ts";
import type { SizedMeta } from "./plan_meta.ts";
import type { RedistribStep } from "./step.ts";
import { type Flow, type Traffic, trafficOf } from "./traffic.ts";
import { requireRoomFor } from "./check_step.ts";
import { validatePlan } from "./validate_plan.ts";

/** What a plan comes to on a cluster. */
export interface Simulation {
  /** From the start to the arrival of the last byte. */
  readonly seconds: number;
  /** The number of phases that the plan is lowered to. */
  readonly phases: number;
  /** By rank, the bytes that arrive. */
  readonly bytesIntoRank: readonly number[];
  /** By rank, the bytes that leave. */
  readonly bytesOutOfRank: readonly number[];
  /** By node, the bytes that arrive from other nodes. */
  readonly bytesIntoNode: readonly number[];
  /** By node, the bytes that leave for other nodes. */
  readonly bytesOutOfNode: readonly number[];
  /**
   * By rank, the most device bytes that the transfer takes beside what is stored: all that arrives, which is kept until it is committed, and the
   * packing of what leaves in one phase.
   */
  readonly peakBytes: readonly number[];
}

/** What {@linkcode simulatePlan} is told beside plan, metadata and cluster. */
export interface SimulatePlanOptions {
  /** The number of ranks. */
  worldSize: number;
}

/**
 * Runs a plan, event by event, on a cluster of nodes of `cluster.gpusPerNode` ranks each, one device a rank.
 *
 * A rank enters its next phase when all that it sends and receives in the one before has arrived. It first packs what leaves it in messages of
 * several items, a copy within the device. A message sets out when both its ends are in its phase. It leaves through the sender's link and arrives
 * by the receiver's, each of which carries one message at a time, in the order in which they came, both directions at once. Between ranks
 * of one node these are the ranks' own links; between nodes they are the nodes' links to the network, which the ranks of a node share. The last byte
 * is there after the latency and the bytes over the bandwidth, later where the receiver's link was taken.
 *
 * @param plan The steps.
 * @param meta The metadata of all samples. Without `seqlens` every (id, key) counts as one unit, and latencies as 0.
 * @param cluster The machines; {@linkcode DEFAULT_COST_MODEL} counts where `costModel` is absent.
 * @param options The number of ranks.
 * @throws {PlanError} when the cluster or the plan is not valid.
 */
export function simulatePlan(
  plan: readonly RedistribStep[],
  meta: SizedMeta,
  cluster: ClusterSpec,
  options: SimulatePlanOptions,
): Simulation {
  const { worldSize } = options;
  requireCluster(cluster);
  requireRoomFor(worldSize);
  validatePlan(plan, { worldSize, meta });
  const sizes = itemSizes(meta.ids, meta.keys, meta);
  const traffic = trafficOf(plan, { ids: meta.ids, keys: meta.keys, sizes }, worldSize);
  const { gpusPerNode } = cluster;
  const bytes = countBytes(traffic, gpusPerNode);
  return {
    seconds: secondsOf(traffic, gpusPerNode, costModelOf(cluster, sizes.known)),
    phases: traffic.phases,
    ...bytes,
  };
}

/** What each rank and node carries. */
export function countBytes(traffic: Traffic, gpusPerNode: number): Omit<Simulation, "seconds" | "phases"> {
  const { worldSize, phases } = traffic;
  const ranks = () => new Array<number>(worldSize).fill(0);
  const nodes = () => new Array<number>(Math.ceil(worldSize / gpusPerNode)).fill(0);
  const into = { rank: ranks(), node: nodes() };
  const outOf = { rank: ranks(), node: nodes() };
  const staging = ranks();
  for (let phase = 0; phase < phases; phase++) {
    const leaving = ranks();
    for (const { from, to, bytes } of traffic.flows(phase)) {
      into.rank[to]! += bytes;
      outOf.rank[from]! += bytes;
      leaving[from]! += bytes;
      const source = Math.floor(from / gpusPerNode);
      const destination = Math.floor(to / gpusPerNode);
      if (source === destination) continue;
      into.node[destination]! += bytes;
      outOf.node[source]! += bytes;
    }
    for (const [rank, bytes] of leaving.entries()) staging[rank] = Math.max(staging[rank]!, bytes);
  }
  return {
    bytesIntoRank: into.rank,
    bytesOutOfRank: outOf.rank,
    bytesIntoNode: into.node,
    bytesOutOfNode: outOf.node,
    peakBytes: staging.map((bytes, rank) => bytes + into.rank[rank]!),
  };
}

/** One phase of one rank. */
interface RankPhase {
  readonly flows: Flow[];
  /** Messages that have not arrived. */
  outstanding: number;
  /** Bytes of messages of several items that leave. */
  packed: number;
}

/** How long the traffic takes, as {@linkcode simulatePlan} tells. */
export function secondsOf(traffic: Traffic, gpusPerNode: number, costs: CostModel): number {
  const { worldSize } = traffic;
  // By rank and phase; a rank passes over phases in which it has nothing to do.
  const programs = Array.from({ length: worldSize }, () => new Map<number, RankPhase>());
  const phaseOf = (rank: number, phase: number): RankPhase => {
    let own = programs[rank]!.get(phase);
    if (own === undefined) programs[rank]!.set(phase, own = { flows: [], outstanding: 0, packed: 0 });
    return own;
  };
  for (let phase = 0; phase < traffic.phases; phase++) {
    for (const flow of traffic.flows(phase)) {
      for (const rank of [flow.from, flow.to]) {
        const own = phaseOf(rank, phase);
        own.flows.push(flow);
        own.outstanding++;
      }
      if (flow.items > 1) phaseOf(flow.from, phase).packed += flow.bytes;
    }
  }
  const queues = programs.map((phases) => [...phases.keys()]);
  const place = new Int32Array(worldSize);
  const current = (rank: number): number => queues[rank]![place[rank]!] ?? -1;

  const entered = new Int32Array(worldSize).fill(-1);
  const lastArrival = new Float64Array(worldSize);
  const events = new BinaryHeap<{ time: number; rank: number }>((a, b) => a.time - b.time || a.rank - b.rank);
  const enter = (rank: number, time: number) => {
    const phase = current(rank);
    if (phase < 0) return;
    const { packed } = programs[rank]!.get(phase)!;
    const { latencySeconds, bytesPerSecond } = costs.sameDevice;
    events.push({ time: packed === 0 ? time : time + latencySeconds + packed / bytesPerSecond, rank });
  };
  for (let rank = 0; rank < worldSize; rank++) enter(rank, 0);

  // Links: those of the ranks, then those of the nodes.
  const nodes = Math.ceil(worldSize / gpusPerNode);
  const outFree = new Float64Array(worldSize + nodes);
  const inFree = new Float64Array(worldSize + nodes);
  let end = 0;
  for (let first = events.pop(); first !== undefined; first = events.pop()) {
    const { time } = first;
    const together = [first.rank];
    while (events.peek()?.time === time) together.push(events.pop()!.rank);
    for (const rank of together) entered[rank] = current(rank);
    // The messages both of whose ends are there now. Where both came now, the lower end brings it in.
    const ready: Flow[] = [];
    const now = new Set(together);
    for (const rank of together) {
      const phase = entered[rank]!;
      for (const flow of programs[rank]!.get(phase)!.flows) {
        const other = flow.from === rank ? flow.to : flow.from;
        if (entered[other] === phase && (!now.has(other) || rank < other)) ready.push(flow);
      }
    }
    const distance = ({ from, to }: Flow): number => (to - from + worldSize) % worldSize;
    ready.sort((a, b) => distance(a) - distance(b) || a.from - b.from);
    for (const { from, to, bytes } of ready) {
      const source = Math.floor(from / gpusPerNode);
      const destination = Math.floor(to / gpusPerNode);
      const near = source === destination;
      const { latencySeconds, bytesPerSecond } = near ? costs.sameNode : costs.network;
      const out = near ? from : worldSize + source;
      const into = near ? to : worldSize + destination;
      const start = Math.max(time, outFree[out]!);
      outFree[out] = start + bytes / bytesPerSecond;
      const arrival = Math.max(start + latencySeconds, inFree[into]!) + bytes / bytesPerSecond;
      inFree[into] = arrival;
      end = Math.max(end, arrival);
      for (const rank of [from, to]) {
        lastArrival[rank] = Math.max(lastArrival[rank]!, arrival);
        if (--programs[rank]!.get(entered[rank]!)!.outstanding > 0) continue;
        place[rank]!++;
        enter(rank, lastArrival[rank]!);
      }
    }
  }
  return end;
}
