/**
 * Paths to fields, for errors.
 *
 * @module
 */

/** The path of an entry of a record: `seqlens.rewards`, or `seqlens["a b"]` for a name that is no identifier. */
export function entryOf(record: string, name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? `${record}.${name}` : `${record}[${JSON.stringify(name)}]`;
}
