/**
 * One sample into many, and a sample in another order.
 *
 * @module
 */

import { isCount } from "../count.ts";
import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { copyValues, OwnedFields, type SampleFields, sumOf, totalLength } from "./fields.ts";
import { type HostTensor, requireBytes, requireHost, rowBytes, type TensorHandle } from "./tensor.ts";

/** Where to cut a sample: by `sizes`, by `partitions`, or by both if they say the same. */
export interface SplitSpec {
  /** The number of ids in each part. 0 is allowed. */
  readonly sizes?: readonly number[];
  /** The first id of each part and the one after its last: from 0, without holes, to the batch size; none empty. */
  readonly partitions?: readonly (readonly [number, number])[];
}

/**
 * The boundaries of the parts: part `i` goes from `boundaries[i]` to `boundaries[i + 1]`.
 *
 * @throws {SampleError} when the parts do not cover `0` to `batchSize` one after another.
 */
export function boundariesOf(spec: SplitSpec, batchSize: number): number[] {
  const { sizes, partitions } = spec ?? {};
  if (sizes === undefined && partitions === undefined) {
    throw new SampleError("a split takes sizes or partitions", { field: "spec", value: spec });
  }
  const boundaries = partitions === undefined ? boundariesOfSizes(sizes!) : boundariesOfPartitions(partitions);
  if (partitions !== undefined && sizes !== undefined) {
    const same = Array.isArray(sizes) && sizes.length === partitions.length &&
      sizes.every((size, i) => size === boundaries[i + 1]! - boundaries[i]!);
    if (!same) {
      throw new SampleError(`sizes ${show(sizes)} and partitions ${show(partitions)} differ`, {
        field: "sizes",
        value: sizes,
      });
    }
  }
  const end = boundaries.at(-1)!;
  if (end !== batchSize) {
    const field = partitions === undefined ? "sizes" : "partitions";
    throw new SampleError(`${field} cover ${end} ids; the sample has ${batchSize}`, { field, value: spec[field] });
  }
  return boundaries;
}

function boundariesOfSizes(sizes: readonly number[]): number[] {
  if (!Array.isArray(sizes)) {
    throw new SampleError(`sizes is an array of numbers of ids, not ${show(sizes)}`, { field: "sizes", value: sizes });
  }
  const boundaries = [0];
  for (const [i, size] of sizes.entries()) {
    if (!isCount(size)) {
      throw new SampleError(`sizes[${i}] is an integer from 0 up, not ${show(size)}`, {
        field: `sizes[${i}]`,
        value: size,
      });
    }
    boundaries.push(boundaries[i]! + size);
  }
  return boundaries;
}

function boundariesOfPartitions(partitions: readonly (readonly [number, number])[]): number[] {
  if (!Array.isArray(partitions)) {
    throw new SampleError(`partitions is an array of [start, end], not ${show(partitions)}`, {
      field: "partitions",
      value: partitions,
    });
  }
  const boundaries = [0];
  for (const [i, partition] of partitions.entries()) {
    const [start, end] = Array.isArray(partition) && partition.length === 2 ? partition : [];
    if (start !== boundaries[i] || !Number.isSafeInteger(end) || end <= start) {
      throw new SampleError(
        `partitions[${i}] is [${
          boundaries[i]
        }, a larger integer], for the parts follow one another and none is empty; it is ${show(partition)}`,
        { field: `partitions[${i}]`, value: partition },
      );
    }
    boundaries.push(end);
  }
  return boundaries;
}

/**
 * Cuts a sample at these boundaries. The parts' tensors are views of the whole's. A part that is the whole takes its tensors as they are.
 *
 * @param boundaries From 0 to the batch size, as {@linkcode boundariesOf} gives them.
 * @throws {SampleError} when a tensor that has to be cut is not on the host.
 */
export function splitFields(sample: SampleFields, boundaries: readonly number[]): OwnedFields[] {
  const { ids, keys, data, metadata } = sample;
  /** Per key the first row that no part has yet. */
  const rows = new Array<number>(keys.length).fill(0);
  const names = Object.keys(metadata);
  const parts: OwnedFields[] = [];
  for (let p = 0; p + 1 < boundaries.length; p++) {
    const start = boundaries[p]!;
    const end = boundaries[p + 1]!;
    const part = new OwnedFields(ids.slice(start, end), [...keys]);
    if (data !== null) part.data = {};
    for (let k = 0; k < keys.length; k++) {
      const key = keys[k]!;
      const trailingShape = sample.trailingShapes[key]!;
      part.dtypes[key] = sample.dtypes[key]!;
      part.trailingShapes[key] = trailingShape === null ? null : [...trailingShape];
      const lengths = sample.seqlens[key]!.slice(start, end).map((sequences) => sequences.slice());
      const length = totalLength(lengths);
      part.seqlens[key] = lengths;
      if (data !== null) {
        const tensor = data[key]!;
        const whole = tensor === null || end - start === ids.length;
        part.data![key] = whole ? tensor : slice(tensor, key, rows[k]!, length);
      }
      rows[k]! += length;
    }
    for (const name of names) part.metadata[name] = copyValues(metadata[name]!, name, start, end);
    parts.push(part);
  }
  return parts;
}

function slice(tensor: HostTensor | TensorHandle, key: string, row: number, rows: number): HostTensor {
  const { dtype, shape, bytes } = requireHost(tensor, key, "cutting it");
  const trailingShape = shape.slice(1);
  const width = rowBytes(dtype, trailingShape);
  return { dtype, shape: [rows, ...trailingShape], bytes: bytes.subarray(row * width, (row + rows) * width) };
}

/**
 * Puts the ids of a sample in another order: id `i` of the result is id `indices[i]` of the sample.
 *
 * @throws {SampleError} when `indices` is not a permutation of all positions, or a tensor is not on the host.
 */
export function reorderFields(sample: SampleFields, indices: readonly number[]): OwnedFields {
  checkPermutation(indices, sample.ids.length, "indices");
  const fields = new OwnedFields(indices.map((i) => sample.ids[i]!), [...sample.keys]);
  if (sample.data !== null) fields.data = {};
  for (const key of sample.keys) {
    const trailingShape = sample.trailingShapes[key]!;
    fields.dtypes[key] = sample.dtypes[key]!;
    fields.trailingShapes[key] = trailingShape === null ? null : [...trailingShape];
    const seqlens = sample.seqlens[key]!;
    fields.seqlens[key] = indices.map((i) => seqlens[i]!.slice());
    if (sample.data === null) continue;
    const tensor = sample.data[key]!;
    fields.data![key] = tensor === null
      ? null
      : reorderRows(requireHost(tensor, key, "reordering"), seqlens.map(sumOf), indices);
  }
  for (const name of Object.keys(sample.metadata)) {
    const values = sample.metadata[name]!;
    fields.metadata[name] = copyValues(indices.map((i) => values[i]), name);
  }
  return fields;
}

/** Refuses what does not hold each of `0` to `count - 1` once. */
export function checkPermutation(indices: readonly number[], count: number, field: string): void {
  const permutation = Array.isArray(indices) && indices.length === count && new Set(indices).size === count &&
    Array.from(indices).every((index) => Number.isSafeInteger(index) && index >= 0 && index < count);
  if (!permutation) {
    throw new SampleError(`${field} holds each integer from 0 to ${count - 1} once; it is ${show(indices)}`, {
      field,
      value: indices,
    });
  }
}

/** Rearranges blocks of rows; block `i` has `blocks[i]` rows, and comes to stand where `order` names it. */
function reorderRows(tensor: HostTensor, blocks: readonly number[], order: readonly number[]): HostTensor {
  const { dtype, shape } = tensor;
  const width = rowBytes(dtype, shape.slice(1));
  const starts = new Float64Array(blocks.length + 1);
  for (let i = 0; i < blocks.length; i++) starts[i + 1] = starts[i]! + blocks[i]! * width;
  const bytes = new Uint8Array(tensor.bytes.byteLength);
  let offset = 0;
  for (let i = 0; i < order.length;) {
    const from = order[i]!;
    let to = from + 1;
    // Blocks that stay neighbours are copied together.
    for (i++; i < order.length && order[i] === to; i++) to++;
    const run = tensor.bytes.subarray(starts[from], starts[to]);
    bytes.set(run, offset);
    offset += run.byteLength;
  }
  return { dtype, shape: [...shape], bytes };
}

/**
 * Brings what was computed from the micro-batches of a split back into the order of the sample that was split.
 *
 * @param output The outputs of all micro-batches one after another: shape `[sum of all lengths, ...]`.
 * @param seqlens Per id of the sample that was split, the lengths of its sequences in `output`.
 * @param forwardIndices As in {@linkcode SplitResult}.
 * @param backwardIndices As in {@linkcode SplitResult}.
 * @returns A tensor of the same shape, its blocks in the order of `seqlens`.
 * @throws {SampleError} when the indices are no permutations that undo each other, the lengths do not add up to the rows of `output`, or it has other bytes
 *   than its shape takes.
 */
export function reorderOutput(
  output: HostTensor,
  seqlens: readonly (readonly number[])[],
  forwardIndices: readonly number[],
  backwardIndices: readonly number[],
): HostTensor {
  checkPermutation(forwardIndices, seqlens.length, "forwardIndices");
  checkPermutation(backwardIndices, seqlens.length, "backwardIndices");
  const wrong = backwardIndices.findIndex((position, id) => forwardIndices[position] !== id);
  if (wrong !== -1) {
    throw new SampleError(`backwardIndices does not undo forwardIndices at position ${wrong}`, {
      field: `backwardIndices[${wrong}]`,
      value: backwardIndices[wrong],
    });
  }
  const blocks = forwardIndices.map((id) => sumOf(seqlens[id]!));
  const rows = sumOf(blocks);
  if (output.shape[0] !== rows) {
    throw new SampleError(`output has shape [${output.shape}]; the lengths add up to ${rows} rows`, {
      field: "output.shape",
      value: output.shape,
    });
  }
  requireBytes(output, output.dtype, output.shape, "output");
  return reorderRows(output, blocks, backwardIndices);
}
