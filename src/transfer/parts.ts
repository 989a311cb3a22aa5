/**
 * The parts of a message.
 *
 * A large item travels as an operation of its own, straight from where it lies; small ones are packed together. Both ends of a message cut it alike, for the cut
 * depends on nothing but the items' sizes and the number of ranks. Pure.
 *
 * @module
 */

/** Items that travel as one operation. */
export interface Part {
  /** Position of the first item in the message. */
  readonly start: number;
  /** Position behind the last item. */
  readonly end: number;
  /** The sum of their sizes. */
  readonly bytes: number;
}

/** From this size on it costs less to issue an operation than to copy the item once more. */
const LARGE_BYTES = 128 * 1024;
/** Operations that a rank issues in a phase if it sends to all others; a group gets slow when it holds many more. */
const OPERATIONS = 256;

/**
 * Cuts a message.
 *
 * @param items The message's items, ascending.
 * @param bytes Sizes by item.
 * @param worldSize How many ranks there are.
 */
export function partsOf(items: Uint32Array, bytes: Float64Array, worldSize: number): Part[] {
  let total = 0;
  for (const item of items) total += bytes[item]!;
  const large = Math.max(LARGE_BYTES, 2 * total * worldSize / OPERATIONS);
  const parts: Part[] = [];
  let start = 0;
  let sum = 0;
  for (let position = 0; position < items.length; position++) {
    const size = bytes[items[position]!]!;
    if (size >= large) {
      if (position > start) parts.push({ start, end: position, bytes: sum });
      parts.push({ start: position, end: position + 1, bytes: size });
      start = position + 1;
      sum = 0;
    } else {
      sum += size;
    }
  }
  if (start < items.length) parts.push({ start, end: items.length, bytes: sum });
  return parts;
}
