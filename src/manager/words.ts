/**
 * What ranks tell one another about a transfer, as bytes.
 *
 * Mostly there are no refusals and no objections, so that these words are a few numbers and nothing; reasons are JSON.
 *
 * @module
 */

import { type Refusal, SeqferryError } from "../errors.ts";
import type { Cut } from "../transfer/outgoing.ts";
import type { Fingerprint } from "./fingerprint.ts";

/** Why a rank refuses; which rank it is follows from whose word it is. */
export type Reason = Omit<Refusal, "rank">;

/** One rank's word in the agreement. */
export interface Verdict {
  /** The fingerprint of its terms; empty where it could not be made. */
  readonly digest: Fingerprint;
  /** The number of the last transfer that it knows of. */
  readonly sequence: number;
  /** Why it refuses. */
  readonly refusals: readonly Reason[];
  /** Where it cuts the messages that it sends. */
  readonly cuts: readonly Cut[];
}

const NOTHING = new Uint8Array(0);
const encoder = new TextEncoder();

/**
 * Words of 32 bits: how many of the fingerprint there are, those, the number low and high, the number of cuts, each cut behind its length; and then the
 * reasons.
 */
export function encodeVerdict({ digest, sequence, refusals, cuts }: Verdict): Uint8Array {
  const words = [digest.length, ...digest];
  words.push(sequence % 2 ** 32, Math.floor(sequence / 2 ** 32), cuts.length);
  for (const cut of cuts) words.push(cut.length, ...cut);
  const reasons = encodeReasons(refusals);
  const bytes = new Uint8Array(Uint32Array.BYTES_PER_ELEMENT * words.length + reasons.length);
  new Uint32Array(bytes.buffer, 0, words.length).set(words);
  bytes.set(reasons, Uint32Array.BYTES_PER_ELEMENT * words.length);
  return bytes;
}

/** Reads what {@linkcode encodeVerdict} made. The bytes begin at a multiple of 4. Throws a {@linkcode SeqferryError} where they end early. */
export function decodeVerdict(bytes: Uint8Array): Verdict {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.byteLength / 4));
  let at = 0;
  /** Goes on by so many words; returns where they begin. */
  const take = (count: number): number => {
    if (at + count > words.length) {
      throw new SeqferryError("a rank's word ends early: is it of the same version of seqferry?");
    }
    return (at += count) - count;
  };
  const next = () => words[take(1)]! >>> 0;
  // Signed: of a fingerprint any word may be negative, of a cut that of a message that belongs to no group.
  const nextList = (): number[] => {
    const list: number[] = [];
    for (let length = next(), i = take(length); i < at; i++) list.push(words[i]!);
    return list;
  };
  const digest = nextList();
  const sequence = next() + next() * 2 ** 32;
  const cuts: Cut[] = [];
  for (let left = next(); left > 0; left--) cuts.push(nextList() as unknown as Cut);
  return { digest, sequence, cuts, refusals: decodeReasons(bytes.subarray(Uint32Array.BYTES_PER_ELEMENT * at)) };
}

/** Reasons as JSON; none as nothing at all. */
export function encodeReasons(reasons: readonly Reason[]): Uint8Array {
  return reasons.length === 0 ? NOTHING : encoder.encode(JSON.stringify(reasons));
}

/** Reads what {@linkcode encodeReasons} made. */
export function decodeReasons(bytes: Uint8Array): Reason[] {
  return bytes.length === 0 ? [] : JSON.parse(new TextDecoder().decode(bytes));
}
