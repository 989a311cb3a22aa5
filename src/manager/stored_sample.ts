/**
 * Samples as they are stored.
 *
 * A batch brings tens of thousands of tensors at once, so that they are kept in a table: by key a column of lengths, and pieces of a lot in a row. One id is a
 * row of a table. A table that few rows are left of is given up for tables of one row, so that a sample that stays never keeps a batch's table alive.
 *
 * @module
 */

import { NumberColumn } from "../device/number_column.ts";
import { type Lot, Region } from "../device/slab.ts";
import { sameList } from "../plan/same_list.ts";
import { copyValues, OwnedFields } from "../sample/fields.ts";
import { SequenceSample } from "../sample/sequence_sample.ts";
import type { Catalogue, CatalogueKey } from "../transfer/catalogue.ts";
import { DeviceTensor } from "../transfer/device_tensor.ts";
import type { Places } from "../transfer/places.ts";

/** The lengths of an id's sequences under one key; where there is just one, it alone. */
export type Lengths = number | readonly number[];

/** Lengths as they are kept: a copy. */
export function lengthsOf(sequences: readonly number[]): Lengths {
  return sequences.length === 1 ? sequences[0]! : sequences.slice();
}

/** What stands in a column of lengths where an id has no or several sequences, or one too long for it. */
const ELSEWHERE = 0xffffffff;

/** What a table has under one key. */
export class KeyColumn {
  /** The lot that the tensors are pieces of; null for a key without data. */
  readonly lot: Lot | null;
  /** The piece of row 0. The others follow one by one, as long as `#pieces` is null. */
  #firstPiece = 0;
  /** By row the number of the piece. */
  #pieces: NumberColumn | null = null;
  /** By row the length of the one sequence, or {@linkcode ELSEWHERE}. */
  #lengths = new NumberColumn();
  /** By row, where it is not there. */
  #elsewhere: Map<number, Lengths> | undefined;

  /** Without rows. */
  constructor(lot: Lot | null) {
    this.lot = lot;
  }

  /** With many rows at once: the items of a key, by their ids' positions in the catalogue, which have places in one lot. */
  static of(lot: Lot, catalogue: Catalogue, keyIndex: number, ids: Int32Array, places: Places): KeyColumn {
    const { lengths, isSingle } = catalogue;
    const first = catalogue.item(keyIndex, 0);
    const column = new KeyColumn(lot);
    const ownLengths = new Uint32Array(ids.length);
    column.#lengths = new NumberColumn(ownLengths);
    if (ids.length > 0) column.#firstPiece = places.pieceOf(first + ids[0]!);
    let isInARow = true;
    for (let row = 0; row < ids.length; row++) {
      const item = first + ids[row]!;
      ownLengths[row] = lengths[item]!;
      isInARow &&= places.pieceOf(item) === column.#firstPiece + row;
      if (isSingle[item] !== 1 || lengths[item]! >= ELSEWHERE) {
        column.#setElsewhere(row, lengthsOf(catalogue.seqlensOf(item)));
      }
    }
    if (!isInARow) column.#pieces = new NumberColumn(piecesOf(first, ids, places));
    return column;
  }

  /** Adds a row. */
  push(piece: number, lengths: Lengths): void {
    this.#addPiece(piece);
    if (typeof lengths === "number" && lengths < ELSEWHERE) this.#lengths.push(lengths);
    else this.#setElsewhere(this.#lengths.push(0), lengths);
  }

  #addPiece(piece: number): void {
    const row = this.#lengths.length;
    if (row === 0) this.#firstPiece = piece;
    if (this.#pieces === null && piece !== this.#firstPiece + row) {
      const sofar = Uint32Array.from({ length: row }, (_, before) => this.#firstPiece + before);
      this.#pieces = new NumberColumn(sofar);
    }
    this.#pieces?.push(piece);
  }

  #setElsewhere(row: number, lengths: Lengths): void {
    this.#lengths.set(row, ELSEWHERE);
    (this.#elsewhere ??= new Map()).set(row, lengths);
  }

  /** The number of a row's piece. */
  pieceAt(row: number): number {
    return this.#pieces === null ? this.#firstPiece + row : this.#pieces.at(row);
  }

  /** The lengths of a row's sequences. */
  lengthsAt(row: number): Lengths {
    const length = this.#lengths.at(row);
    return length === ELSEWHERE ? this.#elsewhere!.get(row)! : length;
  }

  /**
   * Gives the items of a key their places, those of rows that follow each other, up to the first whose lengths are not the catalogue's.
   *
   * @param row The row of the first.
   * @param keyIndex The key, by its position in the catalogue.
   * @param ids The ids, by their positions in the catalogue, of which those from place `begin` to before `end` are meant.
   * @returns The place of the first that has other lengths, or `end`.
   */
  place(
    row: number,
    catalogue: Catalogue,
    keyIndex: number,
    ids: Int32Array,
    begin: number,
    end: number,
    places: Places,
  ): number {
    const { lengths, isSingle } = catalogue;
    const lot = this.lot!;
    const first = catalogue.item(keyIndex, 0);
    for (let i = begin; i < end; i++, row++) {
      const item = first + ids[i]!;
      const own = this.#lengths.at(row);
      const isLike = own === lengths[item] && own !== ELSEWHERE && isSingle[item] === 1;
      if (!isLike && !this.#hasLengths(row, catalogue.seqlensOf(item))) return i;
      places.put(item, lot, this.pieceAt(row));
    }
    return end;
  }

  #hasLengths(row: number, expected: readonly number[]): boolean {
    const lengths = this.lengthsAt(row);
    return sameList(typeof lengths === "number" ? [lengths] : lengths, expected);
  }
}

/** The pieces of the items of a key whose first item is this. */
function piecesOf(first: number, ids: Int32Array, places: Places): Uint32Array {
  const pieces = new Uint32Array(ids.length);
  for (let row = 0; row < ids.length; row++) pieces[row] = places.pieceOf(first + ids[row]!);
  return pieces;
}

/** What the rows of a table have in common. */
export interface TableHead {
  /** The keys. */
  readonly fields: readonly CatalogueKey[];
  /** The names of the metadata. */
  readonly names: readonly string[];
  /** Whether there is data at all: else the samples are metadata-only. */
  readonly hasData: boolean;
}

/** One row in so many is left of a table that is given up. */
const SPARSE = 8;

/** Samples that came one after another, with the same keys. */
export class SampleTable {
  /** The keys. */
  readonly fields: readonly CatalogueKey[];
  /** By key. */
  readonly columns: readonly KeyColumn[];
  /** By name, by row. */
  readonly metadata: Readonly<Record<string, unknown[]>>;
  /** Whether there is data at all: else the samples are metadata-only. */
  readonly hasData: boolean;
  #samples: StoredSample[] | null = [];
  #rows = 0;
  #live = 0;

  /** Starts with as many rows as there are in the columns and the metadata, which have the same number. */
  private constructor(
    { fields, hasData }: TableHead,
    columns: readonly KeyColumn[],
    metadata: Readonly<Record<string, unknown[]>>,
  ) {
    this.fields = fields;
    this.columns = columns;
    this.metadata = metadata;
    this.hasData = hasData;
  }

  /** A table without rows yet. By key the lot that its tensors will be pieces of. */
  static empty(head: TableHead, lots: readonly (Lot | null)[]): SampleTable {
    const metadata = Object.fromEntries(head.names.map((name): [string, unknown[]] => [name, []]));
    return new SampleTable(head, lots.map((lot) => new KeyColumn(lot)), metadata);
  }

  /**
   * A table of many rows at once. It takes over the columns, and one ownership of each piece.
   *
   * @param ids By row.
   * @param columns By key.
   * @param metadata By name, by row.
   */
  static of(
    head: TableHead,
    ids: readonly string[],
    columns: readonly KeyColumn[],
    metadata: Readonly<Record<string, unknown[]>>,
  ): SampleTable {
    const table = new SampleTable(head, columns, metadata);
    for (const id of ids) table.#adopt(id);
    return table;
  }

  /** Its samples, by row, unless it was given up. */
  get samples(): readonly StoredSample[] | null {
    return this.#samples;
  }

  /** Whether rows with this in common can be added. */
  takes({ fields, names, hasData }: TableHead, lots: readonly (Lot | null)[]): boolean {
    const own = Object.keys(this.metadata);
    return this.#samples !== null && this.fields === fields && this.hasData === hasData &&
      this.columns.every(({ lot }, k) => lot === lots[k]) &&
      own.length === names.length && own.every((name, i) => name === names[i]);
  }

  /** Takes over one ownership of a piece for each key. */
  add(
    id: string,
    pieceAt: (position: number) => number,
    lengthsAt: (position: number) => Lengths,
    valueOf: (name: string) => unknown,
  ): StoredSample {
    for (let k = 0; k < this.columns.length; k++) this.columns[k]!.push(pieceAt(k), lengthsAt(k));
    for (const name in this.metadata) this.metadata[name]!.push(valueOf(name));
    return this.#adopt(id);
  }

  #adopt(id: string): StoredSample {
    const sample = new StoredSample(id, this, this.#rows++);
    this.#samples?.push(sample);
    this.#live++;
    return sample;
  }

  /** One row is not needed any more. */
  giveUp(): void {
    this.#live--;
  }

  /** Gives the rows that are left tables of their own, where they are few. */
  thin(): void {
    if (this.#samples === null || this.#live * SPARSE >= this.#samples.length) return;
    const samples = this.#samples;
    this.#samples = null;
    for (const sample of samples) sample.moveOut(this);
  }

  /** What its rows have in common. */
  get head(): TableHead {
    const { fields, hasData, metadata } = this;
    return { fields, hasData, names: Object.keys(metadata) };
  }
}

/** One id: a row of a table. */
export class StoredSample {
  /** Its name. */
  readonly id: string;
  #table: SampleTable;
  #row: number;
  #released = false;

  /** Made by {@linkcode SampleTable.add}. */
  constructor(id: string, table: SampleTable, row: number) {
    this.id = id;
    this.#table = table;
    this.#row = row;
  }

  /** The table that it is a row of. */
  get table(): SampleTable {
    return this.#table;
  }

  /** The number of the row. */
  get row(): number {
    return this.#row;
  }

  /** The one that came to its table after it, where that is still stored there. */
  get next(): StoredSample | undefined {
    const next = this.#table.samples?.[this.#row + 1];
    return next === undefined || next.#released ? undefined : next;
  }

  /** Its keys. Samples that came together share the list. */
  get fields(): readonly CatalogueKey[] {
    return this.#table.fields;
  }

  /** The position of a key, or -1. */
  positionOf(key: string): number {
    return this.fields.findIndex(({ name }) => name === key);
  }

  /** The lot that a key's tensor is a piece of; null where it has no data. */
  lotAt(position: number): Lot | null {
    return this.#table.columns[position]!.lot;
  }

  /** The number of the piece. */
  pieceAt(position: number): number {
    return this.#table.columns[position]!.pieceAt(this.#row);
  }

  /** The metadata of a name. */
  valueOf(name: string): unknown {
    return this.#table.metadata[name]![this.#row];
  }

  /** The lengths of a key's sequences. */
  lengthsAt(position: number): Lengths {
    return this.#table.columns[position]!.lengthsAt(this.#row);
  }

  /** A sample of its own over the stored tensors. */
  toSample(): SequenceSample {
    const fields = new OwnedFields([this.id], this.fields.map(({ name }) => name));
    const { hasData, metadata } = this.#table;
    if (hasData) fields.data = {};
    this.fields.forEach(({ name, dtype, trailingShape }, k) => {
      const lengths = this.lengthsAt(k);
      const sequences = typeof lengths === "number" ? [lengths] : [...lengths];
      fields.dtypes[name] = dtype;
      fields.trailingShapes[name] = trailingShape === null ? null : [...trailingShape];
      fields.seqlens[name] = [sequences];
      if (fields.data === null) return;
      const lot = this.lotAt(k);
      if (lot === null || dtype === null || trailingShape === null) {
        fields.data[name] = null;
        return;
      }
      const elements = sequences.reduce((sum, length) => sum + length, 0);
      fields.data[name] = new DeviceTensor(new Region(lot, this.pieceAt(k)), dtype, [elements, ...trailingShape]);
    });
    for (const name of Object.keys(metadata)) {
      fields.metadata[name] = copyValues(metadata[name]!, name, this.#row, this.#row + 1);
    }
    return new SequenceSample(fields);
  }

  /** Gives up its tensors. */
  release(): void {
    this.fields.forEach((_, k) => this.lotAt(k)?.release(this.pieceAt(k)));
    this.#giveUp();
  }

  /** This sample with what has come: keys that it has are replaced, others are added. What is replaced is given up, and so are both rows. */
  mergedWith(incoming: StoredSample): StoredSample {
    const from = [
      ...this.fields.map(({ name }, k) => {
        const position = incoming.positionOf(name);
        return position < 0 ? { sample: this as StoredSample, k } : { sample: incoming, k: position };
      }),
      ...incoming.fields.flatMap(({ name }, k) => this.positionOf(name) < 0 ? [{ sample: incoming, k }] : []),
    ];
    const head = {
      fields: from.map(({ sample, k }) => sample.fields[k]!),
      names: [...new Set([...Object.keys(this.#table.metadata), ...Object.keys(incoming.#table.metadata)])],
      hasData: this.#table.hasData || incoming.#table.hasData,
    };
    const merged = SampleTable.empty(head, from.map(({ sample, k }) => sample.lotAt(k)));
    const sample = merged.add(
      this.id,
      (position) => from[position]!.sample.pieceAt(from[position]!.k),
      (position) => from[position]!.sample.lengthsAt(from[position]!.k),
      (name) => (Object.hasOwn(incoming.#table.metadata, name) ? incoming : this).valueOf(name),
    );
    this.fields.forEach(({ name }, k) => {
      if (incoming.positionOf(name) >= 0) this.lotAt(k)?.release(this.pieceAt(k));
    });
    this.#giveUp();
    incoming.#giveUp();
    return sample;
  }

  /** Leaves a table that is given up for one of its own. */
  moveOut(table: SampleTable): void {
    if (this.#released || this.#table !== table) return;
    const alone = SampleTable.empty(table.head, table.columns.map(({ lot }) => lot));
    const same = alone.add(this.id, (k) => this.pieceAt(k), (k) => this.lengthsAt(k), (name) => this.valueOf(name));
    this.#table = alone;
    this.#row = same.#row;
  }

  #giveUp(): void {
    this.#released = true;
    this.#table.giveUp();
  }
}
