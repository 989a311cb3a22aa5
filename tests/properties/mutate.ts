/**
 * Making bad inputs out of good ones.
 *
 * @module
 */

/** Random numbers from 0 up to 1. */
export type Random = () => number;

/** A number from 0 up to `end`. */
export function below(random: Random, end: number): number {
  return Math.floor(random() * end);
}

/** One of a list. */
export function pick<T>(random: Random, list: readonly T[]): T {
  return list[below(random, list.length)]!;
}

/** Numbers at which programs break. */
const NUMBERS = [
  0,
  -0,
  1,
  -1,
  2,
  3,
  7,
  0.5,
  255,
  256,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  1e308,
  -1e308,
  1e-320,
];
/** Words at which programs break. */
export const WORDS: readonly string[] = [
  "",
  " ",
  "0",
  "-1",
  "1e9",
  "__proto__",
  "constructor",
  "toString",
  "__metadata__",
  "null",
  "a/0",
  "\u0000",
  "\ud800",
  "é",
  "\u{1f600}",
  "..",
  "float32",
  "bool",
  "bcast",
  "exchange",
  "data",
  "=",
  "@",
  "\n",
  "'\"\\",
  "x".repeat(3000),
];

/** Any value that JSON has. */
export function anyValue(random: Random, depth = 3): unknown {
  switch (below(random, depth <= 0 ? 5 : 8)) {
    case 0:
      return pick(random, [null, true, false]);
    case 1:
      return pick(random, NUMBERS);
    case 2:
      return below(random, 20);
    case 3:
      return pick(random, WORDS);
    case 4:
      return deep(random);
    case 5:
    case 6:
      return Array.from({ length: below(random, 5) }, () => anyValue(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: below(random, 4) }, () => [pick(random, WORDS), anyValue(random, depth - 1)]),
      );
  }
}

/** Now and then something nested deeper than a stack is. */
function deep(random: Random): unknown {
  if (below(random, 100) > 0) return [];
  const levels = pick(random, [100, 30_000]);
  let value: unknown = pick(random, [0, "x", {}]);
  const asArray = random() < 0.5;
  for (let i = 0; i < levels; i++) value = asArray ? [value] : { a: value };
  return value;
}

/** A copy; of what is nested deeper than can be copied, the thing itself. */
function copy<T>(value: T): T {
  try {
    return structuredClone(value);
  } catch {
    return value;
  }
}

/** A copy of a JSON value with a few changes at random places. */
export function mutateValue(random: Random, value: unknown): unknown {
  const root = { value: copy(value) };
  for (let changes = 1 + below(random, 3); changes > 0; changes--) change(random, root, "value");
  return root.value;
}

function change(random: Random, parent: Record<string, unknown> | unknown[], name: string | number): void {
  const box = parent as Record<string | number, unknown>;
  const value = box[name];
  const names = Array.isArray(value)
    ? [...value.keys()]
    : typeof value === "object" && value !== null
    ? Object.keys(value)
    : [];
  // Most changes are deep inside: there the checks are finest.
  if (names.length > 0 && random() < 0.85) {
    return change(random, value as unknown[], pick<string | number>(random, names));
  }
  switch (below(random, 7)) {
    case 0:
      if (Array.isArray(parent)) parent.splice(Number(name), 1);
      else delete box[name];
      return;
    case 1:
      if (Array.isArray(parent)) parent.push(copy(pick(random, parent)));
      else box[pick(random, WORDS)] = copy(value);
      return;
    case 2:
      if (typeof value === "number") box[name] = value + pick(random, [-1, 1, 0.5, 1e9, -1e9]);
      else if (typeof value === "string") box[name] = mutateText(random, value);
      else box[name] = pick(random, NUMBERS);
      return;
    case 3:
      box[name] = [value];
      return;
    case 4:
      if (Array.isArray(parent) && parent.length > 1) {
        const other = below(random, parent.length);
        [parent[Number(name)], parent[other]] = [parent[other], parent[Number(name)]];
      } else box[name] = null;
      return;
    default:
      box[name] = anyValue(random);
  }
}

/** A text with a few changes at random places. */
export function mutateText(random: Random, text: string): string {
  let result = text;
  for (let changes = 1 + below(random, 4); changes > 0; changes--) {
    const at = below(random, result.length + 1);
    const length = below(random, 6);
    const inserted = pick(random, [
      () => pick(random, WORDS),
      () => String.fromCharCode(below(random, 128)),
      () => `${pick(random, NUMBERS)}`,
      () => result.slice(at, at + below(random, 40)),
      () => "",
      () => pick(random, ["{", "}", "[", "]", ",", ":", '"', "\\u", "\n", " "]),
      () => below(random, 200) === 0 ? "[".repeat(30_000) : "[",
    ])();
    result = result.slice(0, at) + inserted + result.slice(at + length);
  }
  return result;
}

/** Bytes with a few changes at random places; most of them near the front, where headers are. */
export function mutateBytes(random: Random, bytes: Uint8Array): Uint8Array {
  let result = new Uint8Array(bytes);
  for (let changes = 1 + below(random, 4); changes > 0; changes--) {
    const at = Math.floor(result.length * (random() < 0.5 ? random() ** 3 : random()));
    switch (below(random, 6)) {
      case 0:
        result = result.slice(0, at);
        break;
      case 1:
        result = joined(
          result.slice(0, at),
          Uint8Array.from({ length: below(random, 9) }, () => below(random, 256)),
          result.slice(at),
        );
        break;
      case 2:
        result = joined(result.slice(0, at), result.slice(at + below(random, 9)));
        break;
      case 3:
        // The eight bytes that say how long the header is.
        if (result.length >= 8) {
          new DataView(result.buffer).setBigUint64(0, BigInt(pick(random, [0, 1, 8, 1e6, 2 ** 31, 2 ** 53])), true);
        }
        break;
      default:
        if (result.length > 0) result[Math.min(at, result.length - 1)] = below(random, 256);
    }
  }
  return result;
}

/** Random bytes. */
export function anyBytes(random: Random): Uint8Array {
  return Uint8Array.from({ length: below(random, 200) }, () => below(random, 256));
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(parts.reduce((total, { length }) => total + length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
