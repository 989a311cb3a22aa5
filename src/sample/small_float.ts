/**
 * Floating-point formats of 8 and 16 bits, as numbers.
 *
 * @module
 */

/** A format: one sign bit, then exponent, then mantissa. */
export interface SmallFloat {
  /** Bits of the exponent. */
  readonly exponentBits: number;
  /** Bits of the mantissa. */
  readonly mantissaBits: number;
  /** The largest finite magnitude, as bits. What lies above is infinity (if it is the next one and the format has it) or NaN. */
  readonly largest: number;
  /** Whether the magnitude after the largest is infinity. */
  readonly hasInfinity: boolean;
  /** The NaN that is written. */
  readonly nan: number;
}

/** IEEE 754 binary16. */
export const FLOAT16: SmallFloat = {
  exponentBits: 5,
  mantissaBits: 10,
  largest: 0x7bff,
  hasInfinity: true,
  nan: 0x7e00,
};
/** The upper half of binary32. */
export const BFLOAT16: SmallFloat = {
  exponentBits: 8,
  mantissaBits: 7,
  largest: 0x7f7f,
  hasInfinity: true,
  nan: 0x7fc0,
};
/** OCP 8-bit E4M3: no infinities, one NaN of either sign. */
export const FLOAT8_E4M3FN: SmallFloat = {
  exponentBits: 4,
  mantissaBits: 3,
  largest: 0x7e,
  hasInfinity: false,
  nan: 0x7f,
};
/** OCP 8-bit E5M2. */
export const FLOAT8_E5M2: SmallFloat = {
  exponentBits: 5,
  mantissaBits: 2,
  largest: 0x7b,
  hasInfinity: true,
  nan: 0x7f,
};

/** The number that some bits stand for. */
export function decodeSmallFloat(format: SmallFloat, bits: number): number {
  const { exponentBits, mantissaBits, largest, hasInfinity } = format;
  const signBit = 1 << (exponentBits + mantissaBits);
  const sign = (bits & signBit) === 0 ? 1 : -1;
  const magnitude = bits & (signBit - 1);
  if (magnitude > largest) return hasInfinity && magnitude === largest + 1 ? sign * Infinity : NaN;
  const exponent = magnitude >> mantissaBits;
  const mantissa = magnitude & ((1 << mantissaBits) - 1);
  const bias = (1 << (exponentBits - 1)) - 1;
  return exponent === 0
    ? sign * mantissa * 2 ** (1 - bias - mantissaBits)
    : sign * (mantissa + (1 << mantissaBits)) * 2 ** (exponent - bias - mantissaBits);
}

/** The bits for a number, rounded to the nearest (of two equally near to the even one); undefined when it is out of range. */
export function encodeSmallFloat(format: SmallFloat, value: number): number | undefined {
  const { exponentBits, mantissaBits, largest, hasInfinity, nan } = format;
  if (Number.isNaN(value)) return nan;
  const signBit = value < 0 || Object.is(value, -0) ? 1 << (exponentBits + mantissaBits) : 0;
  if (!Number.isFinite(value)) return hasInfinity ? signBit | (largest + 1) : undefined;
  const bias = (1 << (exponentBits - 1)) - 1;
  const magnitude = Math.abs(value);
  const exponent = Math.max(1 - bias, exponentOf(magnitude));
  // A power of two divides exactly.
  const steps = roundHalfToEven(magnitude / 2 ** (exponent - mantissaBits));
  // A subnormal has fewer steps than 2^mantissaBits and the exponent field 0; rounding up to the next power of two carries into the field.
  const bits = ((exponent + bias - 1) << mantissaBits) + steps;
  return bits > largest ? undefined : signBit | bits;
}

/** The exponent of the greatest power of two that is not above a positive number; very small for 0. */
function exponentOf(value: number): number {
  if (value === 0) return -Infinity;
  let exponent = Math.floor(Math.log2(value));
  // The logarithm may be rounded across an integer.
  if (2 ** exponent > value) exponent--;
  else if (2 ** (exponent + 1) <= value) exponent++;
  return exponent;
}

function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
