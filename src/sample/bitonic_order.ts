/**
 * The order of values, largest first, with equal ones as a bitonic sorting network leaves them.
 *
 * Where the reference allocates ids to micro-batches, equal lengths come in the order of numpy's `argsort`, and that decides who shares a
 * micro-batch with whom. On x86 machines with AVX2 or AVX-512, numpy sorts up to 256 values by such a network. Taking the same network here
 * gives the same micro-batches, on every machine and for any number of values.
 *
 * @module
 */

/**
 * The positions of `values`, largest value first.
 *
 * @param values Any numbers but NaN.
 * @returns A permutation of the positions.
 */
export function bitonicOrder(values: readonly number[]): number[] {
  let size = 1;
  while (size < values.length) size *= 2;
  // Negated, so that the least comes first; the room up to a power of two is filled with what stays last.
  const keys = new Float64Array(size).fill(Infinity);
  for (const [i, value] of values.entries()) keys[i] = -value;
  const positions = Uint32Array.from(keys, (_, i) => i);

  const exchange = (low: number, high: number): void => {
    const key = keys[low]!;
    if (key <= keys[high]!) return;
    const position = positions[low]!;
    keys[low] = keys[high]!;
    positions[low] = positions[high]!;
    keys[high] = key;
    positions[high] = position;
  };
  for (let block = 2; block <= size; block *= 2) {
    // Two sorted halves: the first against the second in reverse makes two halves, of which each of the first is no larger than any of the second.
    for (let start = 0; start < size; start += block) {
      for (let i = 0; i < block / 2; i++) exchange(start + i, start + block - 1 - i);
    }
    for (let distance = block / 4; distance >= 1; distance /= 2) {
      for (let i = 0; i < size; i++) if ((i & distance) === 0) exchange(i, i + distance);
    }
  }
  return Array.from(positions.subarray(0, values.length));
}
