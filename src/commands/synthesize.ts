/**
 * Stand-ins for what a rollout file does not hold, made from a seed: the same seed, key and id give the same bytes on every machine and in
 * any order of ids.
 *
 * @module
 */

/** A source of 32-bit words. */
export type Words = () => number;

/** Words for one key of one id. */
export function words(seed: number, key: string, id: string): Words {
  return xoshiro128(hash128(`${seed}\0${key}\0${id}`));
}

/** The generator xoshiro128** of Blackman and Vigna, begun at a state of four words that are not all zero. */
export function xoshiro128(begin: Iterable<number>): Words {
  let [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = begin;
  return () => {
    const word = Math.imul(rotate(Math.imul(s1, 5), 7), 9) >>> 0;
    const shifted = s1 << 9;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    s0 ^= s3;
    s2 ^= shifted;
    s3 = rotate(s3, 11);
    return word;
  };
}

/** `count` log-probabilities, float32: from about -5.5 to 0, most of them near 0. */
export function synthesizeLogprobs(count: number, next: Words): Float32Array<ArrayBuffer> {
  const logprobs = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const u = next() / 2 ** 32;
    logprobs[i] = -5.5 * u * u * u;
  }
  return logprobs;
}

/** `count` values, as the 16-bit words of bfloat16: from -2 to 2. */
export function synthesizeValues(count: number, next: Words): Uint16Array<ArrayBuffer> {
  const values = new Uint16Array(count);
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  for (let i = 0; i < count; i++) {
    float[0] = (next() / 2 ** 32) * 4 - 2;
    values[i] = bits[0]! >>> 16;
  }
  return values;
}

/** `count` versions of a policy, int64: odd numbers above 2^53, which no float64 holds exactly, let alone a float32. */
export function synthesizeVersions(count: number, next: Words): BigInt64Array<ArrayBuffer> {
  return BigInt64Array.from({ length: count }, () => 2n ** 53n + 1n + 2n * BigInt(next() % 1000));
}

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}

/** Four words of FNV-1a over the UTF-8 bytes, each from an offset of its own; never all zero, which xoshiro could not leave. */
function hash128(text: string): Uint32Array {
  const bytes = new TextEncoder().encode(text);
  const state = new Uint32Array(4);
  for (let lane = 0; lane < 4; lane++) {
    let hash = 0x811c9dc5 ^ Math.imul(lane, 0x9e3779b9);
    for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
    // FNV leaves the high bits of short texts alike: mix them.
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    state[lane] = hash ^ (hash >>> 16);
  }
  if (state.every((word) => word === 0)) state[0] = 1;
  return state;
}
