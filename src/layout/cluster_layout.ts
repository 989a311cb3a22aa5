/**
 * Which shard of which model sits on which worker rank.
 *
 * @module
 */

import { LayoutError } from "../errors.ts";
import { show } from "../show.ts";
import { requireModelName } from "./model_shard_id.ts";
import { type Coord, MAX_RANKS, ProcessTopology } from "./process_topology.ts";

/** One model of a job and where its shards are. */
export interface ModelPlacement {
  /** `role/replica`, without `@`. */
  name: string;
  /** The grid of its shards. */
  topology: ProcessTopology;
  /** `ranks[shard]` is the worker rank that the shard sits on; the shard's index is the topology's rank. */
  ranks: readonly number[];
}

/** What a {@linkcode ClusterLayout} is made of. */
export interface ClusterLayoutInit {
  /** The number of worker ranks. */
  worldSize: number;
  /** All models of the job. */
  models: readonly ModelPlacement[];
  /** Names of a source and a destination model: between these samples travel. */
  transferPairs: readonly (readonly [string, string])[];
}

/** The keys of the reference's three registries of process groups: the sorted ranks of each group, the groups sorted by them. */
export interface ProcessGroupKeys {
  /** The dp heads of each source model. */
  gather: number[][];
  /** Each of those heads with all ranks of the destination model. */
  scatter: number[][];
  /** Each of those heads with all ranks of one data-parallel rank of the destination model. */
  bcast: number[][];
}

/** Which model shard sits on which rank, for all models of a job. Immutable. */
export class ClusterLayout {
  /** The number of worker ranks. */
  readonly worldSize: number;
  /** All models of the job, in the order given. */
  readonly models: readonly ModelPlacement[];
  /** The pairs of models between which samples travel, in the order given. */
  readonly transferPairs: readonly (readonly [string, string])[];
  readonly #byName: ReadonlyMap<string, ModelPlacement>;

  /**
   * Several models may share a rank; two shards of one model may not.
   *
   * @throws {LayoutError} that names the field and its value: a world size that is no positive integer, a name that is malformed or given
   * twice, a shard without a rank, a rank outside the world or given twice in one model, a transfer pair with an unknown model.
   */
  constructor(init: ClusterLayoutInit) {
    const { worldSize } = init;
    if (!Number.isSafeInteger(worldSize) || worldSize < 1 || worldSize > MAX_RANKS) {
      throw new LayoutError(`worldSize is an integer from 1 to ${MAX_RANKS}, not ${show(worldSize)}`, {
        field: "worldSize",
        value: worldSize,
      });
    }
    const byName = new Map<string, ModelPlacement>();
    for (const [i, model] of init.models.entries()) {
      requireModelName(model.name, `models[${i}].name`);
      if (byName.has(model.name)) {
        throw new LayoutError(
          `models[${i}].name: ${show(model.name)} is there already; give the second one another replica number`,
          { field: `models[${i}].name`, value: model.name },
        );
      }
      requireRanks(model, worldSize, `models[${i}]`);
      byName.set(
        model.name,
        Object.freeze({ name: model.name, topology: model.topology, ranks: Object.freeze([...model.ranks]) }),
      );
    }
    const pairs = init.transferPairs.map(([source, destination], i): readonly [string, string] => {
      for (const [end, name] of [source, destination].entries()) {
        if (!byName.has(name)) {
          throw new LayoutError(`transferPairs[${i}][${end}]: there is no model ${show(name)}`, {
            field: `transferPairs[${i}][${end}]`,
            value: name,
          });
        }
      }
      return Object.freeze([source, destination] as const);
    });
    this.worldSize = worldSize;
    this.models = Object.freeze([...byName.values()]);
    this.transferPairs = Object.freeze(pairs);
    this.#byName = byName;
  }

  /**
   * Reads the form that {@linkcode ClusterLayout.toJSON} writes, as a value or as text.
   *
   * @throws {LayoutError} that names the place, for anything else: missing or further fields, wrong types, what the constructor refuses.
   */
  static fromJSON(json: unknown): ClusterLayout {
    const root = fields(parseText(json), "layout", ["worldSize", "models", "transferPairs"]);
    const models = list(root.models, "models").map((entry, i): ModelPlacement => {
      const place = `models[${i}]`;
      const { name, axes, dims, ranks } = fields(entry, place, ["name", "axes", "dims", "ranks"]);
      try {
        const topology = new ProcessTopology(
          list(axes, "axes") as ConstructorParameters<typeof ProcessTopology>[0],
          list(dims, "dims") as number[],
        );
        return { name: name as string, topology, ranks: list(ranks, "ranks") as number[] };
      } catch (error) {
        if (!(error instanceof LayoutError)) throw error;
        const field = `${place}.${error.field}`;
        throw new LayoutError(`${place}: ${error.message}`, { field, value: error.value, cause: error });
      }
    });
    const transferPairs = list(root.transferPairs, "transferPairs").map((pair, i): [string, string] => {
      const names = list(pair, `transferPairs[${i}]`);
      if (names.length !== 2) {
        throw new LayoutError(`transferPairs[${i}] is a source and a destination, not ${show(pair)}`, {
          field: `transferPairs[${i}]`,
          value: pair,
        });
      }
      return names as [string, string];
    });
    return new ClusterLayout({ worldSize: root.worldSize as number, models, transferPairs });
  }

  /** `{worldSize, models: [{name, axes, dims, ranks}], transferPairs}`, plain data that shares nothing with this object. */
  toJSON(): unknown {
    return {
      worldSize: this.worldSize,
      models: this.models.map(({ name, topology, ranks }) => ({
        name,
        axes: [...topology.axes],
        dims: [...topology.dims],
        ranks: [...ranks],
      })),
      transferPairs: this.transferPairs.map((pair) => [...pair]),
    };
  }

  /**
   * The model called `name`.
   *
   * @throws {LayoutError} when there is none.
   */
  model(name: string): ModelPlacement {
    const model = this.#byName.get(name);
    if (model === undefined) {
      throw new LayoutError(
        `there is no model ${show(name)}; there are ${[...this.#byName.keys()].join(", ") || "none"}`,
        { field: "model", value: name },
      );
    }
    return model;
  }

  /**
   * Sorted worker ranks of the shards that agree with `filter`, all of them without one.
   *
   * @throws {LayoutError} when there is no such model, or the filter is not valid.
   */
  ranksOf(model: string, filter: Partial<Coord> = {}): number[] {
    const { topology, ranks } = this.model(model);
    return topology.filterMatch(filter).map((shard) => ranks[shard]!).sort((a, b) => a - b);
  }

  /**
   * By data-parallel rank: the worker of the last pipe stage, tensor 0, which holds that rank's outputs.
   *
   * @throws {LayoutError} when there is no such model.
   */
  dpHeads(model: string): number[] {
    const { topology, ranks } = this.model(model);
    const pipe = topology.getDim("pipe") - 1;
    return Array.from(
      { length: topology.getDim("data") },
      (_, data) => ranks[topology.getRank({ pipe, data, tensor: 0 })]!,
    );
  }

  /** The keys of the reference's three registries of process groups, each sorted. */
  processGroupKeys(): ProcessGroupKeys {
    const gather = new RankSets();
    const scatter = new RankSets();
    const bcast = new RankSets();
    for (const [source, destination] of this.transferPairs) {
      const heads = this.dpHeads(source);
      const everyone = this.ranksOf(destination);
      const replicas = Array.from(
        { length: this.model(destination).topology.getDim("data") },
        (_, data) => this.ranksOf(destination, { data }),
      );
      gather.add(heads);
      for (const head of heads) {
        scatter.add([head, ...everyone]);
        for (const replica of replicas) bcast.add([head, ...replica]);
      }
    }
    return { gather: gather.sorted(), scatter: scatter.sorted(), bcast: bcast.sorted() };
  }
}

/** Sets of ranks, each kept once. */
class RankSets {
  readonly #sets = new Map<string, number[]>();

  add(ranks: readonly number[]): void {
    const set = [...new Set(ranks)].sort((a, b) => a - b);
    this.#sets.set(set.join(), set);
  }

  /** In the order in which their sorted ranks compare, one after another. */
  sorted(): number[][] {
    return [...this.#sets.values()].sort((a, b) => {
      for (let i = 0; i < a.length && i < b.length; i++) {
        if (a[i] !== b[i]) return a[i]! - b[i]!;
      }
      return a.length - b.length;
    });
  }
}

/** Refuses a placement that does not put every shard on a rank of its own. */
function requireRanks(model: ModelPlacement, worldSize: number, place: string): void {
  const { topology, ranks } = model;
  if (ranks.length !== topology.worldSize) {
    throw new LayoutError(
      `${place}.ranks: ${model.name} has ${topology.worldSize} shards, but ${ranks.length} ranks are given for them`,
      { field: `${place}.ranks`, value: ranks },
    );
  }
  const shardOn = new Map<number, number>();
  for (const [shard, rank] of ranks.entries()) {
    if (!Number.isSafeInteger(rank) || rank < 0 || rank >= worldSize) {
      const field = `${place}.ranks[${shard}]`;
      throw new LayoutError(
        `${field}: a rank of ${model.name} is an integer from 0 to ${worldSize - 1} (worldSize is ${worldSize}), not ${
          show(rank)
        }`,
        { field, value: rank },
      );
    }
    const other = shardOn.get(rank);
    if (other !== undefined) {
      const field = `${place}.ranks[${shard}]`;
      throw new LayoutError(`${field}: shards ${other} and ${shard} of ${model.name} are both on rank ${rank}`, {
        field,
        value: rank,
      });
    }
    shardOn.set(rank, shard);
  }
}

/** JSON text becomes the value that it holds; any other value stays. */
function parseText(json: unknown): unknown {
  if (typeof json !== "string") return json;
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new LayoutError(`the layout is not JSON: ${error instanceof Error ? error.message : error}`, {
      field: "layout",
      value: json,
      cause: error,
    });
  }
}

/** An object with exactly the fields named. */
function fields<Name extends string>(value: unknown, place: string, names: readonly Name[]): Record<Name, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new LayoutError(`${place} is an object, not ${show(value)}`, { field: place, value });
  }
  const at = (name: string): string => place === "layout" ? name : `${place}.${name}`;
  for (const name of names) {
    if (!Object.hasOwn(value, name)) {
      throw new LayoutError(`${at(name)} is missing`, { field: at(name), value: undefined });
    }
  }
  for (const [name, content] of Object.entries(value)) {
    if (!(names as readonly string[]).includes(name)) {
      throw new LayoutError(`${at(name)} is no field of a layout; ${place} has ${names.join(", ")}`, {
        field: at(name),
        value: content,
      });
    }
  }
  return value as Record<Name, unknown>;
}

/** An array. */
function list(value: unknown, place: string): unknown[] {
  if (!Array.isArray(value)) throw new LayoutError(`${place} is an array, not ${show(value)}`, { field: place, value });
  return value;
}
