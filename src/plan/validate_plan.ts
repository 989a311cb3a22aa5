/**
 * What a plan has to satisfy before anything moves, as far as plan, world size and metadata tell.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { checkStep } from "./check_step.ts";
import { rawStep } from "./plan_json.ts";
import type { RedistribStep } from "./step.ts";

/** What planning and validation read of the metadata of all samples; any `SequenceSample` will do. */
export interface PlanMeta {
  /** The samples there are. */
  readonly ids: readonly string[];
  /** Their fields. */
  readonly keys: readonly string[];
  /** The element type of each field; null where it has no data. */
  readonly dtypes: Readonly<Record<string, string | null>>;
  /** The shape of one element of each field; null where it has no data. */
  readonly trailingShapes: Readonly<Record<string, readonly number[] | null>>;
}

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
  if (!Array.isArray(plan)) throw new PlanError(`plan: it is an array of steps, not ${show(plan)}`, { place: "plan" });
  const ids = meta === undefined ? undefined : new Set(meta.ids);
  for (const [i, step] of (plan as readonly RedistribStep[]).entries()) {
    const place = `plan[${i}]`;
    if (typeof step !== "object" || step === null) {
      throw new PlanError(`${place}: a step is an object, not ${show(step)}`, { place });
    }
    checkStep(rawStep(step), place);
    if (step.root !== null) requireInWorld(step.root, worldSize, `${place}.root`);
    requireAllInWorld(step.srcs, worldSize, `${place}.srcs`);
    requireAllInWorld(step.dsts, worldSize, `${place}.dsts`);
    if (ids !== undefined) requireKnown(step.ids, ids, `${place}.ids`);
    if (meta !== undefined) step.keys.forEach((key, k) => requireMovable(key, meta, `${place}.keys[${k}]`));
  }
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
    if (typeof rank === "number") requireInWorld(rank, worldSize, `${place}[${i}]`);
    else requireAllInWorld(rank, worldSize, `${place}[${i}]`);
  });
}

function requireKnown(ids: readonly (string | readonly string[])[], known: ReadonlySet<string>, place: string): void {
  for (const [i, id] of ids.entries()) {
    if (typeof id !== "string") {
      requireKnown(id, known, `${place}[${i}]`);
    } else if (!known.has(id)) {
      const at = `${place}[${i}]`;
      throw new PlanError(`${at}: the metadata has no id ${show(id)}`, { place: at, id });
    }
  }
}

function requireMovable(key: string, meta: PlanMeta, place: string): void {
  if (!meta.keys.includes(key)) {
    throw new PlanError(`${place}: the metadata has no key ${show(key)}; it has ${meta.keys.join(", ") || "none"}`, {
      place,
      key,
    });
  }
  for (const field of ["dtypes", "trailingShapes"] as const) {
    const table = meta[field];
    if (!Object.hasOwn(table, key) || table[key] === null) {
      const what = field === "dtypes" ? "dtype" : "trailing shape";
      throw new PlanError(`${place}: key ${show(key)} has no data to move: its ${what} is null`, { place, key });
    }
  }
}
