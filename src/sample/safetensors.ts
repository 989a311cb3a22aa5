/**
 * The safetensors container: named tensors and text in one file.
 *
 * A file is the length of the header (8 bytes, little-endian), the header (JSON: per tensor its dtype, shape and place; under `__metadata__`
 * strings), and the tensors' bytes without holes. The format is described at https://huggingface.co/docs/safetensors.
 *
 * @module
 */

import { isCount } from "../count.ts";
import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import { fromSafetensorsName, itemSize, safetensorsName } from "./dtype.ts";
import { parseJSON } from "./json_value.ts";
import { entryOf } from "./path.ts";
import { type HostTensor, rowBytes } from "./tensor.ts";

/** What a file holds. */
export interface TensorFile {
  /** The tensors by name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** The strings under `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** The name in the header that is no tensor's. */
const METADATA = "__metadata__";
/** Bytes of the length in front of the header. */
const LENGTH_BYTES = 8;
/** The longest header that readers of the format accept, in bytes. */
const LONGEST_HEADER = 100_000_000;

/**
 * Writes a file. Tensors are placed by falling item size, and among equals as given, so that each is aligned to its item size.
 *
 * @throws {SampleError} when the header gets longer than readers accept, or a tensor is called `__metadata__`.
 */
export function encodeSafetensors({ tensors, metadata }: TensorFile): Uint8Array {
  const placed = [...tensors].sort(([, a], [, b]) => itemSize(b.dtype) - itemSize(a.dtype));
  const entries = [`${JSON.stringify(METADATA)}:${JSON.stringify(Object.fromEntries(metadata))}`];
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of placed) {
    if (name === METADATA) {
      throw new SampleError(`a tensor in a safetensors file cannot be called ${METADATA}`, {
        field: "keys",
        value: name,
      });
    }
    const offsets = [end, end += bytes.byteLength];
    const entry = { dtype: safetensorsName(dtype), shape, data_offsets: offsets };
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const header = new TextEncoder().encode(`{${entries.join(",")}}`);
  const headerLength = Math.ceil(header.byteLength / 8) * 8;
  if (headerLength > LONGEST_HEADER) {
    throw new SampleError(
      `the header of a safetensors file has at most ${LONGEST_HEADER} bytes, and ids, lengths and metadata take ${headerLength}: split the sample`,
      { field: "header", value: headerLength },
    );
  }
  const file = new Uint8Array(LENGTH_BYTES + headerLength + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerLength), true);
  file.set(header, LENGTH_BYTES);
  let offset = LENGTH_BYTES + header.byteLength;
  file.fill(0x20, offset, offset = LENGTH_BYTES + headerLength);
  for (const [, { bytes }] of placed) {
    file.set(bytes, offset);
    offset += bytes.byteLength;
  }
  return file;
}

/**
 * Reads a file. The tensors are views of `file`.
 *
 * @throws {SampleError} with the place for everything that the format does not allow: a file cut short or with bytes left over; a header that
 *   is too long or is no JSON or has a name twice; a dtype that is unknown here; a shape that is none or does not fit its bytes; places that
 *   overlap, leave a hole or lie outside.
 */
export function decodeSafetensors(file: Uint8Array): TensorFile {
  if (!(file instanceof Uint8Array)) {
    throw new SampleError(`a safetensors file is a Uint8Array, not ${show(file)}`, { field: "file", value: file });
  }
  const { header, content } = parts(file);
  const text = textOf(header);
  if (!text.startsWith("{")) {
    throw new SampleError(`header begins with {, not with ${show(text.slice(0, 1))}`, {
      field: "header",
      value: text.slice(0, 1),
    });
  }
  const entries = Object.entries(parseJSON(text, "header") as Record<string, unknown>);
  const tensors = new Map<string, HostTensor>();
  const places: Place[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, entry] of entries) {
    if (name === METADATA) {
      metadata = metadataOf(entry);
    } else {
      const field = entryOf("header", name);
      const { tensor, begin, end } = tensorOf(entry, field, content);
      tensors.set(name, tensor);
      places.push({ field, begin, end });
    }
  }
  checkPlaces(places, content.byteLength);
  return { tensors, metadata };
}

interface Place {
  readonly field: string;
  readonly begin: number;
  readonly end: number;
}

function parts(file: Uint8Array): { header: Uint8Array; content: Uint8Array } {
  // A plain Uint8Array, whatever subclass was given.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.byteLength < LENGTH_BYTES) {
    throw new SampleError(`the file has ${bytes.byteLength} bytes, and the header's length alone takes 8`, {
      field: "file",
      value: bytes.byteLength,
    });
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > LONGEST_HEADER) {
    throw new SampleError(`the header has at most ${LONGEST_HEADER} bytes, and this one is to have ${length}`, {
      field: "header",
      value: length,
    });
  }
  const end = LENGTH_BYTES + Number(length);
  if (end > bytes.byteLength) {
    throw new SampleError(`the file is cut short: its header ends at ${end}, and it has ${bytes.byteLength} bytes`, {
      field: "header",
      value: length,
    });
  }
  return { header: bytes.subarray(LENGTH_BYTES, end), content: bytes.subarray(end) };
}

function textOf(header: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch (cause) {
    throw new SampleError("header is no UTF-8", { field: "header", cause });
  }
}

function metadataOf(entry: unknown): ReadonlyMap<string, string> {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    throw new SampleError(`header.${METADATA} is an object of strings, not ${show(entry)}`, {
      field: `header.${METADATA}`,
      value: entry,
    });
  }
  return new Map(
    Object.entries(entry).map(([name, value]: [string, unknown]) => {
      if (typeof value === "string") return [name, value];
      const field = entryOf(`header.${METADATA}`, name);
      throw new SampleError(`${field} is a string, not ${show(value)}`, { field, value });
    }),
  );
}

function tensorOf(entry: unknown, field: string, content: Uint8Array): Omit<Place, "field"> & { tensor: HostTensor } {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    throw new SampleError(`${field} is an object, not ${show(entry)}`, { field, value: entry });
  }
  const { dtype: name, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  const dtype = typeof name === "string" ? fromSafetensorsName(name) : undefined;
  if (dtype === undefined) {
    throw new SampleError(`${field}.dtype is ${show(name)}, which is not known here`, {
      field: `${field}.dtype`,
      value: name,
    });
  }
  if (!isSizes(shape)) {
    throw new SampleError(`${field}.shape is an array of integers from 0 up, not ${show(shape)}`, {
      field: `${field}.shape`,
      value: shape,
    });
  }
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw new SampleError(`${field}.data_offsets is [begin, end], integers from 0 up, not ${show(offsets)}`, {
      field: `${field}.data_offsets`,
      value: offsets,
    });
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > content.byteLength) {
    throw new SampleError(`${field}.data_offsets is ${show(offsets)}; there are ${content.byteLength} bytes of data`, {
      field: `${field}.data_offsets`,
      value: offsets,
    });
  }
  const wanted = rowBytes(dtype, shape);
  if (wanted !== end - begin) {
    throw new SampleError(`${field} has ${end - begin} bytes; ${dtype} of shape [${shape}] takes ${wanted}`, {
      field: `${field}.data_offsets`,
      value: offsets,
    });
  }
  return { tensor: { dtype, shape, bytes: content.subarray(begin, end) }, begin, end };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}

/** Refuses tensors that do not follow one another from the first byte to the last. */
function checkPlaces(places: Place[], byteLength: number): void {
  let covered = 0;
  for (const { field, begin, end } of places.sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== covered) {
      throw new SampleError(
        `${field} begins at ${begin}, which ${
          begin < covered ? "overlaps" : "leaves a hole behind"
        } the ${covered} bytes before`,
        { field: `${field}.data_offsets`, value: [begin, end] },
      );
    }
    covered = end;
  }
  if (covered !== byteLength) {
    throw new SampleError(`the tensors end at ${covered}, and there are ${byteLength} bytes of data`, {
      field: "file",
      value: byteLength,
    });
  }
}
