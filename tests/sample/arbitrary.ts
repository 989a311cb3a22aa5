/** Random samples. */
import fc from "fast-check";
import { type DType, DTYPES } from "../../src/sample/dtype.ts";
import { rowBytes } from "../../src/sample/tensor.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";

interface Field {
  key: string;
  dtype: DType;
  trailingShape: number[];
  absent: boolean;
}

// Names of an object's own methods would do, but assertEquals stumbles over them.
const name = fc.oneof(
  fc.string({ maxLength: 6, unit: "grapheme" }),
  fc.constantFrom("1", "0", "a b", 'quo"te'),
).filter((text) => !(text in {}) && text !== "__metadata__");

const value = fc.jsonValue({ maxDepth: 2 }).map((json) => JSON.parse(JSON.stringify(json)) as unknown);

/** A sample with random bytes, so that all NaNs and booleans other than 0 and 1 occur. */
export function arbitrarySample(
  options: { minIds?: number; maxIds?: number; dtypes?: readonly DType[]; bytes?: fc.Arbitrary<number> } = {},
): fc.Arbitrary<SequenceSample> {
  const { minIds = 0, maxIds = 5, dtypes = DTYPES, bytes = fc.integer({ min: 0, max: 255 }) } = options;
  const field: fc.Arbitrary<Field> = fc.record({
    key: name,
    dtype: fc.constantFrom(...dtypes),
    trailingShape: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
    absent: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
  });
  return fc.tuple(
    fc.uniqueArray(fc.string({ maxLength: 5 }), { minLength: minIds, maxLength: maxIds }),
    fc.uniqueArray(field, { maxLength: 4, selector: ({ key }) => key }),
    fc.uniqueArray(name, { maxLength: 2 }),
    fc.boolean(),
  ).chain(([ids, fields, names, metaOnly]) => {
    const lengths = fc.array(
      fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
      { minLength: ids.length, maxLength: ids.length },
    );
    const values = fc.array(value, { minLength: ids.length, maxLength: ids.length });
    return fc.tuple(
      fc.array(lengths, { minLength: fields.length, maxLength: fields.length }),
      fc.array(values, { minLength: names.length, maxLength: names.length }),
      fc.array(bytes, { minLength: 1, maxLength: 97 }),
    ).map(([seqlens, metadata, pattern]) => {
      let next = 0;
      const record = <T>(f: (field: Field, i: number) => T): Record<string, T> =>
        Object.fromEntries(fields.map((field, i) => [field.key, f(field, i)]));
      return new SequenceSample({
        ids,
        keys: fields.map(({ key }) => key),
        dtypes: record(({ dtype }) => dtype),
        trailingShapes: record(({ trailingShape }) => trailingShape),
        seqlens: record((_, i) => seqlens[i]!),
        data: metaOnly ? null : record(({ dtype, trailingShape, absent }, i) => {
          if (absent) return null;
          const shape = [seqlens[i]!.flat().reduce((sum, n) => sum + n, 0), ...trailingShape];
          return {
            dtype,
            shape,
            bytes: Uint8Array.from({ length: rowBytes(dtype, shape) }, () => pattern[next++ % pattern.length]!),
          };
        }),
        metadata: Object.fromEntries(names.map((name, i) => [name, metadata[i]!])),
      });
    });
  });
}
