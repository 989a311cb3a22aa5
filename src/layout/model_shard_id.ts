/**
 * Names of models and of their shards.
 *
 * @module
 */

import { LayoutError } from "../errors.ts";
import { show } from "../show.ts";
import type { Coord, ProcessTopology } from "./process_topology.ts";

/** `role/replica`: the role without `@`, `/` and white space, the replica a number. */
const MODEL_NAME = /^[^@/\s]+\/(?:0|[1-9][0-9]*)$/;

/**
 * Refuses what is not a model's name.
 *
 * @param name `role/replica`, for example `actor/0`.
 * @param field Where the name stands, for the error.
 * @throws {LayoutError} when it is not of that form.
 */
export function requireModelName(name: unknown, field: string): asserts name is string {
  if (typeof name === "string" && MODEL_NAME.test(name)) return;
  const hint = typeof name === "string" && name.includes("@") ? "; a name holds no @" : "";
  throw new LayoutError(
    `${field} is a model's name, role/replica such as "actor/0", not ${show(name)}${hint}`,
    { field, value: name },
  );
}

/** One shard of one model. */
export class ModelShardId {
  /** The model's name, `role/replica`. */
  readonly model: string;
  /** The shard's place in its model's topology. */
  readonly coord: Coord;
  /** The shard's index in its model's topology ("parallelism rank"). */
  readonly rank: number;
  /** Digits of each number in the text form: those of the number of shards. */
  readonly #width: number;

  /**
   * Names the shard at `coord`.
   *
   * @param model `role/replica`, without `@`.
   * @param topology The model's grid.
   * @param coord A place in it.
   * @throws {LayoutError} when the name is not of that form, or `coord` lies outside the grid.
   */
  constructor(model: string, topology: ProcessTopology, coord: Coord) {
    requireModelName(model, "model");
    this.model = model;
    this.rank = topology.getRank(coord);
    this.coord = Object.freeze({ ...coord });
    this.#width = String(topology.worldSize).length;
  }

  /** The shard with index `rank`. Throws as the constructor does. */
  static fromRank(model: string, topology: ProcessTopology, rank: number): ModelShardId {
    return new ModelShardId(model, topology, topology.getCoord(rank));
  }

  /** `role/replica@pp0@tp0@dp0`, numbers zero-padded to the width of the number of shards. */
  toString(): string {
    const pad = (n: number): string => String(n).padStart(this.#width, "0");
    return `${this.model}@pp${pad(this.coord.pipe)}@tp${pad(this.coord.tensor)}@dp${pad(this.coord.data)}`;
  }
}
