/**
 * Digests by which ranks see that they mean the same, and that bytes are the same.
 *
 * @module
 */

import { planToJSON } from "../plan/plan_json.ts";
import type { RedistribStep } from "../plan/step.ts";
import type { SequenceSample } from "../sample/sequence_sample.ts";

/** The text of everything about a transfer that must be the same on all ranks. */
export function canonicalText(
  meta: SequenceSample,
  plan: readonly RedistribStep[],
  replicaGroups: readonly (readonly number[])[],
  verify: boolean,
): string {
  const { ids, keys, dtypes, trailingShapes, seqlens, metadata } = meta;
  const named = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return JSON.stringify([
    planToJSON(plan),
    ids,
    [...keys].sort().map((key) => [key, dtypes[key] ?? null, trailingShapes[key] ?? null, seqlens[key]]),
    replicaGroups,
    verify,
    // Apart, for only metadata can hold what JSON cannot, and looking at every value is slow.
  ]) + JSON.stringify(named, (_, value) => typeof value === "bigint" ? `${value}n` : value);
}

/** The SHA-256 digest of a text or of bytes, in hexadecimal. */
export async function digestOf(content: string | Uint8Array): Promise<string> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
