/**
 * What a plan has to satisfy before anything moves, as far as plan, world size and metadata tell.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { Scratch } from "../scratch.ts";
import { show } from "../show.ts";
import { checkStep, IdPositioner, type IdsCheck, requireStep } from "./check_step.ts";
import { countIds } from "./movements.ts";
import { rawStep } from "./plan_json.ts";
import { type PlanMeta, requireMeta } from "./plan_meta.ts";
import { positionsOfIds } from "./positions_of_ids.ts";
import type { RedistribStep } from "./step.ts";

/** What a plan is checked against. */
export interface ValidatePlanOptions {
  /** The number of ranks. */
  worldSize: number;
  /** The metadata of all samples; without it ids and keys are taken as they are. */
  meta?: PlanMeta;
}

/**
 * Refuses a plan that could not run: a step that is malformed, a rank outside the world, an id or a key that the metadata does not have, a
 * key whose dtype or trailing shape is null. Steps in which nothing needs to move are fine.
 *
 * @param plan The steps.
 * @param options The world size, and the metadata where it is known.
 * @throws {PlanError} with the place, and with the rank, id or key at fault.
 */
export function validatePlan(plan: readonly RedistribStep[], options: ValidatePlanOptions): void {
  const { worldSize, meta } = options;
  requireWorldSize(worldSize);
  requireSteps(plan);
  if (meta === undefined) {
    for (let i = 0; i < plan.length; i++) checkOne(plan[i], `plan[${i}]`, worldSize);
    return;
  }
  requireMeta(meta);
  const positioner = new IdPositioner(meta.ids, () => positionsOfIds(meta.ids), null);
  checkAllAgainst(meta, plan, worldSize, positioner);
}

/**
 * Validates a plan, and looks up the positions of its ids while at it.
 *
 * @param plan The steps.
 * @param options As {@linkcode validatePlan} takes them; `positions` gives those of the ids of the metadata.
 * @param scratch What to work in.
 * @returns The positions of all its ids, one after another as its steps have them. Good until `scratch` is reset.
 * @throws {PlanError} as {@linkcode validatePlan} does.
 */
export function resolvePlan(
  plan: readonly RedistribStep[],
  options: Required<ValidatePlanOptions> & { positions: () => ReadonlyMap<string, number> },
  scratch: Scratch = new Scratch(),
): Int32Array {
  const { worldSize, meta, positions } = options;
  requireWorldSize(worldSize);
  requireSteps(plan);
  const room = scratch.int32(countIds(plan));
  const positioner = new IdPositioner(meta.ids, positions, room, scratch.int32(meta.ids.length));
  checkAllAgainst(meta, plan, worldSize, positioner);
  return positioner.found;
}

function checkAllAgainst(
  meta: PlanMeta,
  plan: readonly RedistribStep[],
  worldSize: number,
  positioner: IdPositioner,
): void {
  // By position, for a list may have holes.
  for (let i = 0; i < plan.length; i++) {
    checkOne(plan[i], `plan[${i}]`, worldSize, positioner.check);
    for (const [k, key] of plan[i]!.keys.entries()) requireMovable(key, meta, () => `plan[${i}].keys[${k}]`);
  }
}

/** Refuses a number of ranks that there cannot be. */
function requireWorldSize(worldSize: unknown): void {
  if (Number.isSafeInteger(worldSize) && (worldSize as number) > 0) return;
  const place = "worldSize";
  throw new PlanError(`${place}: it is a whole number from 1 up, not ${show(worldSize)}`, { place });
}

function requireSteps(plan: readonly RedistribStep[]): void {
  if (!Array.isArray(plan)) throw new PlanError(`plan: it is an array of steps, not ${show(plan)}`, { place: "plan" });
}

function checkOne(step: RedistribStep | undefined, place: string, worldSize: number, checkIds?: IdsCheck): void {
  requireStep(step, place);
  checkStep(rawStep(step), place, checkIds);
  if (step.root !== null) requireInWorld(step.root, worldSize, `${place}.root`);
  requireAllInWorld(step.srcs, worldSize, `${place}.srcs`);
  requireAllInWorld(step.dsts, worldSize, `${place}.dsts`);
}

function requireInWorld(rank: number, worldSize: number, place: string): void {
  if (rank >= worldSize) {
    throw new PlanError(`${place}: rank ${rank} is outside the world of ${worldSize} ranks`, { place, rank });
  }
}

function requireAllInWorld(
  ranks: readonly (number | readonly number[])[] | null,
  worldSize: number,
  place: string,
): void {
  ranks?.forEach((rank, i) => {
    if (typeof rank !== "number") requireAllInWorld(rank, worldSize, `${place}[${i}]`);
    else if (rank >= worldSize) requireInWorld(rank, worldSize, `${place}[${i}]`);
  });
}

function requireMovable(key: string, meta: PlanMeta, placeOf: () => string): void {
  if (!meta.keys.includes(key)) {
    const place = placeOf();
    throw new PlanError(`${place}: the metadata has no key ${show(key)}; it has ${meta.keys.join(", ") || "none"}`, {
      place,
      key,
    });
  }
  for (const field of ["dtypes", "trailingShapes"] as const) {
    const table = meta[field];
    if (!Object.hasOwn(table, key) || table[key] === null) {
      const place = placeOf();
      const what = field === "dtypes" ? "dtype" : "trailing shape";
      throw new PlanError(`${place}: key ${show(key)} has no data to move: its ${what} is null`, { place, key });
    }
  }
}
