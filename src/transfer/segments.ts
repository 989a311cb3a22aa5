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
import type { Message } from "./program.ts";

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

/** From this size on a run is cheaper as an operation of its own than copied once more, where copies are made one by one. */
export const LARGE_BYTES = 128 * 1024;
/** The same where a kernel copies, which moves megabytes in the microseconds that an operation of NCCL takes. */
export const LARGE_BYTES_BY_KERNEL = 2 * 1024 * 1024;
/** Operations that a rank issues in a phase if it sends to all others; a group gets slow when it holds many more. */
const OPERATIONS = 256;

/**
 * Cuts a message that this rank sends: large runs leave from where they lie; where that makes too many operations, only the larger ones do.
 *
 * @param message Its items, ascending.
 * @param bytes Sizes by item.
 * @param places Where they lie.
 * @param worldSize How many ranks there are.
 * @param largeBytes From which size on a run is large: {@linkcode LARGE_BYTES} or {@linkcode LARGE_BYTES_BY_KERNEL}.
 */
export function segmentsOf(
  { items }: Pick<Message, "items">,
  bytes: Float64Array,
  places: Places,
  worldSize: number,
  largeBytes: number,
): Segment[] {
  const most = Math.max(1, Math.floor(OPERATIONS / worldSize));
  let segments: Segment[] | null = null;
  for (let large = largeBytes; segments === null; large *= 2) {
    segments = cutWhereLarge(items, bytes, places, large, most);
  }
  return segments;
}

/**
 * Cuts a message so that each run of `large` bytes or more is a segment by itself, and smaller ones in a row are one together. Null where that makes more than
 * `most` segments.
 */
function cutWhereLarge(
  items: Uint32Array,
  bytes: Float64Array,
  places: Places,
  large: number,
  most: number,
): Segment[] | null {
  const segments: Segment[] = [];
  /** Small runs in a row. */
  let small = { start: 0, bytes: 0, runs: 0 };
  for (let start = 0, end = 0; start < items.length; start = end) {
    end = runEnd(items, start, items.length, bytes, places);
    const inRun = runBytes(items, start, end, bytes, places);
    if (inRun < large) {
      small.bytes += inRun;
      small.runs++;
      continue;
    }
    if (small.runs > 0) segments.push({ ...small, end: start });
    segments.push({ start, end, bytes: inRun, runs: 1 });
    if (segments.length > most) return null;
    small = { start: end, bytes: 0, runs: 0 };
  }
  if (small.runs > 0) segments.push({ ...small, end: items.length });
  return segments.length > most ? null : segments;
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

/** The position behind the stretch of items from `start` on, and before `end`, that lies in one piece. */
export function runEnd(items: Uint32Array, start: number, end: number, bytes: Float64Array, places: Places): number {
  const first = items[start]!;
  const slab = places.slabNumberOf(first);
  let expected = places.offsetOf(first) + bytes[first]!;
  let position = start + 1;
  for (; position < end; position++) {
    const item = items[position]!;
    // Two slabs may lie side by side, but one operation cannot go across.
    if (places.offsetOf(item) !== expected || places.slabNumberOf(item) !== slab) break;
    expected += bytes[item]!;
  }
  return position;
}

/** The size of a stretch of items that lies in one piece. */
export function runBytes(items: Uint32Array, start: number, end: number, bytes: Float64Array, places: Places): number {
  const last = items[end - 1]!;
  return places.offsetOf(last) + bytes[last]! - places.offsetOf(items[start]!);
}
