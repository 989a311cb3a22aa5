/**
 * What must hold after a transfer in which one rank failed, whatever the fault.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { after, type Scene } from "./scenes.ts";

/** How the transfer ended on one rank. */
export interface End {
  /** The error's name, message and fields; undefined where there was none. */
  readonly error?: { readonly name: string; readonly message: string } & Readonly<Record<string, unknown>>;
  /** From the call to its end. */
  readonly ms: number;
}

/** What an error says, as plain data; its flight record is looked at elsewhere. */
export function errorFields(error: unknown): NonNullable<End["error"]> {
  const { name, message, cause, flight: _, ...fields } = error as Error & Record<string, unknown>;
  return { name, message, ...fields, cause: (cause as Error | undefined)?.message };
}

/** A transfer that had a fault on one rank. */
export interface Case {
  readonly scene: Scene;
  readonly victim: number;
  readonly timeoutMs: number;
  /** By rank; null for a process that is gone. */
  readonly ends: readonly (End | null)[];
  /** By rank, the ids that it holds, their bytes checked; null for a process that is gone. */
  readonly held: readonly (readonly string[] | null)[];
  /** Whether the victim met its fault. */
  readonly fired: boolean;
}

/** How much longer than its deadline a call may take: the abort's grace, and a busy machine. */
const GRACE_MS = 4000;
/** Whether a rank is sure that nothing has changed; what a caller's own code throws comes before the vote. */
export const certain = (end: End | null) => end?.error !== undefined && end.error.outcome !== "unknown";

/**
 * All or nothing, in time, in the words of the semantics. `victimError` says what the victim may raise; `lost` that its process is gone;
 * `culprit` that it is to be named by the others.
 */
export function judge(
  { scene, victim, timeoutMs, ends, held, fired }: Case,
  victimError: (error: NonNullable<End["error"]>) => boolean,
  { lost = false, culprit = true }: { lost?: boolean; culprit?: boolean } = {},
): void {
  const goal = after(scene);
  const story = ends.map((end, rank) =>
    `rank ${rank}: ${end === null ? "gone" : end.error === undefined ? "done" : JSON.stringify(end.error)}`
  ).join("\n");
  const done = ends.some((end) => end !== null && end.error === undefined);
  let named = false;
  ends.forEach((end, rank) => {
    if (end === null) return;
    assert(end.ms < timeoutMs + GRACE_MS, `rank ${rank} took ${end.ms} ms\n${story}`);
    assertEquals(held[rank], end.error === undefined ? goal[rank] : [...scene.before[rank]!].sort(), story);
    if (end.error === undefined) return;
    const { name, outcome, outstanding, phase } = end.error;
    assert(fired, `rank ${rank} failed without a fault\n${story}`);
    if (rank === victim) {
      assert(victimError(end.error), `rank ${rank}, which had the fault, raised something else\n${story}`);
      return;
    }
    assert(outcome === "unchanged" || outcome === "unknown", `rank ${rank} does not tell its outcome\n${story}`);
    assert(Number.isInteger(phase), `rank ${rank} does not tell its phase\n${story}`);
    if (name === "PeerLostError") {
      assert(end.error.rank !== rank, story);
      if (lost) assertEquals(end.error.rank, victim, story);
      named ||= end.error.rank === victim;
    } else {
      assertEquals(name, "DeadlineError", story);
      assert(!lost, `a lost peer was taken for a slow one\n${story}`);
      assert(Array.isArray(outstanding) && !outstanding.includes(rank), story);
      named ||= (outstanding as number[]).includes(victim);
    }
  });
  // Nobody is certain that nothing happened where someone has committed.
  if (done) assert(!ends.some(certain), `one committed, and another says that nothing has changed\n${story}`);
  if (culprit && ends.some((end, rank) => rank !== victim && end?.error !== undefined)) {
    assert(named, `nobody names rank ${victim}\n${story}`);
  }
}

/** What all ranks hold after rebuild: all what the plan brings, or all what they had. `lost` is a rank that started anew. */
export function judgeSettled(
  { scene, ends }: Pick<Case, "scene" | "ends">,
  held: readonly (readonly string[])[],
  lost: number | null = null,
): void {
  const goal = after(scene);
  const story = JSON.stringify({ ends, held });
  const done = ends.some((end) => end !== null && end.error === undefined);
  const unchanged = ends.some((end, rank) => rank !== lost && certain(end));
  const settled = done ? goal : scene.before.map((ids) => [...ids].sort());
  // Nobody is certain and nobody is done: then all discard.
  assert(!(done && unchanged), story);
  held.forEach((ids, rank) => assertEquals(ids, rank === lost ? [] : settled[rank], `rank ${rank}\n${story}`));
}
