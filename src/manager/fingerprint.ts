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

/** Bytes that are taken in at once. */
const BLOCK_BYTES = 16;

/** 128 bits as four signed words of 32; no words where none could be made. */
export type Fingerprint = readonly number[];

/** What one call after another works in: each new array costs a microsecond. */
const lanes = new Int32Array(4);
const rest = new Uint8Array(BLOCK_BYTES);
const restWords = new Uint32Array(rest.buffer);

/** MurmurHash3, the 128-bit variant for 32-bit arithmetic, with seed 0. */
export function fingerprint(bytes: Uint8Array<ArrayBuffer>): Fingerprint {
  const whole = bytes.length - bytes.length % BLOCK_BYTES;
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  takeIn(new Uint32Array(aligned.buffer, aligned.byteOffset, whole / 4));
  // The rest is taken as if zeros followed.
  rest.fill(0);
  for (let i = whole; i < bytes.length; i++) rest[i - whole] = bytes[i]!;
  lanes[0]! ^= scrambled(restWords[0]!, C1, 15, C2) ^ bytes.length;
  lanes[1]! ^= scrambled(restWords[1]!, C2, 16, C3) ^ bytes.length;
  lanes[2]! ^= scrambled(restWords[2]!, C3, 17, C4) ^ bytes.length;
  lanes[3]! ^= scrambled(restWords[3]!, C4, 18, C1) ^ bytes.length;
  spread();
  for (let i = 0; i < 4; i++) lanes[i] = avalanche(lanes[i]!);
  spread();
  return [lanes[0]!, lanes[1]!, lanes[2]!, lanes[3]!];
}

/** A fingerprint as text: 32 hexadecimal digits. */
export function hexOf(print: Fingerprint): string {
  return print.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** Starts anew, and takes in whole blocks. */
function takeIn(words: Uint32Array): void {
  let h1 = 0, h2 = 0, h3 = 0, h4 = 0;
  for (let i = 0; i < words.length; i += 4) {
    h1 = Math.imul(rotated(h1 ^ scrambled(words[i]!, C1, 15, C2), 19) + h2, 5) + 0x561ccd1b | 0;
    h2 = Math.imul(rotated(h2 ^ scrambled(words[i + 1]!, C2, 16, C3), 17) + h3, 5) + 0x0bcaa747 | 0;
    h3 = Math.imul(rotated(h3 ^ scrambled(words[i + 2]!, C3, 17, C4), 15) + h4, 5) + 0x96cd1c35 | 0;
    h4 = Math.imul(rotated(h4 ^ scrambled(words[i + 3]!, C4, 18, C1), 13) + h1, 5) + 0x32ac3b17 | 0;
  }
  lanes[0] = h1;
  lanes[1] = h2;
  lanes[2] = h3;
  lanes[3] = h4;
}

function rotated(value: number, by: number): number {
  return value << by | value >>> 32 - by;
}

function scrambled(word: number, factor: number, by: number, other: number): number {
  return Math.imul(rotated(Math.imul(word, factor), by), other);
}

/** Lets every lane depend on all others. */
function spread(): void {
  lanes[0] = lanes[0]! + lanes[1]! + lanes[2]! + lanes[3]!;
  for (let i = 1; i < 4; i++) lanes[i]! += lanes[0]!;
}

/** Lets every bit of a lane depend on all of its bits. */
function avalanche(h: number): number {
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return h ^ h >>> 16;
}
