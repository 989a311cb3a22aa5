/**
 * A fingerprint by which ranks see that they mean the same.
 *
 * It guards against differences that come about by mistake, not against forgery, and it is made on this thread: with more ranks than cores the way to
 * WebCrypto's threads and back costs more than all of a small transfer's other work. What guards data is a SHA-256, see `verification.ts`.
 *
 * @module
 */

/** Two odd factors for each of the four lanes. */
const [C1, C2, C3, C4] = [0x239b961b, 0xab0e9789, 0x38b34ae5, 0xa1e38b93] as const;

/** MurmurHash3, the 128-bit variant for 32-bit arithmetic, with seed 0: 32 hexadecimal digits. */
export function fingerprint(bytes: Uint8Array<ArrayBuffer>): string {
  const whole = bytes.length - bytes.length % 16;
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, whole / 4);
  let h1 = 0, h2 = 0, h3 = 0, h4 = 0;
  for (let i = 0; i < words.length; i += 4) {
    h1 = Math.imul(rotated(h1 ^ scrambled(words[i]!, C1, 15, C2), 19) + h2, 5) + 0x561ccd1b | 0;
    h2 = Math.imul(rotated(h2 ^ scrambled(words[i + 1]!, C2, 16, C3), 17) + h3, 5) + 0x0bcaa747 | 0;
    h3 = Math.imul(rotated(h3 ^ scrambled(words[i + 2]!, C3, 17, C4), 15) + h4, 5) + 0x96cd1c35 | 0;
    h4 = Math.imul(rotated(h4 ^ scrambled(words[i + 3]!, C4, 18, C1), 13) + h1, 5) + 0x32ac3b17 | 0;
  }
  // The rest is taken as if zeros followed.
  const rest = new Uint8Array(16);
  rest.set(bytes.subarray(whole));
  const [k1, k2, k3, k4] = new Uint32Array(rest.buffer) as unknown as [number, number, number, number];
  h1 ^= scrambled(k1, C1, 15, C2) ^ bytes.length;
  h2 ^= scrambled(k2, C2, 16, C3) ^ bytes.length;
  h3 ^= scrambled(k3, C3, 17, C4) ^ bytes.length;
  h4 ^= scrambled(k4, C4, 18, C1) ^ bytes.length;
  const mixed = spread(spread([h1, h2, h3, h4]).map(avalanche));
  return mixed.map((h) => (h >>> 0).toString(16).padStart(8, "0")).join("");
}

function rotated(value: number, by: number): number {
  return value << by | value >>> 32 - by;
}

function scrambled(word: number, factor: number, by: number, other: number): number {
  return Math.imul(rotated(Math.imul(word, factor), by), other);
}

/** Lets every lane depend on all others. */
function spread([h1, h2, h3, h4]: readonly number[]): number[] {
  const all = h1! + h2! + h3! + h4! | 0;
  return [all, h2! + all | 0, h3! + all | 0, h4! + all | 0];
}

/** Lets every bit of a lane depend on all of its bits. */
function avalanche(h: number): number {
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return h ^ h >>> 16;
}
