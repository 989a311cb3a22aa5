/**
 * The type that everything here moves: a batch of samples, their fields packed without padding.
 *
 * Data of reinforcement learning is ragged. A prompt has several responses, each of its own length; beside tokens there are values for each
 * token (log probabilities, a mask), for each response (a reward) and for each prompt. A {@linkcode SequenceSample} holds such a batch:
 *
 * - `ids` names the samples of the batch, one prompt with all that belongs to it each.
 * - `keys` names the fields. A field has an element type (`dtypes`), and a shape that one element of a sequence has (`trailingShapes`, `[]`
 *   for a number).
 * - `seqlens[key][i]` lists the lengths of the sequences that sample `i` has under `key`: `[6, 17, 15]` for the tokens of three responses,
 *   `[1, 1, 1]` for their rewards, `[]` for none.
 * - `data[key]` holds all sequences of all samples one after another, in one tensor of shape `[sum of all lengths, ...trailing]`.
 * - `metadata[name][i]` is anything else that belongs to sample `i`.
 *
 * A sample without `data` is *metadata-only*: it says what there is, and not what it is. Plans are made from such samples.
 *
 * Everything is checked when a sample is made, and refused with a `SampleError` that names the field and the value. A sample owns
 * its arrays and records: it shares none with what it was made from or with samples made from it. Only the bytes of tensors may be shared,
 * and nothing here changes them. Tensors may be anywhere; what needs their bytes wants them on the host (see
 * {@linkcode SequenceSample.toHost}).
 *
 * This room knows no device. It imports the errors, how values read in them, what a count is, and the type of a wait's options, nothing else.
 *
 * @module
 */

import { isCount } from "../count.ts";
import { SampleError } from "../errors.ts";
import { show } from "../show.ts";
import type { WaitOptions } from "../wait.ts";
import { defaultLengths, flatLengths, type FromDefaultInit, stringIds } from "./default_lengths.ts";
import type { DType } from "./dtype.ts";
import {
  checkInit,
  copyMetadata,
  distinctNames,
  OwnedFields,
  requireName,
  type SequenceSampleInit,
  sumOf,
  totalLength,
} from "./fields.ts";
import { firstFitDecreasing } from "./first_fit_decreasing.ts";
import { gatherFields } from "./gather.ts";
import { checkMicroBatches, type MicroBatchSpec, type SplitResult } from "./micro_batch.ts";
import { sampleFromJSON, type SampleJSON, sampleToJSON } from "./sample_json.ts";
import { sampleFromSafetensors, sampleToSafetensors } from "./sample_safetensors.ts";
import { boundariesOf, reorderFields, splitFields, type SplitSpec } from "./split.ts";
import { entryOf } from "./path.ts";
import { checkTensor, type HostTensor, isHostTensor, type TensorHandle } from "./tensor.ts";

export type { FromDefaultInit, MicroBatchSpec, SampleJSON, SequenceSampleInit, SplitResult, SplitSpec };

/**
 * A batch of samples.
 *
 * @example Two prompts, of which the first has two responses
 * ```ts ignore
 * const tokens = new BigInt64Array([11n, 12n, 13n, 21n, 22n, 31n, 32n, 33n, 34n]);
 * const batch = new SequenceSample({
 *   ids: ["prompt-0", "prompt-1"],
 *   keys: ["packed_input_ids"],
 *   dtypes: { packed_input_ids: "int64" },
 *   trailingShapes: { packed_input_ids: [] },
 *   seqlens: { packed_input_ids: [[3, 2], [4]] },
 *   data: { packed_input_ids: { dtype: "int64", shape: [9], bytes: new Uint8Array(tokens.buffer) } },
 *   metadata: { source: ["math", "code"] },
 * });
 * const [first, second] = batch.unpack(); // 5 tokens and 4
 * ```
 */
export class SequenceSample {
  /** Names of the samples, each once. */
  readonly ids: readonly string[];
  /** Names of the fields, each once, in the order given. */
  readonly keys: readonly string[];
  /** Per key the element type; null for a key without data. */
  readonly dtypes: Readonly<Record<string, DType | null>>;
  /** Per key the shape of one element of a sequence; null for a key without data. */
  readonly trailingShapes: Readonly<Record<string, readonly number[] | null>>;
  /** Per key, per id, the lengths of that id's sequences. */
  readonly seqlens: Readonly<Record<string, readonly (readonly number[])[]>>;
  /** Per key all sequences one after another, shape `[sum of lengths, ...trailing]`; null altogether for a metadata-only sample. */
  readonly data: Readonly<Record<string, HostTensor | TensorHandle | null>> | null;
  /** Per name one entry per id. */
  readonly metadata: Readonly<Record<string, readonly unknown[]>>;
  #positions: Map<string, number> | undefined;

  /**
   * Makes a sample of these fields, which are checked, and copied but for the bytes of tensors.
   *
   * @throws {SampleError} with the field and its value when they do not fit one another.
   */
  constructor(init: SequenceSampleInit) {
    const fields = init instanceof OwnedFields ? init : checkInit(init);
    this.ids = fields.ids;
    this.keys = fields.keys;
    this.dtypes = fields.dtypes;
    this.trailingShapes = fields.trailingShapes;
    this.seqlens = fields.seqlens;
    this.data = fields.data;
    this.metadata = fields.metadata;
  }

  /**
   * Makes a sample in which each id has one sequence, whose length under each key follows from the key's name: rewards and the like have one
   * value, tokens and the like as many as the main length, log probabilities and the like one less.
   *
   * @throws {SampleError} for a name with no such rule, an empty batch, or fields that do not fit one another.
   */
  static fromDefault(init: FromDefaultInit): SequenceSample {
    const { data } = init;
    if (typeof data !== "object" || data === null) {
      throw new SampleError(`data is an object with a tensor or null per key, not ${show(data)}`, {
        field: "data",
        value: data,
      });
    }
    const mainLengths = flatLengths(init.seqlens);
    const fields = {
      ids: stringIds(init.ids),
      keys: Object.keys(data),
      dtypes: {} as Record<string, DType | null>,
      trailingShapes: {} as Record<string, readonly number[] | null>,
      seqlens: {} as Record<string, number[][]>,
      data,
      metadata: init.metadata ?? {},
    };
    for (const key of fields.keys) {
      requireName(key, "data");
      const tensor = data[key]!;
      fields.dtypes[key] = tensor === null ? null : tensor.dtype;
      fields.trailingShapes[key] = tensor === null ? null : Array.isArray(tensor.shape) ? tensor.shape.slice(1) : [];
      fields.seqlens[key] = defaultLengths(key, mainLengths);
    }
    return new SequenceSample(fields);
  }

  /**
   * Puts samples one after another.
   *
   * @param samples At least one. The first decides whether there is data: where it has none, the result has none.
   * @param keys The keys of the result; those of the first sample unless given.
   * @throws {SampleError} when an id is in two of them; a key is missing from one, or has another dtype, trailing shape or no data there; the
   *   names of metadata differ; or a tensor is not on the host.
   */
  static gather(samples: readonly SequenceSample[], keys?: readonly string[]): SequenceSample {
    const odd = Array.isArray(samples) ? samples.findIndex((sample) => !(sample instanceof SequenceSample)) : 0;
    if (odd !== -1) {
      throw new SampleError("gather takes an array of SequenceSamples", { field: `samples[${odd}]`, value: samples });
    }
    return new SequenceSample(gatherFields(samples, keys));
  }

  /** Reads the form that {@linkcode SequenceSample.toJSON} makes. Throws a `SampleError` with the field and its value for any other. */
  static fromJSON(json: unknown): SequenceSample {
    return new SequenceSample(sampleFromJSON(json));
  }

  /**
   * Reads the form that {@linkcode SequenceSample.toSafetensors} makes. The tensors are views of `bytes`.
   *
   * @throws {SampleError} with the place, for a file that is damaged or is no sample.
   */
  static fromSafetensors(bytes: Uint8Array): SequenceSample {
    return new SequenceSample(sampleFromSafetensors(bytes));
  }

  /** The number of ids. */
  get batchSize(): number {
    return this.ids.length;
  }

  /** The position of an id, or undefined. */
  indexOf(id: string): number | undefined {
    this.#positions ??= new Map(this.ids.map((name, i) => [name, i]));
    return this.#positions.get(id);
  }

  /** The total length of the sequences that the id at a position has under a key. Throws a `SampleError` when there is no such key or position. */
  lengthOf(key: string, index: number): number {
    const lengths = Object.hasOwn(this.seqlens, key) ? this.seqlens[key]![index] : undefined;
    if (lengths !== undefined) return sumOf(lengths);
    throw new SampleError(`there are no lengths of the key ${show(key)} at position ${show(index)}`, {
      field: `${entryOf("seqlens", key)}[${index}]`,
      value: undefined,
    });
  }

  /** One sample for each id. Their tensors are views of this one's. Throws a `SampleError` for several ids and a tensor that is not on the host. */
  unpack(): SequenceSample[] {
    return this.splitWithSpec({ sizes: this.ids.map(() => 1) });
  }

  /**
   * Cuts the batch where the spec says. The parts' tensors are views of this one's; a part that is the whole may have tensors elsewhere.
   *
   * @throws {SampleError} when the parts do not cover the batch one after another, or a tensor that has to be cut is not on the host.
   */
  splitWithSpec(spec: SplitSpec): SequenceSample[] {
    return splitFields(this, boundariesOf(spec, this.batchSize)).map((fields) => new SequenceSample(fields));
  }

  /**
   * Cuts the batch into micro-batches of about the same number of ids that keep to a limit of tokens. Tokens are counted under the key that
   * has the most (of equals the first).
   *
   * @throws {SampleError} when there are fewer ids than `nMbs`, one id alone exceeds the limit, or a tensor is not on the host.
   */
  split(spec: MicroBatchSpec): SplitResult {
    let longest: string | undefined;
    let most = -1;
    for (const key of this.keys) {
      const total = totalLength(this.seqlens[key]!);
      if (total > most) {
        longest = key;
        most = total;
      }
    }
    if (longest === undefined) {
      throw new SampleError("a sample without keys has no lengths to split by", { field: "keys", value: this.keys });
    }
    return this.splitWithLengths(spec, this.seqlens[longest]!.map(sumOf));
  }

  /**
   * As {@linkcode SequenceSample.split}, with other lengths.
   *
   * @param spec The number and the limit.
   * @param lens Per id the tokens that count against the limit: integers from 0 up.
   * @throws {SampleError} as `split` does, and when `lens` is not as said.
   */
  splitWithLengths(spec: MicroBatchSpec, lens: readonly number[]): SplitResult {
    const { nMbs, maxTokensPerMb } = checkMicroBatches(spec);
    if (!Array.isArray(lens) || lens.length !== this.batchSize) {
      throw new SampleError(`lens has a length for each of the ${this.batchSize} ids; it is ${show(lens)}`, {
        field: "lens",
        value: lens,
      });
    }
    for (const [i, length] of lens.entries()) {
      if (isCount(length)) continue;
      throw new SampleError(`lens[${i}] is an integer from 0 up, not ${show(length)}`, {
        field: `lens[${i}]`,
        value: length,
      });
    }
    const groups = firstFitDecreasing(lens, maxTokensPerMb, nMbs)
      .map((group) => group.sort((a, b) => a - b))
      .sort((a, b) => a[0]! - b[0]!);
    const forwardIndices = groups.flat();
    const backwardIndices = new Array<number>(forwardIndices.length);
    for (const [position, index] of forwardIndices.entries()) backwardIndices[index] = position;
    const inOrder = forwardIndices.every((index, position) => index === position);
    const samples = (inOrder ? this : this.reorder(forwardIndices)).splitWithSpec({
      sizes: groups.map((group) => group.length),
    });
    return { samples, forwardIndices, backwardIndices };
  }

  /**
   * The batch in another order: id `i` of the result is id `indices[i]` of this one.
   *
   * @throws {SampleError} when `indices` does not hold each position once, or a tensor is not on the host.
   */
  reorder(indices: readonly number[]): SequenceSample {
    return new SequenceSample(reorderFields(this, indices));
  }

  /** The same ids with these keys only, all metadata kept. Throws a `SampleError` for a key that is not there, and for what is no array of keys. */
  select(keys: readonly string[]): SequenceSample {
    return new SequenceSample(this.#fields(distinctNames(keys, "keys"), true));
  }

  /** The same sample without its data. */
  meta(): SequenceSample {
    return new SequenceSample(this.#fields(this.keys, false));
  }

  /** A copy of the fields under these keys. */
  #fields(keys: readonly string[], withData: boolean): OwnedFields {
    const fields = new OwnedFields([...this.ids], [...keys]);
    if (withData && this.data !== null) fields.data = {};
    for (const key of keys) {
      if (!Object.hasOwn(this.seqlens, key)) {
        throw new SampleError(`there is no key ${show(key)} to select`, { field: "keys", value: key });
      }
      const trailingShape = this.trailingShapes[key]!;
      fields.dtypes[key] = this.dtypes[key]!;
      fields.trailingShapes[key] = trailingShape === null ? null : [...trailingShape];
      fields.seqlens[key] = this.seqlens[key]!.map((lengths) => lengths.slice());
      if (fields.data !== null) fields.data[key] = this.data![key]!;
    }
    fields.metadata = copyMetadata(this.metadata);
    return fields;
  }

  /**
   * Adds the keys and the metadata of another sample, in place; those that are there are replaced. A metadata-only sample stays one.
   *
   * @param other A sample with the same ids in the same order.
   * @throws {SampleError} for other ids, and when this sample has data and the other has none; nothing is changed then.
   */
  update(other: SequenceSample): void {
    if (!(other instanceof SequenceSample)) {
      throw new SampleError(`a sample is updated from a SequenceSample, not from ${show(other)}`, {
        field: "other",
        value: other,
      });
    }
    if (this.ids.length !== other.ids.length || this.ids.some((id, i) => id !== other.ids[i])) {
      throw new SampleError(`the ids differ: ${show(this.ids)} is to be updated from ${show(other.ids)}`, {
        field: "other.ids",
        value: other.ids,
      });
    }
    if (this.data !== null && other.data === null) {
      throw new SampleError("a sample with data cannot be updated from a metadata-only one", {
        field: "other.data",
        value: null,
      });
    }
    const added = other.#fields(other.keys, this.data !== null);
    this.#replace({
      keys: [...new Set([...this.keys, ...added.keys])],
      dtypes: { ...this.dtypes, ...added.dtypes },
      trailingShapes: { ...this.trailingShapes, ...added.trailingShapes },
      seqlens: { ...this.seqlens, ...added.seqlens },
      data: this.data === null ? null : { ...this.data, ...added.data },
      metadata: { ...this.metadata, ...added.metadata },
    });
  }

  /**
   * Renames keys, in place and all at once, so that two may swap their names.
   *
   * @param map New names by old names. Names that are no keys here are passed over.
   * @throws {SampleError} when two keys would have the same name; nothing is changed then.
   */
  remapKeys(map: Readonly<Record<string, string>>): void {
    if (typeof map !== "object" || map === null) {
      throw new SampleError(`map is an object, not ${show(map)}`, { field: "map", value: map });
    }
    const renamed = new Map<string, string>();
    for (const key of this.keys) {
      const name: unknown = Object.hasOwn(map, key) ? map[key] : key;
      const field = entryOf("map", key);
      if (typeof name !== "string") {
        throw new SampleError(`${field} is a string, not ${show(name)}`, { field, value: name });
      }
      requireName(name, field);
      if (renamed.has(name)) {
        throw new SampleError(`${show(renamed.get(name))} and ${show(key)} would both be called ${show(name)}`, {
          field,
          value: name,
        });
      }
      renamed.set(name, key);
    }
    const rename = <T>(record: Readonly<Record<string, T>>): Record<string, T> => {
      const result: Record<string, T> = {};
      for (const [name, key] of renamed) result[name] = record[key]!;
      return result;
    };
    this.#replace({
      keys: [...renamed.keys()],
      dtypes: rename(this.dtypes),
      trailingShapes: rename(this.trailingShapes),
      seqlens: rename(this.seqlens),
      data: this.data === null ? null : rename(this.data),
    });
  }

  /** The only place that changes a sample: its fields are read-only to all others. */
  #replace(
    fields: Partial<Pick<SequenceSample, "keys" | "dtypes" | "trailingShapes" | "seqlens" | "data" | "metadata">>,
  ) {
    Object.assign(this, fields);
  }

  /**
   * The sample as JSON, in the form of AReaL's `as_json_compatible`: `trailing_shapes`, dtypes as `torch.int64`, data as nested arrays.
   * Integers that a JSON number cannot hold exactly are decimal strings; NaN and infinities are the strings `NaN`, `Infinity` and
   * `-Infinity`. Meant for looking at; what is large or has to be bit for bit the same goes through safetensors.
   *
   * @throws {SampleError} for a tensor that is not on the host, and for metadata that has no JSON form.
   */
  toJSON(): SampleJSON {
    return sampleToJSON(this);
  }

  /**
   * The sample as a safetensors file, which any reader of the format opens: one tensor for each key, everything else in its metadata.
   *
   * @throws {SampleError} for a tensor that is not on the host, metadata that has no JSON form, and a key called `__metadata__`.
   */
  toSafetensors(): Uint8Array {
    return sampleToSafetensors(this);
  }

  /**
   * The same sample with all its tensors on the host. All are fetched at once.
   *
   * @param options The deadline and signal of each fetch.
   * @throws {SampleError} when a handle brings another tensor than it stands for; and what the handles themselves throw.
   */
  async toHost(options?: WaitOptions): Promise<SequenceSample> {
    const fields = this.#fields(this.keys, true);
    const { data } = fields;
    if (data === null) return new SequenceSample(fields);
    await Promise.all(fields.keys.map(async (key) => {
      const tensor = data[key]!;
      if (tensor === null || isHostTensor(tensor)) return;
      const { dtype, shape } = tensor;
      const field = entryOf("data", key);
      const fetched = checkTensor(await tensor.toHost(options), dtype, shape, field);
      if (!isHostTensor(fetched)) {
        throw new SampleError(`toHost of ${field} brought another handle`, { field, value: fetched });
      }
      data[key] = fetched;
    }));
    return new SequenceSample(fields);
  }
}
