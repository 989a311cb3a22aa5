/**
 * The order of ids: by Unicode code point, as in the reference. JavaScript's own order is by UTF-16 code unit, which puts characters beyond
 * U+FFFF (two surrogates from U+D800 to U+DFFF each) before those from U+E000 to U+FFFF.
 *
 * @module
 */

/** Matches a string that the two orders may place differently. */
const SURROGATE = /[\ud800-\udfff]/;

/**
 * Compares by Unicode code point. A lone surrogate counts as the code point of its number.
 *
 * @returns Negative when `a` comes first, positive when `b` does, 0 when they are equal.
 */
export function compareCodePoints(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length);
  let i = 0;
  while (i < shorter && a.charCodeAt(i) === b.charCodeAt(i)) i++;
  if (i === shorter) return a.length - b.length;
  // The difference may lie in the second half of a pair whose first half is shared.
  if (i > 0 && isHighSurrogate(a.charCodeAt(i - 1))) i--;
  const difference = a.codePointAt(i)! - b.codePointAt(i)!;
  // Two lone high surrogates before the difference: step over the shared one.
  return difference !== 0 ? difference : a.codePointAt(i + 1)! - b.codePointAt(i + 1)!;
}

/** A sorted copy of `ids`. */
export function sortCodePoints(ids: Iterable<string>): string[] {
  const sorted = [...ids];
  // The engine's own order is several times faster, and the same where there are no surrogates.
  return sorted.some((id) => SURROGATE.test(id)) ? sorted.sort(compareCodePoints) : sorted.sort();
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}
