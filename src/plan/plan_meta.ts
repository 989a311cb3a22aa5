/**
 * What planning reads of the metadata of all samples.
 *
 * @module
 */

import { isCount } from "../count.ts";
import { PlanError } from "../errors.ts";
import { entryOf } from "../sample/path.ts";
import { show } from "../show.ts";
import { requireStrings } from "./check_step.ts";

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

/** Metadata that tells sizes too; any `SequenceSample` will do. */
export interface SizedMeta extends PlanMeta {
  /** Per key, per id, the lengths of that id's sequences. Without it sizes count as unknown. */
  readonly seqlens?: Readonly<Record<string, readonly (readonly number[])[]>>;
}

/**
 * Refuses metadata that is none: without ids, keys or one of the records by key, or with lengths that are none or of another number of ids.
 *
 * @param meta What was given.
 * @throws {PlanError} that names the field.
 */
export function requireMeta(meta: SizedMeta): void {
  requireRecord(meta, "meta");
  const { ids, keys, seqlens } = meta;
  requireStrings(ids, "meta.ids", "id");
  requireStrings(keys, "meta.keys", "key");
  requireRecord(meta.dtypes, "meta.dtypes");
  requireRecord(meta.trailingShapes, "meta.trailingShapes");
  if (seqlens === undefined) return;
  requireRecord(seqlens, "meta.seqlens");
  for (const key of keys) {
    if (Object.hasOwn(seqlens, key)) requireLengths(seqlens[key], ids.length, entryOf("meta.seqlens", key), key);
  }
}

function requireLengths(perId: unknown, count: number, place: string, key: string): void {
  if (!Array.isArray(perId) || perId.length !== count) {
    throw new PlanError(`${place}: it is a list with the lengths of each of the ${count} ids, not ${show(perId)}`, {
      place,
      key,
    });
  }
  for (let i = 0; i < count; i++) {
    const lengths: unknown = perId[i];
    if (Array.isArray(lengths) && lengths.every(isCount)) continue;
    const of = `${place}[${i}]`;
    throw new PlanError(`${of}: it is a list of whole numbers from 0 up, not ${show(lengths)}`, { place: of, key });
  }
}

function requireRecord(value: unknown, place: string): void {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return;
  throw new PlanError(`${place}: it is an object, not ${show(value)}`, { place });
}
