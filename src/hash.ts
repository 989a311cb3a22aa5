/**
 * Hashes of texts.
 *
 * @module
 */

/** A number of 32 bits that follows from a text and a seed (FNV-1a). */
export function hashOf(text: string, seed = 0): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
