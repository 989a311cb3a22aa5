/**
 * The layouts of a job in one line of text.
 *
 * @module
 */

import { LayoutError } from "../errors.ts";
import { show } from "../show.ts";
import { ClusterLayout, type ModelPlacement } from "./cluster_layout.ts";
import { requireModelName } from "./model_shard_id.ts";
import { type Axis, ProcessTopology } from "./process_topology.ts";

/** What {@linkcode parseLayouts} may be told beside the text. */
export interface ParseLayoutsOptions {
  /** The number of worker ranks; the smallest that holds all shards unless given. */
  worldSize?: number;
}

/** Axes by their short names, in training order. */
const AXIS_OF: Readonly<Record<string, Axis>> = { pp: "pipe", dp: "data", tp: "tensor" };

/** `role` or `role/replica`, optional `@first rank`, `=`, sizes. */
const LAYOUT = /^([^@=]*)(?:@([^=]*))?=(.*)$/;

/**
 * Reads layouts such as `actor=pp1,dp4,tp1 critic@4=pp2,dp1,tp2`: one model after another, parted by white space.
 *
 * A model is its name (`role/replica`; `role` alone is `role/0`), the first rank that it occupies after `@` (0 unless given), and after `=` its
 * sizes along pipe, data and tensor, each once. Shards take consecutive ranks in training order: pipe slowest, tensor fastest, in whichever
 * order the sizes are written. Samples travel from each model to the next.
 *
 * @param text The layouts.
 * @param options The number of ranks, where it is not to be the smallest that fits.
 * @throws {LayoutError} that names the layout (`layouts[1]`) and what is wrong with it; also when `options.worldSize` is too small.
 *
 * @example Two models
 * ```ts
 * import { parseLayouts, type ParseLayoutsOptions } from "./parse_layouts.ts";
 *
 * const options: ParseLayoutsOptions = { worldSize: 16 };
 * const layout = parseLayouts("actor=pp1,dp4,tp1 critic@4=pp2,dp1,tp2", options);
 * console.assert(layout.worldSize === 16);
 * console.assert(layout.dpHeads("critic/0").join() === "6");
 * ```
 */
export function parseLayouts(text: string, options: ParseLayoutsOptions = {}): ClusterLayout {
  if (typeof text !== "string") {
    throw new LayoutError(`layouts is a text, not ${show(text)}`, { field: "layouts", value: text });
  }
  const words = text.split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) {
    throw new LayoutError('there is no layout; write one such as "actor=pp1,dp4,tp1"', {
      field: "layouts",
      value: text,
    });
  }
  const models = words.map((word, i) => parseModel(word, `layouts[${i}]`));
  for (const [i, { name }] of models.entries()) {
    const first = models.findIndex((model) => model.name === name);
    if (first !== i) {
      fail(
        `layouts[${i}]`,
        words[i]!,
        `${name} is layouts[${first}] already; give it another replica, such as ${nextReplica(name)}`,
      );
    }
  }
  const needed = models.reduce((most, { ranks }) => Math.max(most, ranks.at(-1)! + 1), 0);
  const worldSize = options.worldSize ?? needed;
  for (const [i, { name, ranks }] of models.entries()) {
    if (ranks.at(-1)! >= worldSize) {
      fail(
        `layouts[${i}]`,
        words[i]!,
        `${name} has ${ranks.length} shards on ranks ${ranks[0]} to ${
          ranks.at(-1)
        }, but there are ${worldSize} ranks; ${needed} are needed`,
      );
    }
  }
  const names = models.map(({ name }) => name);
  const transferPairs = names.slice(1).map((name, i): [string, string] => [names[i]!, name]);
  return new ClusterLayout({ worldSize, models, transferPairs });
}

/** One model and the consecutive ranks of its shards. */
function parseModel(word: string, place: string): ModelPlacement {
  const match = LAYOUT.exec(word);
  if (match === null) fail(place, word, "it has no =; write name=pp1,dp1,tp1");
  const [, role, first, sizes] = match;
  if (role === "") fail(place, word, "it has no name before the =");
  const name = role!.includes("/") ? role! : `${role}/0`;
  const firstRank = first === undefined ? 0 : wholeNumber(first);
  if (firstRank === null) fail(place, word, `the first rank after @ is a whole number, not "${first}"`);
  const dims: Partial<Record<Axis, number>> = {};
  for (const part of sizes!.split(",")) {
    const [, axisName, digits] = /^([a-z]+)(.*)$/.exec(part) ?? [];
    const axis = axisName !== undefined && Object.hasOwn(AXIS_OF, axisName) ? AXIS_OF[axisName] : undefined;
    if (axis === undefined) fail(place, word, `"${part}" is not pp, dp or tp and a size`);
    if (dims[axis] !== undefined) fail(place, word, `${axisName} is given twice`);
    const size = wholeNumber(digits!);
    if (size === null || size < 1) fail(place, word, `the size in "${part}" is not a positive whole number`);
    dims[axis] = size;
  }
  for (const [short, axis] of Object.entries(AXIS_OF)) {
    if (dims[axis] === undefined) fail(place, word, `${short} is missing; write all of pp, dp and tp`);
  }
  try {
    requireModelName(name, "name");
    const topology = ProcessTopology.pipeDataTensor({ pipe: dims.pipe!, data: dims.data!, tensor: dims.tensor! });
    return { name, topology, ranks: Array.from({ length: topology.worldSize }, (_, shard) => firstRank + shard) };
  } catch (error) {
    if (!(error instanceof LayoutError)) throw error;
    fail(place, word, error.message, error);
  }
}

/** The number that the digits say, or null where they are something else or too many. */
function wholeNumber(digits: string): number | null {
  if (!/^[0-9]+$/.test(digits)) return null;
  const value = Number(digits);
  return Number.isSafeInteger(value) ? value : null;
}

/** `actor/0` becomes `actor/1`. */
function nextReplica(name: string): string {
  const [role, replica] = name.split("/");
  return `${role}/${Number(replica) + 1}`;
}

function fail(place: string, word: string, why: string, cause?: unknown): never {
  throw new LayoutError(`${place} "${word}": ${why}`, {
    field: place,
    value: word,
    ...(cause === undefined ? {} : { cause }),
  });
}
