/**
 * What a sample consists of, and what it has to satisfy.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { type DType, isDType, itemSize } from "./dtype.ts";
import { entryOf } from "./path.ts";
import { checkTensor, type HostTensor, type TensorHandle } from "./tensor.ts";

/** What a {@linkcode SequenceSample} is made from. It is checked, and copied but for the bytes of tensors. */
export interface SequenceSampleInit {
  /** Names of the samples, each once. */
  ids: readonly string[];
  /** Names of the fields, each once. `dtypes`, `trailingShapes`, `seqlens` and `data` have just these entries. */
  keys: readonly string[];
  /** Per key the element type; null for a key without data. */
  dtypes: Readonly<Record<string, DType | null>>;
  /** Per key the shape of one element of a sequence; null for a key without data. */
  trailingShapes: Readonly<Record<string, readonly number[] | null>>;
  /** Per key, per id, the lengths of that id's sequences: integers from 0 up, any number of them. */
  seqlens: Readonly<Record<string, readonly (readonly number[])[]>>;
  /** Absent or null: a metadata-only sample. Per key, all ids' sequences one after another: shape `[sum of lengths, ...trailing]`. */
  data?: Readonly<Record<string, HostTensor | TensorHandle | null>> | null;
  /** Per name one entry per id. Entries are JSON values where they are to travel. */
  metadata?: Readonly<Record<string, readonly unknown[]>>;
}

/** The fields of a sample, to read. A `SequenceSample` has this form. */
export interface SampleFields {
  /** Names of the samples. */
  readonly ids: readonly string[];
  /** Names of the fields. */
  readonly keys: readonly string[];
  /** Per key the element type. */
  readonly dtypes: Readonly<Record<string, DType | null>>;
  /** Per key the shape of one element of a sequence. */
  readonly trailingShapes: Readonly<Record<string, readonly number[] | null>>;
  /** Per key, per id, the lengths of sequences. */
  readonly seqlens: Readonly<Record<string, readonly (readonly number[])[]>>;
  /** Per key the tensor. */
  readonly data: Readonly<Record<string, HostTensor | TensorHandle | null>> | null;
  /** Per name one entry per id. */
  readonly metadata: Readonly<Record<string, readonly unknown[]>>;
}

/** Fields that are known to be valid and that nothing else refers to: a sample takes them over without checking or copying them again. */
export class OwnedFields implements SampleFields {
  /** Names of the samples. */
  readonly ids: string[];
  /** Names of the fields. */
  readonly keys: string[];
  /** Per key the element type. */
  readonly dtypes: Record<string, DType | null> = {};
  /** Per key the shape of one element of a sequence. */
  readonly trailingShapes: Record<string, number[] | null> = {};
  /** Per key, per id, the lengths of sequences. */
  readonly seqlens: Record<string, number[][]> = {};
  /** Per key the tensor. */
  data: Record<string, HostTensor | TensorHandle | null> | null = null;
  /** Per name one entry per id. */
  metadata: Record<string, unknown[]> = {};

  /** Fields with nothing under the keys yet. */
  constructor(ids: string[], keys: string[]) {
    this.ids = ids;
    this.keys = keys;
  }
}

/** The total length under one key: of all sequences of all ids. */
export function totalLength(lengths: readonly (readonly number[])[]): number {
  let total = 0;
  for (const sequences of lengths) for (const length of sequences) total += length;
  return total;
}

/** The total length of one id's sequences. */
export function sumOf(lengths: readonly number[]): number {
  let sum = 0;
  for (const length of lengths) sum += length;
  return sum;
}

/**
 * Checks what a sample is to be made from, and copies it but for the bytes of tensors.
 *
 * @throws {SampleError} with the field and its value, for anything that is not as {@linkcode SequenceSampleInit} says.
 */
export function checkInit(init: SequenceSampleInit): OwnedFields {
  const fields = checkStructure(init);
  const data: unknown = init.data ?? null;
  if (data === null) return fields;
  const given = requireRecord(data, "data", fields.keys);
  fields.data = {};
  for (const key of fields.keys) {
    const tensor = given[key];
    const dtype = fields.dtypes[key]!;
    const trailingShape = fields.trailingShapes[key]!;
    if (tensor === null) {
      fields.data[key] = null;
      continue;
    }
    const field = entryOf("data", key);
    if (dtype === null || trailingShape === null) {
      const which = dtype === null ? "dtype" : "trailing shape";
      throw new SampleError(`${field} is a tensor, but the ${which} of its key is null`, { field, value: null });
    }
    fields.data[key] = checkTensor(tensor, dtype, [totalLength(fields.seqlens[key]!), ...trailingShape], field);
  }
  return fields;
}

/** The most dimensions of a tensor, as in torch. */
const MOST_DIMENSIONS = 64;

/** As {@linkcode checkInit}, without a look at `data`: the result is metadata-only. `shapesField` is what errors call `trailingShapes`. */
export function checkStructure(init: SequenceSampleInit, shapesField = "trailingShapes"): OwnedFields {
  requireObject(init, "a sample");
  const fields = new OwnedFields(checkNames(init.ids, "ids"), checkNames(init.keys, "keys"));
  for (const key of fields.keys) requireName(key, "keys");
  const dtypes = requireRecord(init.dtypes, "dtypes", fields.keys);
  const trailingShapes = requireRecord(init.trailingShapes, shapesField, fields.keys);
  const seqlens = requireRecord(init.seqlens, "seqlens", fields.keys);
  for (const key of fields.keys) {
    const dtype = dtypes[key];
    if (dtype !== null && !isDType(dtype)) {
      const field = entryOf("dtypes", key);
      throw new SampleError(`${field} is a dtype or null, not ${show(dtype)}`, { field, value: dtype });
    }
    fields.dtypes[key] = dtype;
    const trailingShape = trailingShapes[key];
    fields.trailingShapes[key] = trailingShape === null ? null : checkShape(trailingShape, entryOf(shapesField, key));
    const lengths = checkSeqlens(seqlens[key], entryOf("seqlens", key), fields.ids.length);
    fields.seqlens[key] = lengths;
    const ofRow = (fields.trailingShapes[key] ?? []).reduce(
      (product, dim) => product * dim,
      dtype === null ? 1 : itemSize(dtype),
    );
    const bytes = ofRow * totalLength(lengths);
    // Infinity times 0 is no number: nothing is at most that.
    if (!(ofRow <= Number.MAX_SAFE_INTEGER && bytes <= Number.MAX_SAFE_INTEGER)) {
      const field = entryOf("seqlens", key);
      throw new SampleError(`the lengths in ${field} and its trailing shape make more bytes than can be counted`, {
        field,
        value: bytes,
      });
    }
  }
  fields.metadata = copyMetadata(checkMetadata(init.metadata ?? {}, fields.ids.length));
  return fields;
}

function checkNames(names: unknown, field: string): string[] {
  return distinctNames(names, field, (name, place) => {
    throw new SampleError(`${place} is ${show(name)} a second time`, { field: place, value: name });
  });
}

/**
 * Names in the order in which they first come.
 *
 * @param again What happens at the place of one that comes again; nothing unless told.
 * @throws {SampleError} for anything but an array of strings.
 */
export function distinctNames(
  names: unknown,
  field: string,
  again?: (name: string, place: string) => void,
): string[] {
  if (!Array.isArray(names)) {
    throw new SampleError(`${field} is an array of strings, not ${show(names)}`, { field, value: names });
  }
  const seen = new Set<string>();
  for (let i = 0; i < names.length; i++) {
    const name: unknown = names[i];
    if (typeof name !== "string") {
      throw new SampleError(`${field}[${i}] is a string, not ${show(name)}`, { field: `${field}[${i}]`, value: name });
    }
    if (seen.has(name)) again?.(name, `${field}[${i}]`);
    seen.add(name);
  }
  return [...seen];
}

/** Refuses `__proto__`, which JavaScript does not take as the name of a record's entry. */
export function requireName(name: string, field: string): void {
  if (name === "__proto__") {
    throw new SampleError(`${field}: "__proto__" cannot be a name`, { field, value: name });
  }
}

function checkSeqlens(perId: unknown, field: string, batchSize: number): number[][] {
  if (!Array.isArray(perId)) {
    throw new SampleError(`${field} is an array with an array of lengths per id, not ${show(perId)}`, {
      field,
      value: perId,
    });
  }
  if (perId.length !== batchSize) {
    throw new SampleError(`${field} has entries for ${perId.length} ids; there are ${batchSize} ids`, {
      field,
      value: perId,
    });
  }
  const copy: number[][] = perId.slice();
  for (let i = 0; i < batchSize; i++) copy[i] = checkLengths(copy[i], field, i);
  return copy;
}

function checkShape(shape: unknown, field: string): number[] {
  const dims = checkLengths(shape, field);
  if (dims.length < MOST_DIMENSIONS) return dims;
  throw new SampleError(`${field} has ${dims.length} dimensions; a tensor has at most ${MOST_DIMENSIONS} in all`, {
    field,
    value: shape,
  });
}

/** `index` is that of the id, where the lengths are those of one. */
function checkLengths(lengths: unknown, field: string, index?: number): number[] {
  const place = () => index === undefined ? field : `${field}[${index}]`;
  if (!Array.isArray(lengths)) {
    throw new SampleError(`${place()} is an array of integers from 0 up, not ${show(lengths)}`, {
      field: place(),
      value: lengths,
    });
  }
  // A slice takes just the room it needs, where an array that grows takes several times as much.
  const copy: number[] = lengths.slice();
  for (let i = 0; i < copy.length; i++) {
    const length: unknown = copy[i];
    if (!Number.isSafeInteger(length) || (length as number) < 0) {
      const which = `${place()}[${i}]`;
      throw new SampleError(`${which} is an integer from 0 up, not ${show(length)}`, { field: which, value: length });
    }
    copy[i] = (length as number) + 0; // -0 becomes 0
  }
  return copy;
}

function checkMetadata(metadata: unknown, batchSize: number): Record<string, unknown[]> {
  requireObject(metadata, "metadata");
  for (const [name, values] of Object.entries(metadata)) {
    requireName(name, "metadata");
    const field = entryOf("metadata", name);
    if (!Array.isArray(values)) {
      throw new SampleError(`${field} is an array with an entry per id, not ${show(values)}`, { field, value: values });
    }
    if (values.length !== batchSize) {
      throw new SampleError(`${field} has ${values.length} entries; there are ${batchSize} ids`, {
        field,
        value: values,
      });
    }
  }
  return metadata as Record<string, unknown[]>;
}

function requireObject(value: unknown, field: string): asserts value is Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return;
  throw new SampleError(`${field} is an object, not ${show(value)}`, { field, value });
}

/** Refuses what is not an object with an entry for each key and no other. Throws a {@linkcode SampleError} that names `field`. */
export function requireRecord(value: unknown, field: string, keys: readonly string[]): Record<string, unknown> {
  requireObject(value, field);
  const names = Object.keys(value);
  const missing = keys.find((key) => !Object.hasOwn(value, key));
  if (missing !== undefined) {
    throw new SampleError(`${field} has no entry for the key ${show(missing)}`, { field, value: names });
  }
  if (names.length !== keys.length) {
    const known = new Set(keys);
    const extra = names.find((name) => !known.has(name));
    throw new SampleError(`${field} has an entry for ${show(extra)}, which is not among the keys`, {
      field,
      value: names,
    });
  }
  return value;
}

/** A copy of metadata that shares nothing with it. */
export function copyMetadata(metadata: Readonly<Record<string, readonly unknown[]>>): Record<string, unknown[]> {
  const copy: Record<string, unknown[]> = {};
  for (const name of Object.keys(metadata)) copy[name] = copyValues(metadata[name]!, name);
  return copy;
}

/** A copy of entries `start` to `end` (all unless told otherwise) of the metadata called `name`. */
export function copyValues(values: readonly unknown[], name: string, start?: number, end?: number): unknown[] {
  const copy = values.slice(start, end);
  for (let i = 0; i < copy.length; i++) {
    if (typeof copy[i] === "object") copy[i] = copyValue(copy[i], entryOf("metadata", name));
  }
  return copy;
}

/** How deep a metadata value may nest. */
const DEEPEST = 200;

/** A copy of a JSON value that shares nothing with it. Values of other classes are passed on as they are. */
function copyValue(value: unknown, field: string, depth = 0): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (depth === DEEPEST) {
    throw new SampleError(`${field} holds a value that is nested more than ${DEEPEST} deep, or holds itself`, {
      field,
      value,
    });
  }
  if (Array.isArray(value)) return value.map((item) => copyValue(item, field, depth + 1));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  // Not by assignment, for the sake of an entry named `__proto__`.
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, copyValue(item, field, depth + 1)]));
}
