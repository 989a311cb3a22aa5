/**
 * Many samples into one.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { copyValues, distinctNames, OwnedFields, type SampleFields } from "./fields.ts";
import { entryOf } from "./path.ts";
import { type HostTensor, requireHost } from "./tensor.ts";

/**
 * Puts samples one after another. The first one decides which keys there are (unless `keys` does), and whether there is data: where it has
 * none, under all keys or under one, the result has none.
 *
 * @throws {SampleError} when there are no samples; an id is in two of them; a key is missing from one, or has another dtype or trailing
 *   shape there, or no data while the first has some; names of metadata differ; or a tensor is not on the host.
 */
export function gatherFields(samples: readonly SampleFields[], keys?: readonly string[]): OwnedFields {
  const [first] = samples;
  if (first === undefined) throw new SampleError("gather takes at least one sample", { field: "samples", value: [] });
  const chosen = keys === undefined ? first.keys.slice() : distinctNames(keys, "keys");
  samples.forEach((sample, i) => checkAlike(first, sample, chosen, `samples[${i}]`));

  const fields = new OwnedFields(gatherIds(samples), chosen);
  for (const key of chosen) {
    fields.dtypes[key] = first.dtypes[key]!;
    const trailingShape = first.trailingShapes[key]!;
    fields.trailingShapes[key] = trailingShape === null ? null : [...trailingShape];
    fields.seqlens[key] = samples.flatMap((sample) => sample.seqlens[key]!.map((lengths) => lengths.slice()));
  }
  if (first.data !== null) {
    fields.data = {};
    for (const key of chosen) fields.data[key] = gatherTensors(samples, key);
  }
  for (const name of Object.keys(first.metadata)) {
    fields.metadata[name] = samples.flatMap((sample) => copyValues(sample.metadata[name]!, name));
  }
  return fields;
}

function checkAlike(first: SampleFields, sample: SampleFields, keys: readonly string[], place: string): void {
  for (const key of keys) {
    if (!Object.hasOwn(sample.seqlens, key)) {
      throw new SampleError(`${place} has no key ${show(key)}`, { field: `${place}.keys`, value: sample.keys });
    }
    if (sample.dtypes[key] !== first.dtypes[key]) {
      throw new SampleError(
        `${place} has ${sample.dtypes[key]} under the key ${show(key)}; the first sample has ${first.dtypes[key]}`,
        { field: entryOf(`${place}.dtypes`, key), value: sample.dtypes[key] },
      );
    }
    const shape = sample.trailingShapes[key]!;
    const firstShape = first.trailingShapes[key]!;
    if (shape?.length !== firstShape?.length || shape?.some((dim, i) => dim !== firstShape![i])) {
      throw new SampleError(
        `${place} has the trailing shape ${show(shape)} under the key ${show(key)}; the first sample has ${
          show(firstShape)
        }`,
        { field: entryOf(`${place}.trailingShapes`, key), value: shape },
      );
    }
  }
  const names = Object.keys(sample.metadata);
  const firstNames = Object.keys(first.metadata);
  if (names.length !== firstNames.length || names.some((name) => !Object.hasOwn(first.metadata, name))) {
    throw new SampleError(`${place} has metadata ${show(names)}; the first sample has ${show(firstNames)}`, {
      field: `${place}.metadata`,
      value: names,
    });
  }
}

function gatherIds(samples: readonly SampleFields[]): string[] {
  const ids = new Set<string>();
  samples.forEach((sample, i) => {
    for (const id of sample.ids) {
      if (ids.has(id)) {
        throw new SampleError(`samples[${i}] has the id ${show(id)}, and so has one before it`, {
          field: `samples[${i}].ids`,
          value: id,
        });
      }
      ids.add(id);
    }
  });
  return [...ids];
}

function gatherTensors(samples: readonly SampleFields[], key: string): HostTensor | null {
  if (samples[0]!.data![key] === null) return null;
  const parts = samples.map((sample, i) => {
    const tensor = sample.data?.[key] ?? null;
    if (tensor !== null) return requireHost(tensor, key, "gather");
    const field = entryOf(`samples[${i}].data`, key);
    throw new SampleError(`samples[${i}] has no data under the key ${show(key)}; the first sample has`, {
      field,
      value: null,
    });
  });
  let rows = 0;
  let byteLength = 0;
  for (const { shape, bytes } of parts) {
    rows += shape[0]!;
    byteLength += bytes.byteLength;
  }
  const bytes = new Uint8Array(byteLength);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part.bytes, offset);
    offset += part.bytes.byteLength;
  }
  const { dtype, shape } = parts[0]!;
  return { dtype, shape: [rows, ...shape.slice(1)], bytes };
}
