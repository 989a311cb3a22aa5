import { assertEquals } from "@std/assert";
import {
  DTYPES,
  fromSafetensorsName,
  fromTorchName,
  isDType,
  itemSize,
  safetensorsName,
  torchName,
} from "../../src/sample/dtype.ts";

Deno.test("every dtype is found again by its names in torch and in safetensors", () => {
  assertEquals(DTYPES.length, 15);
  for (const dtype of DTYPES) {
    assertEquals(fromTorchName(torchName(dtype)), dtype);
    assertEquals(fromSafetensorsName(safetensorsName(dtype)), dtype);
  }
  assertEquals(new Set(DTYPES.map(safetensorsName)).size, DTYPES.length);
});

Deno.test("itemSize() is the size that the name says", () => {
  for (const dtype of DTYPES) {
    const bits = dtype === "bool" ? 8 : Number(/^(?:u?int|b?float)(\d+)/.exec(dtype)![1]);
    assertEquals(itemSize(dtype), bits / 8, dtype);
  }
});

Deno.test("names of other types are not dtypes", () => {
  assertEquals(torchName("float8_e4m3fn"), "torch.float8_e4m3fn");
  assertEquals([safetensorsName("float8_e4m3fn"), safetensorsName("float8_e5m2"), safetensorsName("bool")], [
    "F8_E4M3",
    "F8_E5M2",
    "BOOL",
  ]);
  for (const name of ["int64", "torch.long", "torch.", "torch.torch.int8", "torch.constructor", ""]) {
    assertEquals(fromTorchName(name), undefined, name);
  }
  for (const name of ["i64", "F4", "constructor", ""]) assertEquals(fromSafetensorsName(name), undefined, name);
  for (const value of ["long", "constructor", 3, null, undefined]) assertEquals(isDType(value), false);
});
