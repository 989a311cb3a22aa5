/**
 * Tensors as a sample holds them: on the host, or a handle on one that is elsewhere.
 *
 * @module
 */

import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import type { WaitOptions } from "../wait.ts";
import { type DType, itemSize } from "./dtype.ts";
import { entryOf } from "./path.ts";

/** A tensor in host memory: row-major, little-endian. Its bytes may be shared with other tensors and are never changed. */
export interface HostTensor {
  /** Element type. */
  readonly dtype: DType;
  /** Sizes of the dimensions, outermost first. */
  readonly shape: readonly number[];
  /** The elements; `byteLength` is exactly the product of `shape` times the item size. Need not be aligned to the item size. */
  readonly bytes: Uint8Array;
}

/** A tensor wherever it is. One on the host is a {@linkcode HostTensor}; this is what stands for one on a device. */
export interface TensorHandle {
  /** Element type. */
  readonly dtype: DType;
  /** Sizes of the dimensions, outermost first. */
  readonly shape: readonly number[];
  /** The product of `shape` times the item size. */
  readonly byteLength: number;
  /** Copies the tensor to the host. */
  toHost(options?: WaitOptions): Promise<HostTensor>;
}

/** Whether a tensor is on the host, so that its bytes can be read. */
export function isHostTensor(tensor: HostTensor | TensorHandle): tensor is HostTensor {
  return "bytes" in tensor;
}

/** Bytes of one element of a sequence: the item size times the product of the trailing shape. */
export function rowBytes(dtype: DType, trailingShape: readonly number[]): number {
  return trailingShape.reduce((product, dim) => product * dim, itemSize(dtype));
}

/**
 * Refuses what is not a tensor of just this type and shape.
 *
 * @param tensor What was given.
 * @param dtype The element type it is to have.
 * @param shape The shape it is to have.
 * @param field Where it stands, for the error.
 * @returns A host tensor that is this one's own but for its bytes; a handle as it is.
 * @throws {SampleError} when it is no tensor, or another one.
 */
export function checkTensor(
  tensor: unknown,
  dtype: DType,
  shape: readonly number[],
  field: string,
): HostTensor | TensorHandle {
  if (!isTensor(tensor)) {
    throw new SampleError(
      `${field} is a tensor (dtype, shape and bytes, or a handle with toHost) or null, not ${show(tensor)}`,
      { field, value: tensor },
    );
  }
  if (tensor.dtype !== dtype) {
    throw new SampleError(`${field} holds ${show(tensor.dtype)}; its key's dtype is ${dtype}`, {
      field: `${field}.dtype`,
      value: tensor.dtype,
    });
  }
  if (tensor.shape.length !== shape.length || shape.some((dim, i) => dim !== tensor.shape[i])) {
    throw new SampleError(
      `${field} has shape [${tensor.shape}]; the lengths and the trailing shape of its key make [${shape}]`,
      { field: `${field}.shape`, value: tensor.shape },
    );
  }
  requireBytes(tensor, dtype, shape, field);
  return isHostTensor(tensor) ? { dtype, shape: [...shape], bytes: tensor.bytes } : tensor;
}

/**
 * Refuses a tensor that has not just the bytes that this type and shape take. That of a sample once had; but a buffer can be given away or resized.
 *
 * @throws {SampleError} that names `field`.
 */
export function requireBytes(
  tensor: HostTensor | TensorHandle,
  dtype: DType,
  shape: readonly number[],
  field: string,
): void {
  const wanted = rowBytes(dtype, shape);
  const found = isHostTensor(tensor) ? tensor.bytes.byteLength : tensor.byteLength;
  if (found === wanted) return;
  throw new SampleError(`${field} has ${found} bytes; ${dtype} of shape [${shape}] takes ${wanted}`, {
    field: `${field}.${isHostTensor(tensor) ? "bytes" : "byteLength"}`,
    value: found,
  });
}

/** Refuses a tensor that is not on the host, or whose bytes are gone, for an operation that needs them. */
export function requireHost(tensor: HostTensor | TensorHandle, key: string, operation: string): HostTensor {
  const field = entryOf("data", key);
  if (!isHostTensor(tensor)) {
    throw new SampleError(
      `the tensor under the key ${show(key)} is not on the host, and ${operation} needs its bytes: call toHost() first`,
      { field, value: tensor },
    );
  }
  requireBytes(tensor, tensor.dtype, tensor.shape, field);
  return tensor;
}

function isTensor(value: unknown): value is HostTensor | TensorHandle {
  if (typeof value !== "object" || value === null) return false;
  const { dtype, shape, bytes, toHost } = value as Record<string, unknown>;
  return typeof dtype === "string" && Array.isArray(shape) &&
    ("bytes" in value ? bytes instanceof Uint8Array : typeof toHost === "function");
}
