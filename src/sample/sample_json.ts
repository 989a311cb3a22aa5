/**
 * Samples as JSON, in the form of AReaL's `as_json_compatible`.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { type DType, fromTorchName, itemSize, torchName } from "./dtype.ts";
import { elementCodec } from "./element_codec.ts";
import { checkStructure, type OwnedFields, requireRecord, type SampleFields, totalLength } from "./fields.ts";
import { toJSONValue } from "./json_value.ts";
import { entryOf } from "./path.ts";
import { type HostTensor, requireHost } from "./tensor.ts";

/** A sample as JSON. */
export interface SampleJSON {
  /** Names of the samples. */
  ids: string[];
  /** Names of the fields. */
  keys: string[];
  /** Per key the shape of one element of a sequence. */
  trailing_shapes: Record<string, number[] | null>;
  /** Per key the element type as torch calls it, such as `torch.int64`. */
  dtypes: Record<string, string | null>;
  /** Per key, per id, the lengths of sequences. */
  seqlens: Record<string, number[][]>;
  /** Per key nested arrays of elements; null altogether for a metadata-only sample. */
  data: Record<string, unknown> | null;
  /** Per name one entry per id. */
  metadata: Record<string, unknown[]>;
}

const NAMES = ["ids", "keys", "trailing_shapes", "dtypes", "seqlens", "data", "metadata"];
/** What may be absent. */
const OPTIONAL = ["data", "metadata"];

/** A sample as JSON. Throws a {@linkcode SampleError} for a tensor that is not on the host, and for metadata that has no JSON form. */
export function sampleToJSON(sample: SampleFields): SampleJSON {
  const { ids, keys, dtypes, trailingShapes, seqlens, data, metadata } = sample;
  const json: SampleJSON = {
    ids: [...ids],
    keys: [...keys],
    trailing_shapes: {},
    dtypes: {},
    seqlens: {},
    data: data === null ? null : {},
    metadata: {},
  };
  for (const key of keys) {
    const trailingShape = trailingShapes[key]!;
    const dtype = dtypes[key]!;
    json.trailing_shapes[key] = trailingShape === null ? null : [...trailingShape];
    json.dtypes[key] = dtype === null ? null : torchName(dtype);
    json.seqlens[key] = seqlens[key]!.map((lengths) => [...lengths]);
    if (data === null) continue;
    const tensor = data[key]!;
    json.data![key] = tensor === null ? null : tensorToJSON(requireHost(tensor, key, "toJSON"));
  }
  for (const name of Object.keys(metadata)) {
    json.metadata[name] = metadata[name]!.map((value, i) => toJSONValue(value, `${entryOf("metadata", name)}[${i}]`));
  }
  return json;
}

/** Reads that form. Throws a {@linkcode SampleError} with the field and its value for anything that is not of it. */
export function sampleFromJSON(json: unknown): OwnedFields {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new SampleError(`a sample in JSON is an object, not ${show(json)}`, { value: json });
  }
  const given = json as Record<string, unknown>;
  for (const name of NAMES) {
    if (!Object.hasOwn(given, name) && !OPTIONAL.includes(name)) {
      throw new SampleError(`a sample in JSON has the field ${name}`, { field: name, value: undefined });
    }
  }
  for (const name of Object.keys(given)) {
    if (!NAMES.includes(name)) {
      throw new SampleError(`a sample in JSON has no field ${show(name)}`, { field: name, value: given[name] });
    }
  }
  const fields = structureFrom(given);
  if ((given.data ?? null) === null) return fields;
  const data = requireRecord(given.data, "data", fields.keys);
  fields.data = {};
  for (const key of fields.keys) {
    fields.data[key] = tensorFromJSON(data[key], key, fields);
  }
  return fields;
}

function structureFrom(json: Record<string, unknown>): OwnedFields {
  const { dtypes, trailing_shapes: trailingShapes } = json;
  const named: Record<string, unknown> = typeof dtypes === "object" && dtypes !== null
    ? Object.fromEntries(
      Object.entries(dtypes).map(([key, name]) => {
        const dtype = typeof name === "string" ? fromTorchName(name) : null;
        if (dtype !== undefined && (dtype !== null || name === null)) return [key, dtype];
        const field = entryOf("dtypes", key);
        throw new SampleError(`${field} is the name of a dtype such as "torch.int64" or null, not ${show(name)}`, {
          field,
          value: name,
        });
      }),
    )
    : dtypes as Record<string, unknown>;
  // Everything that is claimed of the types here is checked there.
  return checkStructure(
    {
      ...json,
      ids: Array.isArray(json.ids) ? json.ids.map((id) => Number.isSafeInteger(id) ? String(id) : id) : json.ids,
      dtypes: named,
      trailingShapes,
      metadata: json.metadata ?? {},
    } as unknown as Parameters<typeof checkStructure>[0],
    "trailing_shapes",
  );
}

function tensorToJSON({ dtype, shape, bytes }: HostTensor): unknown {
  const codec = elementCodec(dtype);
  const size = itemSize(dtype);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  const nest = (dim: number): unknown => {
    const items: unknown[] = [];
    const last = dim === shape.length - 1;
    for (let i = 0; i < shape[dim]!; i++) {
      if (last) {
        items.push(codec.read(view, offset));
        offset += size;
      } else {
        items.push(nest(dim + 1));
      }
    }
    return items;
  };
  return nest(0);
}

function tensorFromJSON(json: unknown, key: string, fields: OwnedFields): HostTensor | null {
  if (json === null) return null;
  const field = entryOf("data", key);
  const dtype: DType | null = fields.dtypes[key]!;
  const trailingShape = fields.trailingShapes[key]!;
  if (dtype === null || trailingShape === null) {
    throw new SampleError(`${field} holds elements, but the key's dtype or trailing shape is null`, {
      field,
      value: json,
    });
  }
  const shape = [totalLength(fields.seqlens[key]!), ...trailingShape];
  // The lengths are checked before memory is taken: what the JSON claims may be more than it holds.
  checkNesting(json, shape, 0, field);
  const codec = elementCodec(dtype);
  const size = itemSize(dtype);
  const bytes = new Uint8Array(shape.reduce((product, dim) => product * dim, size));
  const view = new DataView(bytes.buffer);
  let offset = 0;
  const read = (items: readonly unknown[], dim: number, path: string): void => {
    const last = dim === shape.length - 1;
    for (let i = 0; i < items.length; i++) {
      if (!last) {
        read(items[i] as readonly unknown[], dim + 1, `${path}[${i}]`);
      } else if (codec.write(view, offset, items[i])) {
        offset += size;
      } else {
        const place = `${path}[${i}]`;
        throw new SampleError(`${place} is ${show(items[i])}, which ${dtype} cannot hold`, {
          field: place,
          value: items[i],
        });
      }
    }
  };
  read(json as readonly unknown[], 0, field);
  return { dtype, shape, bytes };
}

function checkNesting(items: unknown, shape: readonly number[], dim: number, path: string): void {
  if (!Array.isArray(items) || items.length !== shape[dim]) {
    const found = Array.isArray(items) ? `an array of ${items.length}` : show(items);
    throw new SampleError(`${path} is ${found}; by lengths and trailing shape it is an array of ${shape[dim]}`, {
      field: path,
      value: items,
    });
  }
  if (dim === shape.length - 1) return;
  for (let i = 0; i < items.length; i++) checkNesting(items[i], shape, dim + 1, `${path}[${i}]`);
}
