/**
 * How large what travels is.
 *
 * @module
 */

import { isDType, itemSize } from "../sample/dtype.ts";
import type { SizedMeta } from "./plan_meta.ts";
import { positionsOfIds } from "./positions_of_ids.ts";

/** The size of every (id, key) of some ids and keys. */
export interface ItemSizes {
  /** Whether sizes are bytes. Otherwise every (id, key) counts as one unit. */
  readonly known: boolean;
  /** By position of the key, then by position of the id: bytes, or 1. */
  readonly byKey: readonly Float64Array[];
}

/**
 * Looks sizes up: the sum of an id's lengths times the bytes of one element. A key without dtype or trailing shape has no bytes.
 *
 * @param ids The ids, by position; all are in `meta` where there is one.
 * @param keys The keys, by position; all are in `meta` where there is one.
 * @param meta The metadata, or undefined.
 */
export function itemSizes(ids: readonly string[], keys: readonly string[], meta: SizedMeta | undefined): ItemSizes {
  const seqlens = meta?.seqlens;
  if (meta === undefined || seqlens === undefined) {
    return { known: false, byKey: keys.map(() => new Float64Array(ids.length).fill(1)) };
  }
  const placeOf = positionsOfIds(meta.ids);
  const places = ids.map((id) => placeOf.get(id)!);
  const byKey = keys.map((key) => {
    const sizes = new Float64Array(ids.length);
    const dtype = meta.dtypes[key];
    const shape = meta.trailingShapes[key];
    const ofKey = Object.hasOwn(seqlens, key) ? seqlens[key] : undefined;
    if (!isDType(dtype) || shape == null || ofKey === undefined) return sizes;
    const bytesPerElement = shape.reduce((product, dim) => product * dim, itemSize(dtype));
    for (const [i, place] of places.entries()) {
      let length = 0;
      for (const n of ofKey[place]!) length += n;
      sizes[i] = length * bytesPerElement;
    }
    return sizes;
  });
  return { known: true, byKey };
}
