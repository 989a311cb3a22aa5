/**
 * Elements of tensors as JSON values: numbers, booleans, and strings for what a JSON number cannot say.
 *
 * Only the JSON form of samples goes through here, element by element; everywhere else tensors are bytes.
 *
 * @module
 */

import type { DType } from "./dtype.ts";
import {
  BFLOAT16,
  decodeSmallFloat,
  encodeSmallFloat,
  FLOAT16,
  FLOAT8_E4M3FN,
  FLOAT8_E5M2,
  type SmallFloat,
} from "./small_float.ts";

/** How the elements of one type are read and written. */
export interface ElementCodec {
  /** The element at a byte offset, as a JSON value. */
  read(view: DataView, offset: number): boolean | number | string;
  /** Writes a JSON value as the element at a byte offset; false when the type cannot hold it. */
  write(view: DataView, offset: number, value: unknown): boolean;
}

/** An integer as a JSON value: a decimal string where a JSON number would not be exact. */
export function integerToJSON(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** A floating-point number as a JSON value: a string for NaN and the infinities. */
export function floatToJSON(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}

const bool: ElementCodec = {
  read: (view, offset) => view.getUint8(offset) !== 0,
  write(view, offset, value) {
    if (typeof value !== "boolean") return false;
    view.setUint8(offset, value ? 1 : 0);
    return true;
  },
};

/** An integer type of at most 32 bits. */
function integer(
  bits: number,
  signed: boolean,
  get: (view: DataView, offset: number) => number,
  set: (view: DataView, offset: number, value: number) => void,
): ElementCodec {
  const lowest = signed ? -(2 ** (bits - 1)) : 0;
  const highest = signed ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  return {
    read: get,
    write(view, offset, value) {
      const number = integerOf(value);
      if (number === undefined || number < lowest || number > highest) return false;
      set(view, offset, Number(number));
      return true;
    },
  };
}

/** An integer type of 64 bits. */
function bigInteger(signed: boolean): ElementCodec {
  const lowest = signed ? -(2n ** 63n) : 0n;
  const highest = signed ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  return {
    read(view, offset) {
      const low = view.getUint32(offset, true);
      const high = signed ? view.getInt32(offset + 4, true) : view.getUint32(offset + 4, true);
      const number = high * 2 ** 32 + low;
      if (Number.isSafeInteger(number)) return number;
      return String(signed ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true));
    },
    write(view, offset, value) {
      const number = integerOf(value);
      if (number === undefined || number < lowest || number > highest) return false;
      view.setBigUint64(offset, BigInt.asUintN(64, BigInt(number)), true);
      return true;
    },
  };
}

/** A safe integer, or the decimal string of any that 64 bits may hold. */
function integerOf(value: unknown): number | bigint | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : undefined;
  return typeof value === "string" && /^(?:0|-?[1-9][0-9]{0,19})$/.test(value) ? BigInt(value) : undefined;
}

function floatOf(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  return value === "NaN" || value === "Infinity" || value === "-Infinity" ? Number(value) : undefined;
}

const float64: ElementCodec = {
  read: (view, offset) => floatToJSON(view.getFloat64(offset, true)),
  write(view, offset, value) {
    const number = floatOf(value);
    if (number === undefined) return false;
    view.setFloat64(offset, number, true);
    return true;
  },
};

const float32: ElementCodec = {
  read: (view, offset) => floatToJSON(view.getFloat32(offset, true)),
  write(view, offset, value) {
    const number = floatOf(value);
    if (number === undefined || (Number.isFinite(number) && !Number.isFinite(Math.fround(number)))) return false;
    view.setFloat32(offset, number, true);
    return true;
  },
};

function smallFloat(
  format: SmallFloat,
  get: (view: DataView, offset: number) => number,
  set: (view: DataView, offset: number, value: number) => void,
): ElementCodec {
  return {
    read: (view, offset) => floatToJSON(decodeSmallFloat(format, get(view, offset))),
    write(view, offset, value) {
      const number = floatOf(value);
      const bits = number === undefined ? undefined : encodeSmallFloat(format, number);
      if (bits === undefined) return false;
      set(view, offset, bits);
      return true;
    },
  };
}

const getUint8 = (view: DataView, offset: number) => view.getUint8(offset);
const setUint8 = (view: DataView, offset: number, value: number) => view.setUint8(offset, value);
const getUint16 = (view: DataView, offset: number) => view.getUint16(offset, true);
const setUint16 = (view: DataView, offset: number, value: number) => view.setUint16(offset, value, true);

const CODECS: Readonly<Record<DType, ElementCodec>> = {
  bool,
  uint8: integer(8, false, getUint8, setUint8),
  int8: integer(8, true, (view, offset) => view.getInt8(offset), (view, offset, value) => view.setInt8(offset, value)),
  uint16: integer(16, false, getUint16, setUint16),
  int16: integer(
    16,
    true,
    (view, offset) => view.getInt16(offset, true),
    (view, offset, value) => view.setInt16(offset, value, true),
  ),
  uint32: integer(
    32,
    false,
    (view, offset) => view.getUint32(offset, true),
    (view, offset, value) => view.setUint32(offset, value, true),
  ),
  int32: integer(
    32,
    true,
    (view, offset) => view.getInt32(offset, true),
    (view, offset, value) => view.setInt32(offset, value, true),
  ),
  uint64: bigInteger(false),
  int64: bigInteger(true),
  float8_e4m3fn: smallFloat(FLOAT8_E4M3FN, getUint8, setUint8),
  float8_e5m2: smallFloat(FLOAT8_E5M2, getUint8, setUint8),
  float16: smallFloat(FLOAT16, getUint16, setUint16),
  bfloat16: smallFloat(BFLOAT16, getUint16, setUint16),
  float32,
  float64,
};

/** The codec of an element type. */
export function elementCodec(dtype: DType): ElementCodec {
  return CODECS[dtype];
}
