/**
 * The JSON form of a plan: the reference's step objects.
 *
 * @module
 */

import { PlanError } from "../errors.ts";
import { show } from "../show.ts";
import { checkStep, type RawStep, requireStep, STEP_FIELDS } from "./check_step.ts";
import type { RedistribStep } from "./step.ts";

/**
 * Reads a plan.
 *
 * @param json An array of the reference's step objects (`comm_type`, `root`, `srcs`, `dsts`, `ids`, `keys`), or its JSON text.
 * @returns The steps, which share nothing with `json`.
 * @throws {PlanError} for anything else; `place` says where, as in `plan[3].dsts[1]`.
 */
export function parsePlan(json: unknown): RedistribStep[] {
  const steps = parseText(json);
  if (!Array.isArray(steps)) {
    throw new PlanError(`plan: it is an array of steps or the JSON text of one, not ${show(steps)}`, { place: "plan" });
  }
  return Array.from(steps as unknown[], (step, i) => parseStep(step, `plan[${i}]`));
}

/**
 * Writes a plan as {@linkcode parsePlan} reads it: a bare array, snake_case, explicit nulls, no further fields.
 *
 * @param plan The steps.
 * @returns Plain data that shares nothing with `plan`.
 * @throws {PlanError} for a step that is no object.
 */
export function planToJSON(plan: readonly RedistribStep[]): unknown[] {
  return Array.from(plan, (step, i) => {
    requireStep(step, `plan[${i}]`);
    return copyFields(rawStep(step));
  });
}

/** The fields of `step` under the reference's names, not copied. */
export function rawStep(step: RedistribStep): RawStep {
  return {
    comm_type: step.commType,
    root: step.root,
    srcs: step.srcs,
    dsts: step.dsts,
    ids: step.ids,
    keys: step.keys,
  };
}

function parseText(json: unknown): unknown {
  if (typeof json !== "string") return json;
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new PlanError(`plan: it is not JSON: ${error instanceof Error ? error.message : error}`, {
      place: "plan",
      cause: error,
    });
  }
}

function parseStep(step: unknown, place: string): RedistribStep {
  if (typeof step !== "object" || step === null || Array.isArray(step)) {
    throw new PlanError(`${place}: a step is an object, not ${show(step)}`, { place });
  }
  for (const name of STEP_FIELDS) {
    if (!Object.hasOwn(step, name)) {
      throw new PlanError(`${place}.${name}: it is missing; what a step does not have is null`, {
        place: `${place}.${name}`,
      });
    }
  }
  for (const name of Object.keys(step)) {
    if (!(STEP_FIELDS as readonly string[]).includes(name)) {
      throw new PlanError(`${place}.${name}: a step has no such field; it has ${STEP_FIELDS.join(", ")}`, {
        place: `${place}.${name}`,
      });
    }
  }
  const raw = step as RawStep;
  checkStep(raw, place);
  const { comm_type: commType, ...others } = copyFields(raw);
  return { commType, ...others } as unknown as RedistribStep;
}

/** The six fields in their order, lists and lists of lists copied. */
function copyFields(step: RawStep): Record<keyof RawStep, unknown> {
  const copy = (value: unknown): unknown => Array.isArray(value) ? value.map(copy) : Object.is(value, -0) ? 0 : value;
  return {
    comm_type: step.comm_type,
    root: copy(step.root),
    srcs: copy(step.srcs),
    dsts: copy(step.dsts),
    ids: copy(step.ids),
    keys: copy(step.keys),
  };
}
