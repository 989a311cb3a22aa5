/**
 * The segments of a message: what of it is one operation.
 *
 * A message is the bytes of its items one after another. Where they lie one after another in the sender's memory as well, they leave from there; where they are
 * scattered in small pieces they are packed first. The sender alone knows which it is, so that it cuts its messages and tells its peers where, in the
 * agreement before the first byte. The receiver has all of a message in one piece, and cuts it likewise.
 *
 * @module
 */

import type { Places } from "./places.ts";

/** Items that travel as one operation. */
export interface Segment {
  /** Position of the first item in the message. */
  readonly start: number;
  /** Position behind the last item. */
  readonly end: number;
  /** The sum of their sizes. */
  readonly bytes: number;
  /** In how many pieces they lie: from two on they have to be packed. */
  readonly runs: number;
}

/** From this size on it costs less to issue an operation than to copy the bytes once more. */
const LARGE_BYTES = 128 * 1024;
/** Operations that a rank issues in a phase if it sends to all others; a group gets slow when it holds many more. */
const OPERATIONS = 256;

/**
 * Cuts a message that this rank sends.
 *
 * @param items The message's items, ascending.
 * @param bytes Sizes by item.
 * @param places Where they lie.
 * @param worldSize How many ranks there are.
 */
export function segmentsOf(items: Uint32Array, bytes: Float64Array, places: Places, worldSize: number): Segment[] {
  let total = 0;
  for (const item of items) total += bytes[item]!;
  const large = Math.max(LARGE_BYTES, 2 * total * worldSize / OPERATIONS);
  const segments: Segment[] = [];
  /** Small runs in a row. */
  let small = { start: 0, bytes: 0, runs: 0 };
  forEachRun(items, 0, items.length, bytes, places, (start, end, runBytes) => {
    if (runBytes < large) {
      small.bytes += runBytes;
      small.runs++;
      return;
    }
    if (small.runs > 0) segments.push({ ...small, end: start });
    segments.push({ start, end, bytes: runBytes, runs: 1 });
    small = { start: end, bytes: 0, runs: 0 };
  });
  if (small.runs > 0) segments.push({ ...small, end: items.length });
  return segments;
}

/** Cuts a message at positions that its sender told. */
export function segmentsAt(items: Uint32Array, bytes: Float64Array, cuts: readonly number[]): Omit<Segment, "runs">[] {
  return [0, ...cuts].map((start, i) => {
    const end = cuts[i] ?? items.length;
    let sum = 0;
    for (let position = start; position < end; position++) sum += bytes[items[position]!]!;
    return { start, end, bytes: sum };
  });
}

/** Calls `visit` with each stretch of the items from `start` to `end` that lies in one piece, by positions. */
export function forEachRun(
  items: Uint32Array,
  start: number,
  end: number,
  bytes: Float64Array,
  places: Places,
  visit: (start: number, end: number, bytes: number) => void,
): void {
  let runStart = start;
  let runBytes = 0;
  let slab = -1;
  let expected = -1;
  for (let position = start; position < end; position++) {
    const item = items[position]!;
    const offset = places.offsetOf(item);
    // Two slabs may lie side by side, but one operation cannot go across.
    if (offset !== expected || places.slabNumberOf(item) !== slab) {
      if (runBytes > 0) visit(runStart, position, runBytes);
      runStart = position;
      runBytes = 0;
      slab = places.slabNumberOf(item);
    }
    const size = bytes[item]!;
    expected = offset + size;
    runBytes += size;
  }
  if (runBytes > 0) visit(runStart, end, runBytes);
}
