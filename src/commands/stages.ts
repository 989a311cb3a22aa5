/**
 * From layouts and ids to plans: who begins with what, and what each move brings to whom. Pure.
 *
 * The first model's dp heads begin with contiguous shares of the ids, in the order of the input. Each model after that splits all ids among its dp
 * ranks: as many for each, and about as many bytes; every rank of a dp rank is to have that dp rank's ids, and its head owns them from then on.
 * What a rank has it keeps, so that later moves need not bring it again, as far as the planner makes use of that.
 *
 * @module
 */

import {
  type ClusterLayout,
  GlobalStorageTracker,
  type Pattern,
  PlanError,
  RedistribPlanner,
  type RedistribStep,
  type SequenceSample,
} from "../../mod.ts";
import { deliveriesOf } from "../plan/step.ts";

/** One move. */
export interface Stage {
  /** The model it comes from. */
  readonly from: string;
  /** The model it goes to. */
  readonly to: string;
  /** How. */
  readonly plan: readonly RedistribStep[];
  /** By rank the ids that it is to have. */
  readonly dests: ReadonlyMap<number, readonly string[]>;
  /** By rank all ids that it holds afterwards, those from before included. */
  readonly holds: readonly ReadonlySet<string>[];
}

/** All moves of a run. */
export interface Itinerary {
  /** By rank the ids that it begins with. */
  readonly shares: ReadonlyMap<number, readonly string[]>;
  /** The moves, in order. */
  readonly stages: readonly Stage[];
}

/** What travels. */
export interface Cargo {
  /** All ids, in the order of the input. */
  readonly ids: readonly string[];
  /** All keys. */
  readonly keys: readonly string[];
  /** Bytes by id; one for each where it is not given. */
  readonly bytesOf?: ReadonlyMap<string, number>;
  /** The metadata, where it is known. */
  readonly meta?: SequenceSample;
}

/**
 * Plans the moves from each model of a layout to the next.
 *
 * @param layout At least two models, in the order of travel.
 * @throws {PlanError} when there is no planner for the pattern, or a plan leaves out what it should bring.
 */
export function planStages(layout: ClusterLayout, cargo: Cargo, pattern: Pattern): Itinerary {
  const { ids, keys, meta } = cargo;
  const { worldSize } = layout;
  const models = layout.models.map(({ name }) => name);
  const tracker = new GlobalStorageTracker(worldSize);
  const planner = new RedistribPlanner({ gpusPerNode: worldSize }, tracker);
  const own = (rank: number, owned: readonly string[]) => {
    for (const key of keys) tracker.addData(rank, owned, key, true);
  };

  const heads = layout.dpHeads(models[0]!);
  const shares = new Map(contiguousShares(ids, heads.length).map((share, i) => [heads[i]!, share]));
  for (const [rank, share] of shares) own(rank, share);
  let holds = Array.from({ length: worldSize }, (_, rank) => new Set(shares.get(rank)));

  const stages = models.slice(1).map((to, i): Stage => {
    const parts = balancedParts(ids, layout.dpHeads(to).length, cargo.bytesOf);
    const dests = new Map<number, readonly string[]>();
    for (const [data, part] of parts.entries()) {
      for (const rank of layout.ranksOf(to, { data })) dests.set(rank, part);
    }
    const plan = planner.derivePlan(dests, keys, pattern, meta === undefined ? {} : { meta });
    tracker.applyPlan(plan);
    for (const [data, head] of layout.dpHeads(to).entries()) own(head, parts[data]!);
    holds = holdingsAfter(holds, plan);
    for (const [rank, wanted] of dests) {
      const missing = wanted.find((id) => !holds[rank]!.has(id));
      if (missing !== undefined) {
        throw new PlanError(`the plan from ${models[i]} to ${to} does not bring rank ${rank} the id ${missing}`, {
          rank,
          id: missing,
        });
      }
    }
    return { from: models[i]!, to, plan, dests, holds };
  });
  return { shares, stages };
}

/** Parts in the order of the ids, whose sizes differ by one at most. */
export function contiguousShares(ids: readonly string[], parts: number): string[][] {
  return Array.from(
    { length: parts },
    (_, i) => ids.slice(Math.floor(i * ids.length / parts), Math.floor((i + 1) * ids.length / parts)),
  );
}

/**
 * Parts whose counts differ by one at most and whose bytes are about the same: the largest id goes first, each to the part with the fewest bytes
 * that may take one more. Within a part ids keep their order.
 */
export function balancedParts(
  ids: readonly string[],
  parts: number,
  bytesOf: ReadonlyMap<string, number> = new Map(),
): string[][] {
  const loads = Array.from({ length: parts }, (_, i) => ({
    part: i,
    bytes: 0,
    room: Math.floor(ids.length / parts) + (i < ids.length % parts ? 1 : 0),
    places: [] as number[],
  }));
  const sizes = ids.map((id) => bytesOf.get(id) ?? 1);
  const largestFirst = [...ids.keys()].sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  for (const place of largestFirst) {
    const load = loads.filter(({ room }) => room > 0).reduce((least, one) => one.bytes < least.bytes ? one : least);
    load.bytes += sizes[place]!;
    load.room--;
    load.places.push(place);
  }
  return loads.map(({ places }) => places.sort((a, b) => a - b).map((place) => ids[place]!));
}

/** What ranks hold after a plan: destinations what was brought to them, a gather's root what it gathered. */
function holdingsAfter(before: readonly ReadonlySet<string>[], plan: readonly RedistribStep[]): Set<string>[] {
  const after = before.map((held) => new Set(held));
  for (const step of plan) {
    for (const { dsts, ids } of deliveriesOf(step)) {
      for (const dst of dsts) {
        for (const id of ids) after[dst]!.add(id);
      }
    }
  }
  return after;
}
