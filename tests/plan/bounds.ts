/**
 * How near plans come to the bounds of their links, on random cases.
 *
 * As a script it goes through as many cases as it is told, prints the worst, and fails where a bound does not hold:
 *
 * ```sh
 * deno run -A tests/plan/bounds.ts [cases] [first seed]
 * ```
 *
 * @module
 */
import { arrangeDemand } from "../../src/plan/demand.ts";
import { itemSizes } from "../../src/plan/item_sizes.ts";
import { findLack } from "../../src/plan/lack.ts";
import { linkBounds } from "../../src/plan/link_bounds.ts";
import { planToJSON } from "../../src/plan/plan_json.ts";
import { RedistribPlanner } from "../../src/plan/planner.ts";
import { GlobalStorageTracker } from "../../src/plan/storage_tracker.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import { type Busiest, randomFrom } from "./batches.ts";

const GPUS_PER_NODE = 8;
const BYTES_PER_TOKEN: Record<string, number> = { tokens: 8, logprobs: 4, mask: 1 };
const DTYPES: Record<string, "int64" | "float32" | "bool"> = { tokens: "int64", logprobs: "float32", mask: "bool" };

/** What the plan of each pattern puts on the busiest links, and the bounds. */
export interface BoundsCase {
  readonly name: string;
  readonly bounds: Busiest;
  /** The bytes of the largest (id, key). */
  readonly largest: number;
  readonly direct: Busiest;
  readonly bcast: Busiest;
  readonly gatherScatter: Busiest;
}

/** A random case on up to `mostRanks` ranks, the last node of which need not be full. */
export function boundsCase(seed: number, mostRanks: number): BoundsCase {
  const random = randomFrom(seed);
  const roll = (sides: number): number => Math.floor(random() * sides);
  const one = <T>(...choices: T[]): T => choices[roll(choices.length)]!;
  const worldSize = one(2, 4, 8, 16, 24, 61, 64, 128, 200, 256, 500, 512);
  const world = Math.min(worldSize, mostRanks);
  const keys = Object.keys(BYTES_PER_TOKEN).slice(0, 1 + roll(3));
  const lengths = one("even", "uniform", "zipf");
  const sources = one("all", "first half", "few");
  const owners = one("blocks", "dealt", "random");
  const copies = one("none", "none", "neighbours", "random");
  const wants = one("groups", "groups", "one rank", "random sets", "everybody's group");
  const replicas = Math.min(world, one(1, 2, 4, 8, 8, 16, 64));
  const share = one(1, 1, 0.5);
  const count = Math.max(world * one(4, 16, 32), 64);
  const name =
    `seed ${seed}: ${world} ranks, ${count} ids, ${keys.length} keys, ${lengths} lengths, ${sources} sources, ` +
    `${owners} owners, copies ${copies}, wanted by ${wants} of ${replicas}, share ${share}`;

  const sourceCount = sources === "all" ? world : sources === "first half" ? Math.ceil(world / 2) : Math.min(world, 3);
  const ids = Array.from({ length: count }, (_, i) => `prompt-${i}`);
  const lengthOf = ids.map(() =>
    lengths === "even"
      ? 512
      : lengths === "uniform"
      ? 1 + roll(2048)
      : Math.min(8192, Math.floor(64 / (1 - random()) ** 0.7))
  );
  const tracker = new GlobalStorageTracker(world);
  const dests = new Map<number, string[]>();
  const groups = Math.max(1, Math.floor(world / replicas));
  for (const [i, id] of ids.entries()) {
    const owner = owners === "blocks"
      ? Math.floor(i * sourceCount / count)
      : owners === "dealt"
      ? i % sourceCount
      : roll(sourceCount);
    const others = copies === "neighbours" ? [owner ^ 1] : copies === "random" ? [roll(world), roll(world)] : [];
    for (const key of keys) {
      tracker.addData(owner, [id], key, true);
      for (const rank of others) if (rank < world) tracker.addData(rank, [id], key, false);
    }
    if (random() >= share) continue;
    const group = roll(groups);
    const wanted = wants === "one rank"
      ? [roll(world)]
      : wants === "random sets"
      ? Array.from({ length: 1 + roll(6) }, () => roll(world))
      : wants === "groups"
      ? Array.from({ length: replicas }, (_, n) => group * replicas + n)
      : Array.from({ length: replicas }, (_, n) => n * groups + group);
    for (const rank of new Set(wanted)) {
      const list = dests.get(rank);
      if (list === undefined) dests.set(rank, [id]);
      else list.push(id);
    }
  }
  const meta = new SequenceSample({
    ids,
    keys,
    dtypes: Object.fromEntries(keys.map((key) => [key, DTYPES[key]!])),
    trailingShapes: Object.fromEntries(keys.map((key) => [key, []])),
    seqlens: Object.fromEntries(keys.map((key) => [key, lengthOf.map((n) => [n])])),
  });
  const sizes = new Map(ids.map((id, i) => [id, lengthOf[i]!]));
  const planner = new RedistribPlanner({ gpusPerNode: GPUS_PER_NODE }, tracker);
  const busiest = (pattern: "direct" | "bcast" | "gather-scatter"): Busiest => {
    const json = JSON.stringify(planToJSON(planner.derivePlan(dests, keys, pattern, { meta })));
    return countLinks(JSON.parse(json), world, (id, key) => sizes.get(id)! * BYTES_PER_TOKEN[key]!);
  };
  const demand = arrangeDemand(dests, world);
  const cluster = { worldSize: world, gpusPerNode: GPUS_PER_NODE };
  const itemBytes = itemSizes(demand.ids, keys, meta);
  const lack = findLack(demand, keys, tracker, GPUS_PER_NODE, itemBytes);
  return {
    name,
    bounds: linkBounds(lack, cluster, itemBytes),
    largest: Math.max(...lengthOf) * BYTES_PER_TOKEN[keys[0]!]!,
    direct: busiest("direct"),
    bcast: busiest("bcast"),
    gatherScatter: busiest("gather-scatter"),
  };
}

/** The busiest links by the words of a plan's JSON alone: what is sent to a rank crosses its link, whether it had it or not. */
function countLinks(
  // deno-lint-ignore no-explicit-any
  plan: any[],
  worldSize: number,
  bytesOf: (id: string, key: string) => number,
): Busiest {
  const into = new Float64Array(worldSize);
  const outOf = new Float64Array(worldSize);
  const intoNode = new Float64Array(worldSize);
  const outOfNode = new Float64Array(worldSize);
  const nodeOf = (rank: number): number => (rank - rank % GPUS_PER_NODE) / GPUS_PER_NODE;
  for (const { comm_type, root, srcs, dsts, ids, keys } of plan) {
    const send = (from: number, to: number, ids: string[]) => {
      if (from === to) return;
      let bytes = 0;
      for (const id of ids) for (const key of keys) bytes += bytesOf(id, key);
      outOf[from]! += bytes;
      into[to]! += bytes;
      if (nodeOf(from) === nodeOf(to)) return;
      outOfNode[nodeOf(from)]! += bytes;
      intoNode[nodeOf(to)]! += bytes;
    };
    if (comm_type === "gather") srcs.forEach((src: number, i: number) => send(src, root, ids[i]));
    if (comm_type === "scatter") dsts.forEach((dst: number, i: number) => send(root, dst, ids[i]));
    if (comm_type === "bcast") dsts.forEach((dst: number) => send(root, dst, ids));
    if (comm_type === "exchange") {
      srcs.forEach((src: number, i: number) => dsts[i].forEach((dst: number) => send(src, dst, ids[i])));
    }
  }
  return {
    intoRank: Math.max(...into),
    outOfRank: Math.max(...outOf),
    intoNode: Math.max(...intoNode),
    outOfNode: Math.max(...outOfNode),
  };
}

/** What is wrong with a case: a link beyond `factor` times its bound and beyond the largest item above it, or busier than the reference's patterns make it. */
export function faultsOf({ bounds, largest, direct, bcast, gatherScatter }: BoundsCase, factor: number): string[] {
  const faults: string[] = [];
  for (const link of ["intoRank", "outOfRank", "intoNode", "outOfNode"] as const) {
    const [ours, bound] = [direct[link], bounds[link]];
    // Items travel whole; where ranks have few, the last one may be too much.
    if (ours > Math.max(factor * bound, bound + largest)) {
      faults.push(`${link} ${(ours / bound).toFixed(3)} times its bound`);
    }
    if (ours < bound * (1 - 1e-9)) faults.push(`${link} below its bound`);
  }
  for (const [name, theirs] of [["bcast", bcast], ["gather-scatter", gatherScatter]] as const) {
    const rank = Math.max(direct.intoRank, direct.outOfRank) / Math.max(theirs.intoRank, theirs.outOfRank);
    const node = Math.max(direct.intoNode, direct.outOfNode) / Math.max(theirs.intoNode, theirs.outOfNode);
    if (rank > 1 + 1e-9) faults.push(`busiest rank ${rank.toFixed(3)} times that of ${name}`);
    if (node > 1 + 1e-9) faults.push(`busiest node ${node.toFixed(3)} times that of ${name}`);
  }
  return faults;
}

if (import.meta.main) {
  const [cases, first] = [Number(Deno.args[0] ?? 100), Number(Deno.args[1] ?? 1)];
  let bad = 0;
  for (let seed = first; seed < first + cases; seed++) {
    const one = boundsCase(seed, 512);
    const faults = faultsOf(one, 1.15);
    if (faults.length === 0) continue;
    bad++;
    Deno.stdout.writeSync(new TextEncoder().encode(`${one.name}\n  ${faults.join("\n  ")}\n`));
  }
  Deno.stdout.writeSync(new TextEncoder().encode(`${bad} of ${cases} cases with faults\n`));
  if (bad > 0) Deno.exitCode = 1;
}
