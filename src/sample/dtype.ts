/**
 * Element types, under the three names they go by: here, in torch and in safetensors.
 *
 * @module
 */

/** The type of a tensor's elements. Torch calls it `torch.` and the same name. */
export type DType =
  | "bool"
  | "uint8"
  | "int8"
  | "int16"
  | "uint16"
  | "int32"
  | "uint32"
  | "int64"
  | "uint64"
  | "float8_e4m3fn"
  | "float8_e5m2"
  | "float16"
  | "bfloat16"
  | "float32"
  | "float64";

/** Size in bytes, and the name in a safetensors header. */
const FACTS: ReadonlyMap<DType, { readonly itemSize: number; readonly safetensors: string }> = new Map([
  ["bool", { itemSize: 1, safetensors: "BOOL" }],
  ["uint8", { itemSize: 1, safetensors: "U8" }],
  ["int8", { itemSize: 1, safetensors: "I8" }],
  ["int16", { itemSize: 2, safetensors: "I16" }],
  ["uint16", { itemSize: 2, safetensors: "U16" }],
  ["int32", { itemSize: 4, safetensors: "I32" }],
  ["uint32", { itemSize: 4, safetensors: "U32" }],
  ["int64", { itemSize: 8, safetensors: "I64" }],
  ["uint64", { itemSize: 8, safetensors: "U64" }],
  ["float8_e4m3fn", { itemSize: 1, safetensors: "F8_E4M3" }],
  ["float8_e5m2", { itemSize: 1, safetensors: "F8_E5M2" }],
  ["float16", { itemSize: 2, safetensors: "F16" }],
  ["bfloat16", { itemSize: 2, safetensors: "BF16" }],
  ["float32", { itemSize: 4, safetensors: "F32" }],
  ["float64", { itemSize: 8, safetensors: "F64" }],
]);

const BY_SAFETENSORS_NAME: ReadonlyMap<string, DType> = new Map(
  [...FACTS].map(([dtype, { safetensors }]) => [safetensors, dtype]),
);

/** All element types. */
export const DTYPES: readonly DType[] = [...FACTS.keys()];

/** Whether a value is the name of an element type. */
export function isDType(value: unknown): value is DType {
  return FACTS.has(value as DType);
}

/** The size of one element, in bytes. */
export function itemSize(dtype: DType): number {
  return FACTS.get(dtype)!.itemSize;
}

/** The name in torch, for example `torch.int64`. */
export function torchName(dtype: DType): string {
  return `torch.${dtype}`;
}

/** The element type that torch calls `name`, or undefined. */
export function fromTorchName(name: string): DType | undefined {
  const dtype = name.startsWith("torch.") ? name.slice("torch.".length) : undefined;
  return isDType(dtype) ? dtype : undefined;
}

/** The name in a safetensors header, for example `I64`. */
export function safetensorsName(dtype: DType): string {
  return FACTS.get(dtype)!.safetensors;
}

/** The element type that a safetensors header calls `name`, or undefined. */
export function fromSafetensorsName(name: string): DType | undefined {
  return BY_SAFETENSORS_NAME.get(name);
}
