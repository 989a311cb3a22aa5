/**
 * Samples as safetensors files: one tensor for each key that has data, of shape `[sum of all its lengths, ...trailing]`, the ids' sequences
 * one after another. `__metadata__` says the rest, each entry JSON text:
 *
 * | entry          | holds                                                                                                          |
 * | -------------- | -------------------------------------------------------------------------------------------------------------- |
 * | `format`       | `seqferry/1`, as it is; may be absent                                                                            |
 * | `ids`          | the ids, in order                                                                                                |
 * | `keys`         | the keys, in order; may be absent: then those of `seqlens`                                                       |
 * | `seqlens`      | per key, per id, the lengths of sequences                                                                        |
 * | `metadata`     | per name one entry per id; may be absent                                                                         |
 * | `absent`       | the keys that have no data, and so no tensor; absent where all have                                              |
 * | `absent_specs` | `{"dtype", "trailing_shape"}` per absent key for which they are not both null: dtypes as torch calls them        |
 * | `data`         | `null` for a metadata-only sample (then all keys are absent); else absent                                        |
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { fromTorchName, torchName } from "./dtype.ts";
import { checkInit, type OwnedFields, type SampleFields, type SequenceSampleInit } from "./fields.ts";
import { parseJSON, toJSONValue } from "./json_value.ts";
import { entryOf } from "./path.ts";
import { decodeSafetensors, encodeSafetensors } from "./safetensors.ts";
import { type HostTensor, requireHost } from "./tensor.ts";

const FORMAT = "seqferry/1";

/** Writes a sample. Throws a {@linkcode SampleError} for a tensor that is not on the host, and for metadata that has no JSON form. */
export function sampleToSafetensors(sample: SampleFields): Uint8Array {
  const { ids, keys, dtypes, trailingShapes, seqlens, data } = sample;
  const tensors = new Map<string, HostTensor>();
  const absent: string[] = [];
  const specs: [string, unknown][] = [];
  for (const key of keys) {
    const tensor = data?.[key] ?? null;
    if (tensor !== null) {
      tensors.set(key, requireHost(tensor, key, "toSafetensors"));
      continue;
    }
    absent.push(key);
    const dtype = dtypes[key]!;
    const trailingShape = trailingShapes[key]!;
    if (dtype === null && trailingShape === null) continue;
    specs.push([key, { dtype: dtype === null ? null : torchName(dtype), trailing_shape: trailingShape }]);
  }
  const metadata = new Map([
    ["format", FORMAT],
    ["ids", JSON.stringify(ids)],
    ["keys", JSON.stringify(keys)],
    ["seqlens", objectText(keys.map((key) => [key, seqlens[key]]))],
    [
      "metadata",
      objectText(
        Object.entries(sample.metadata).map(([name, values]) => [name, toJSONValue(values, entryOf("metadata", name))]),
      ),
    ],
  ]);
  if (absent.length > 0) metadata.set("absent", JSON.stringify(absent));
  if (specs.length > 0) metadata.set("absent_specs", objectText(specs));
  if (data === null) metadata.set("data", "null");
  return encodeSafetensors({ tensors, metadata });
}

/** The JSON text of an object, its entries in the order given (where an object itself would put names that are numbers first). */
function objectText(entries: readonly (readonly [string, unknown])[]): string {
  return `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`;
}

/** Reads a file that {@linkcode sampleToSafetensors} wrote, or another writer. Tensors are views of `file`. Throws a {@linkcode SampleError} with the place. */
export function sampleFromSafetensors(file: Uint8Array): OwnedFields {
  const { tensors, metadata } = decodeSafetensors(file);
  const format = metadata.get("format");
  if (format !== undefined && format !== FORMAT) {
    throw new SampleError(`header.__metadata__.format is ${show(format)}; what is read here is ${FORMAT}`, {
      field: "header.__metadata__.format",
      value: format,
    });
  }
  const read = (name: string): unknown => {
    const text = metadata.get(name);
    return text === undefined ? undefined : parseJSON(text, `header.__metadata__.${name}`);
  };
  const seqlens = asObject(read("seqlens"), "seqlens");
  const specs = asObject(read("absent_specs") ?? {}, "absent_specs");
  const absent = new Set(asNames(read("absent") ?? [], "absent"));
  const keys = asNames(read("keys") ?? Object.keys(seqlens), "keys");
  const known = new Set(keys);
  for (const key of [...absent, ...tensors.keys()]) {
    if (known.has(key) && !(absent.has(key) && tensors.has(key))) continue;
    const what = known.has(key) ? "is called absent, but there is a tensor" : "is not among the keys";
    throw new SampleError(`${show(key)} ${what}`, { field: entryOf("header", key), value: key });
  }
  const init: { -readonly [Name in keyof SequenceSampleInit]: SequenceSampleInit[Name] } & {
    dtypes: Record<string, unknown>;
    trailingShapes: Record<string, unknown>;
    data: Record<string, HostTensor | null>;
  } = {
    ids: asNames(read("ids"), "ids"),
    keys,
    dtypes: {},
    trailingShapes: {},
    seqlens: seqlens as SequenceSampleInit["seqlens"],
    data: {},
    metadata: asObject(read("metadata") ?? {}, "metadata") as Record<string, unknown[]>,
  };
  for (const key of keys) {
    const tensor = tensors.get(key);
    if (tensor === undefined && !absent.has(key)) {
      throw new SampleError(`there is no tensor for the key ${show(key)}, and it is not called absent`, {
        field: entryOf("header", key),
        value: undefined,
      });
    }
    const spec = tensor === undefined
      ? specOf(specs, key)
      : { dtype: tensor.dtype, trailingShape: tensor.shape.slice(1) };
    set(init.dtypes, key, spec.dtype);
    set(init.trailingShapes, key, spec.trailingShape);
    set(init.data, key, tensor ?? null);
  }
  const fields = checkInit(init as SequenceSampleInit);
  if (metadata.has("data")) {
    const data = read("data");
    if (data !== null || tensors.size > 0) {
      throw new SampleError("header.__metadata__.data is null, and then there are no tensors", {
        field: "header.__metadata__.data",
        value: data,
      });
    }
    fields.data = null;
  }
  return fields;
}

/** Sets an entry, whatever its name. */
function set(record: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(record, name, { value, enumerable: true });
}

function specOf(specs: Record<string, unknown>, key: string): { dtype: unknown; trailingShape: unknown } {
  if (!Object.hasOwn(specs, key)) return { dtype: null, trailingShape: null };
  const field = entryOf("header.__metadata__.absent_specs", key);
  const spec = specs[key];
  if (typeof spec !== "object" || spec === null || Array.isArray(spec)) {
    throw new SampleError(`${field} is an object, not ${show(spec)}`, { field, value: spec });
  }
  const { dtype: name = null, trailing_shape: trailingShape = null } = spec as Record<string, unknown>;
  const dtype = typeof name === "string" ? fromTorchName(name) : name === null ? null : undefined;
  if (dtype === undefined) {
    throw new SampleError(`${field}.dtype is the name of a dtype such as "torch.int64" or null, not ${show(name)}`, {
      field: `${field}.dtype`,
      value: name,
    });
  }
  return { dtype, trailingShape };
}

function asObject(value: unknown, name: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  const field = `header.__metadata__.${name}`;
  throw new SampleError(`${field} is the JSON text of an object, not ${value === undefined ? "absent" : show(value)}`, {
    field,
    value,
  });
}

function asNames(value: unknown, name: string): string[] {
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  const field = `header.__metadata__.${name}`;
  throw new SampleError(
    `${field} is the JSON text of an array of strings, not ${value === undefined ? "absent" : show(value)}`,
    { field, value },
  );
}
