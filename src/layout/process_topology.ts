/**
 * The grid of a model's shards over the three axes of parallelism.
 *
 * The room `layout/` says where the shards of a model are: {@linkcode ProcessTopology} is the grid, `ModelShardId` names one cell of it,
 * `ClusterLayout` puts the cells of several models on worker ranks, and `parseLayouts` reads all of that from a command line. Nothing here
 * knows of a device; the room imports from no other.
 *
 * @module
 */

import { LayoutError } from "../errors.ts";
import { show } from "../show.ts";

/** One dimension of parallelism: pipeline stages, data-parallel replicas, tensor-parallel slices. */
export type Axis = "pipe" | "data" | "tensor";

/** A place in a {@linkcode ProcessTopology}, or its dimensions. */
export interface Coord {
  /** Pipeline stage, from 0. */
  pipe: number;
  /** Data-parallel rank, from 0. */
  data: number;
  /** Tensor-parallel rank, from 0. */
  tensor: number;
}

/** The axes in training order. */
export const AXES: readonly Axis[] = ["pipe", "data", "tensor"];

/** The most shards one model may have, and the most ranks one layout may have. Keeps a mistyped size from exhausting memory. */
export const MAX_RANKS = 1 << 20;

/** Grid of a model's shards, row-major over `axes`. Rank here means the shard's index in the grid ("parallelism rank"). */
export class ProcessTopology {
  /** The three axes, slowest first. */
  readonly axes: readonly Axis[];
  /** The size along each of `axes`, in that order. */
  readonly dims: readonly number[];
  /** The number of shards: the product of `dims`. */
  readonly worldSize: number;
  /** The distance between neighbours along each of `axes`, in ranks. */
  readonly #strides: readonly number[];

  /**
   * Lays the shards out.
   *
   * @param axes Each of `pipe`, `data` and `tensor` once; the last one varies fastest.
   * @param dims A positive integer for each axis.
   * @throws {LayoutError} when the axes are not a permutation of the three, or a dimension is not a positive integer.
   */
  constructor(axes: readonly Axis[], dims: readonly number[]) {
    if (!Array.isArray(axes) || axes.length !== AXES.length || !AXES.every((axis) => axes.includes(axis))) {
      throw new LayoutError(`axes are pipe, data and tensor in some order, each once; found ${show(axes)}`, {
        field: "axes",
        value: axes,
      });
    }
    if (!Array.isArray(dims) || dims.length !== axes.length) {
      throw new LayoutError(`dims holds one size for each of ${axes.join(", ")}; found ${show(dims)}`, {
        field: "dims",
        value: dims,
      });
    }
    let worldSize = 1;
    for (const [i, dim] of dims.entries()) {
      if (!Number.isSafeInteger(dim) || dim < 1) {
        throw new LayoutError(`dims[${i}], the size along ${axes[i]}, is a positive integer, not ${show(dim)}`, {
          field: `dims[${i}]`,
          value: dim,
        });
      }
      worldSize *= dim;
    }
    if (worldSize > MAX_RANKS) {
      throw new LayoutError(`${dims.join(" x ")} makes more than ${MAX_RANKS} shards`, { field: "dims", value: dims });
    }
    const strides: number[] = [];
    for (let i = 0, stride = worldSize; i < dims.length; i++) strides.push(stride /= dims[i]!);
    this.axes = Object.freeze([...axes]);
    this.dims = Object.freeze([...dims]);
    this.worldSize = worldSize;
    this.#strides = strides;
  }

  /** Training order: pipe, data, tensor. Throws as the constructor does. */
  static pipeDataTensor(dims: Coord): ProcessTopology {
    return new ProcessTopology(["pipe", "data", "tensor"], [dims.pipe, dims.data, dims.tensor]);
  }

  /** Inference order: data, pipe, tensor. Throws as the constructor does. */
  static dataPipeTensor(dims: Coord): ProcessTopology {
    return new ProcessTopology(["data", "pipe", "tensor"], [dims.data, dims.pipe, dims.tensor]);
  }

  /** The size along `axis`; 0 for a name that is no axis, as in the reference. */
  getDim(axis: Axis): number {
    return this.dims[this.axes.indexOf(axis)] ?? 0;
  }

  /**
   * The shard's index.
   *
   * @throws {LayoutError} when `coord` does not name each axis once, or lies outside the grid.
   */
  getRank(coord: Coord): number {
    const given = Object.keys(coord);
    if (given.length !== this.axes.length || !this.axes.every((axis) => given.includes(axis))) {
      throw new LayoutError(
        `a coordinate names pipe, data and tensor; found ${show(given)}. filterMatch() takes some of them`,
        { field: "coord", value: coord },
      );
    }
    let rank = 0;
    for (const [i, axis] of this.axes.entries()) {
      const at = coord[axis];
      if (!Number.isSafeInteger(at) || at < 0 || at >= this.dims[i]!) {
        throw new LayoutError(`${axis} is an integer from 0 to ${this.dims[i]! - 1}, not ${show(at)}`, {
          field: `coord.${axis}`,
          value: at,
        });
      }
      rank += at * this.#strides[i]!;
    }
    return rank;
  }

  /**
   * The place of shard `rank`.
   *
   * @throws {LayoutError} when there is no such shard.
   */
  getCoord(rank: number): Coord {
    if (!Number.isSafeInteger(rank) || rank < 0 || rank >= this.worldSize) {
      throw new LayoutError(`a shard's rank is an integer from 0 to ${this.worldSize - 1}, not ${show(rank)}`, {
        field: "rank",
        value: rank,
      });
    }
    return { pipe: this.#at("pipe", rank), data: this.#at("data", rank), tensor: this.#at("tensor", rank) };
  }

  /**
   * The shards whose coordinates agree with `filter`, ascending. A coordinate outside the grid matches none.
   *
   * @throws {LayoutError} when `filter` names something other than an axis, or gives it something other than a number.
   */
  filterMatch(filter: Partial<Coord>): number[] {
    const wanted = Object.entries(filter) as [Axis, number][];
    for (const [axis, at] of wanted) {
      this.#requireAxis(axis, "filter");
      if (typeof at !== "number") {
        throw new LayoutError(`the filter's ${axis} is a number, not ${show(at)}`, {
          field: `filter.${axis}`,
          value: at,
        });
      }
    }
    const matching: number[] = [];
    for (let rank = 0; rank < this.worldSize; rank++) {
      if (wanted.every(([axis, at]) => this.#at(axis, rank) === at)) matching.push(rank);
    }
    return matching;
  }

  /**
   * The shards whose coordinate along `axis` is `index`, ascending; none for an index outside the grid.
   *
   * @throws {LayoutError} when `axis` is no axis.
   */
  getAxisList(axis: Axis, index: number): number[] {
    this.#requireAxis(axis, "axis");
    return this.filterMatch({ [axis]: index });
  }

  /**
   * The shards that differ along `axis` only, one list for each place on the two other axes (row-major in the order of `axes`). For a name
   * that is no axis there are none, as in the reference.
   */
  getAxisCommLists(axis: Axis): number[][] {
    const stride = this.#strides[this.axes.indexOf(axis)];
    if (stride === undefined) return [];
    return this.getAxisList(axis, 0).map((first) =>
      Array.from({ length: this.getDim(axis) }, (_, i) => first + i * stride)
    );
  }

  /**
   * A name for shard `rank`, such as `pipe_01-data_00`, with numbers as wide as the number of shards.
   *
   * @param rank The shard.
   * @param omitAxes Axes to leave out; `data` and `pipe` unless given, as in the reference.
   * @throws {LayoutError} when there is no such shard.
   */
  getRankRepr(rank: number, omitAxes: readonly Axis[] = ["data", "pipe"]): string {
    const coord = this.getCoord(rank);
    const width = String(this.worldSize).length;
    return this.axes.filter((axis) => !omitAxes.includes(axis))
      .map((axis) => `${axis}_${String(coord[axis]).padStart(width, "0")}`).join("-");
  }

  /** Same axes in the same order with the same dims (the reference compares less). */
  equals(other: ProcessTopology): boolean {
    return this.axes.every((axis, i) => other.axes[i] === axis && other.dims[i] === this.dims[i]);
  }

  /** The coordinate of a shard that is known to be in the grid. */
  #at(axis: Axis, rank: number): number {
    const i = this.axes.indexOf(axis);
    return Math.floor(rank / this.#strides[i]!) % this.dims[i]!;
  }

  #requireAxis(axis: string, field: string): void {
    if (!(this.axes as readonly string[]).includes(axis)) {
      throw new LayoutError(`there is no axis ${show(axis)}; the axes are ${this.axes.join(", ")}`, {
        field,
        value: axis,
      });
    }
  }
}
