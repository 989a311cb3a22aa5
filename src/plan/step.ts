/**
 * The steps of a plan.
 *
 * The room `plan/` decides who sends what to whom. A plan is an ordered list of steps, the same on every rank, and plain data: this file has
 * its types, `parsePlan` and `planToJSON` its JSON form, `validatePlan` what it has to satisfy, `GlobalStorageTracker` the knowledge of who holds
 * what, and `RedistribPlanner` derives a plan from that knowledge. `simulatePlan` runs a plan on paper. Nothing here knows of a
 * device; of other rooms the room imports only the sizes of elements and a heap, both from `sample/`.
 *
 * @module
 */

/** The root sends all `ids` to each destination. */
export interface BcastStep {
  /** Tells the kinds of step apart. */
  commType: "bcast";
  /** The rank that sends. */
  root: number;
  /** The root alone. */
  srcs: number[];
  /** The ranks that receive. The root may be among them and keeps what it has. */
  dsts: number[];
  /** What is sent: of each id all `keys`. */
  ids: string[];
  /** The fields that travel. */
  keys: string[];
}

/** Each source sends its ids to the root. */
export interface GatherStep {
  /** Tells the kinds of step apart. */
  commType: "gather";
  /** The rank that receives, and keeps what it gathered. */
  root: number;
  /** The ranks that send. The root may be among them and keeps what it has. */
  srcs: number[];
  /** A gather has no destinations but the root. */
  dsts: null;
  /** `ids[i]` is what `srcs[i]` sends; may be empty. Several sources may send the same id: they hold the same. */
  ids: string[][];
  /** The fields that travel. */
  keys: string[];
}

/** The root sends each destination its ids. */
export interface ScatterStep {
  /** Tells the kinds of step apart. */
  commType: "scatter";
  /** The rank that sends. */
  root: number;
  /** A scatter has no sources but the root. */
  srcs: null;
  /** The ranks that receive, in any order. The root may be among them and keeps what it has. */
  dsts: number[];
  /** `ids[i]` is what `dsts[i]` receives, in any order; may be empty. */
  ids: string[][];
  /** The fields that travel. */
  keys: string[];
}

/**
 * Ours, not the reference's: `srcs[i]` sends `ids[i]` to every rank of `dsts[i]`, without a root. One without sources moves nothing and is a fence: what
 * stands behind it in the plan starts in a later phase than all that stands before it.
 */
export interface ExchangeStep {
  /** Tells the kinds of step apart. */
  commType: "exchange";
  /** An exchange has no root. */
  root: null;
  /** The ranks that send. One rank may stand here several times, with different ids for different destinations. */
  srcs: number[];
  /** `dsts[i]` receives from `srcs[i]`. */
  dsts: number[][];
  /** `ids[i]` is what `srcs[i]` sends. */
  ids: string[][];
  /** The fields that travel. */
  keys: string[];
}

/** One step of a plan. Each list of ranks (save an exchange's `srcs`), ids or keys names nothing twice. */
export type RedistribStep = BcastStep | GatherStep | ScatterStep | ExchangeStep;

/** A fence: moves nothing. What stands behind it starts in a later phase than all that stands before it. */
export function fence(keys: readonly string[]): ExchangeStep {
  return { commType: "exchange", root: null, srcs: [], dsts: [], ids: [], keys: [...keys] };
}

/** Whether `step` is a fence. */
export function isFence({ commType, srcs }: RedistribStep): boolean {
  return commType === "exchange" && srcs.length === 0;
}

/** One way that data takes in a step: `src` gives all `ids` to each of `dsts`. */
export interface Delivery {
  /** The rank that has the data. */
  readonly src: number;
  /** The ranks that have it afterwards. */
  readonly dsts: readonly number[];
  /** The ids that travel, with all keys of the step. */
  readonly ids: readonly string[];
}

/** The ways that data takes in `step`, those from a rank to itself included. */
export function deliveriesOf(step: RedistribStep): Delivery[] {
  switch (step.commType) {
    case "bcast":
      return [{ src: step.root, dsts: step.dsts, ids: step.ids }];
    case "gather":
      return step.srcs.map((src, i) => ({ src, dsts: [step.root], ids: step.ids[i]! }));
    case "scatter":
      return step.dsts.map((dst, i) => ({ src: step.root, dsts: [dst], ids: step.ids[i]! }));
    case "exchange":
      return step.srcs.map((src, i) => ({ src, dsts: step.dsts[i]!, ids: step.ids[i]! }));
  }
}
