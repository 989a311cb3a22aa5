import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  BFLOAT16,
  decodeSmallFloat,
  encodeSmallFloat,
  FLOAT16,
  FLOAT8_E4M3FN,
  FLOAT8_E5M2,
} from "../../src/sample/small_float.ts";

const formats = { FLOAT16, BFLOAT16, FLOAT8_E4M3FN, FLOAT8_E5M2 };

Deno.test("encodeSmallFloat() gives back all bits that decodeSmallFloat() read, but for NaNs", () => {
  for (const [name, format] of Object.entries(formats)) {
    let nans = 0;
    for (let bits = 0; bits < 2 ** (1 + format.exponentBits + format.mantissaBits); bits++) {
      const value = decodeSmallFloat(format, bits);
      if (Number.isNaN(value)) nans++;
      else if (encodeSmallFloat(format, value) !== bits) throw new Error(`${name} ${bits} is ${value}`);
    }
    const manyNans = { FLOAT16: 2 * 1023, BFLOAT16: 2 * 127, FLOAT8_E4M3FN: 2, FLOAT8_E5M2: 2 * 3 };
    assertEquals(nans, manyNans[name as keyof typeof formats]);
  }
});

Deno.test("decodeSmallFloat() agrees with the engine on float16, and with the upper half of float32 on bfloat16", () => {
  const view = new DataView(new ArrayBuffer(4));
  for (let bits = 0; bits < 0x10000; bits++) {
    view.setUint16(0, bits);
    assertSame(decodeSmallFloat(FLOAT16, bits), view.getFloat16(0));
    view.setUint32(0, bits * 0x10000);
    assertSame(decodeSmallFloat(BFLOAT16, bits), view.getFloat32(0));
  }
});

Deno.test("encodeSmallFloat() rounds float16 as the engine does, and refuses only what becomes infinite", () => {
  const view = new DataView(new ArrayBuffer(2));
  fc.assert(fc.property(fc.oneof(fc.double(), fc.double({ min: -70000, max: 70000 }), fc.float()), (value) => {
    view.setFloat16(0, value);
    const overflows = Number.isFinite(value) && !Number.isFinite(view.getFloat16(0));
    const expected = Number.isNaN(value) ? 0x7e00 : overflows ? undefined : view.getUint16(0);
    assertEquals(encodeSmallFloat(FLOAT16, value), expected);
  }));
});

Deno.test("float8 has the values of its specification", () => {
  const e4m3 = (bits: number) => decodeSmallFloat(FLOAT8_E4M3FN, bits);
  assertEquals([e4m3(0x7e), e4m3(0x08), e4m3(0x07), e4m3(0x01), e4m3(0x38)], [
    448,
    2 ** -6,
    0.875 * 2 ** -6,
    2 ** -9,
    1,
  ]);
  const e5m2 = (bits: number) => decodeSmallFloat(FLOAT8_E5M2, bits);
  assertEquals([e5m2(0x7b), e5m2(0x04), e5m2(0x03), e5m2(0x01), e5m2(0x7c)], [
    57344,
    2 ** -14,
    0.75 * 2 ** -14,
    2 ** -16,
    Infinity,
  ]);
  assertEquals(encodeSmallFloat(FLOAT8_E4M3FN, Infinity), undefined);
  assertEquals(encodeSmallFloat(FLOAT8_E4M3FN, 463), 0x7e);
  assertEquals(encodeSmallFloat(FLOAT8_E4M3FN, 465), undefined);
  assertEquals(encodeSmallFloat(FLOAT8_E4M3FN, -NaN), 0x7f);
});

function assertSame(actual: number, expected: number): void {
  if (!Object.is(actual, expected)) throw new Error(`${actual} is not ${expected}`);
}
