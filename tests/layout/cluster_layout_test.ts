import { assertEquals, assertThrows } from "@std/assert";
import { LayoutError } from "../../src/errors.ts";
import { ClusterLayout, type ModelPlacement } from "../../src/layout/cluster_layout.ts";
import { AXES, type Axis, ProcessTopology } from "../../src/layout/process_topology.ts";
import fc from "fast-check";
import { readFixture } from "../fixtures/read_fixture.ts";

interface PlacementVector {
  pair: string;
  world_size: number;
  topologies: Record<string, { axes: Axis[]; dims: number[] }>;
  msid2mwid: { model: string; role: string; replica_id: number; dp: number; tp: number; pp: number; worker: number }[];
  groups: { gather: number[][]; scatter: number[][]; bcast: number[][] };
}

const vectors = await readFixture<PlacementVector[]>("layout/placements.json.gz");

function build(vector: PlacementVector): ClusterLayout {
  const models = Object.entries(vector.topologies).map(([model, { axes, dims }]): ModelPlacement => {
    const topology = new ProcessTopology(axes, dims);
    const shards = vector.msid2mwid.filter((shard) => shard.model === model);
    const ranks: number[] = [];
    for (const { pp, dp, tp, worker } of shards) ranks[topology.getRank({ pipe: pp, data: dp, tensor: tp })] = worker;
    return { name: `${shards[0]!.role}/${shards[0]!.replica_id}`, topology, ranks };
  });
  return new ClusterLayout({
    worldSize: vector.world_size,
    models,
    transferPairs: [[models[0]!.name, models[1]!.name]],
  });
}

const small = {
  worldSize: 8,
  models: [
    { name: "actor/0", axes: ["pipe", "data", "tensor"], dims: [1, 4, 1], ranks: [0, 1, 2, 3] },
    { name: "critic/0", axes: ["data", "pipe", "tensor"], dims: [2, 1, 2], ranks: [7, 6, 5, 4] },
  ],
  transferPairs: [["actor/0", "critic/0"]],
};

/** A copy of `small` with one field, named by a path such as `models[0].name`, set to something else. */
function changed(path: string, value: unknown): unknown {
  const copy = structuredClone(small);
  const names = path.split(/[.[\]]+/).filter((name) => name !== "");
  const last = names.pop()!;
  let at: Record<string, unknown> = copy;
  for (const name of names) at = at[name] as Record<string, unknown>;
  if (value === undefined) delete at[last];
  else at[last] = value;
  return copy;
}

Deno.test("ClusterLayout.processGroupKeys() agrees with the vectors for all pairs of layouts", () => {
  assertEquals(vectors.length, 25);
  for (const vector of vectors) assertEquals(build(vector).processGroupKeys(), vector.groups, vector.pair);
});

Deno.test("ClusterLayout.ranksOf() and dpHeads() find the workers of the vectors", () => {
  for (const vector of vectors) {
    const layout = build(vector);
    for (const { name, topology } of layout.models) {
      const shards = vector.msid2mwid.filter(({ role, replica_id }) => `${role}/${replica_id}` === name);
      const workers = shards.map(({ worker }) => worker).sort((a, b) => a - b);
      assertEquals(layout.ranksOf(name), workers);
      assertEquals(layout.ranksOf(name, {}), workers);
      const last = topology.getDim("pipe") - 1;
      const heads = shards.filter(({ pp, tp }) => pp === last && tp === 0).sort((a, b) => a.dp - b.dp);
      assertEquals(layout.dpHeads(name), heads.map(({ worker }) => worker));
    }
  }
});

Deno.test("ClusterLayout.dpHeads() is in data-parallel order while ranksOf() is sorted", () => {
  const layout = ClusterLayout.fromJSON(small);
  assertEquals(layout.dpHeads("critic/0"), [7, 5]);
  assertEquals(layout.ranksOf("critic/0", { tensor: 0 }), [5, 7]);
  assertEquals(layout.ranksOf("critic/0", { data: 9 }), []);
  assertThrows(() => layout.ranksOf("judge/0"), LayoutError, "judge/0");
});

Deno.test("ClusterLayout.fromJSON() undoes toJSON(), from a value and from text", () => {
  assertEquals(ClusterLayout.fromJSON(small).toJSON(), small);
  assertEquals(ClusterLayout.fromJSON(JSON.stringify(small)).toJSON(), small);

  const placement = fc.tuple(
    fc.shuffledSubarray([...AXES], { minLength: 3, maxLength: 3 }),
    fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
    fc.nat({ max: 5 }),
  );
  fc.assert(fc.property(fc.array(placement, { minLength: 1, maxLength: 4 }), fc.nat(), (placements, pair) => {
    const models = placements.map(([axes, dims, first], i): ModelPlacement => {
      const topology = new ProcessTopology(axes, dims);
      return { name: `model/${i}`, topology, ranks: topology.filterMatch({}).map((shard) => first + shard).reverse() };
    });
    const layout = new ClusterLayout({
      worldSize: 32,
      models,
      transferPairs: [["model/0", `model/${pair % models.length}`]],
    });
    const copy = ClusterLayout.fromJSON(JSON.parse(JSON.stringify(layout)));
    assertEquals(copy.toJSON(), layout.toJSON());
    assertEquals(copy.processGroupKeys(), layout.processGroupKeys());
  }));
});

Deno.test("ClusterLayout.fromJSON() refuses what is no layout and names the place", () => {
  const cases: [path: string, value: unknown, field?: string][] = [
    ["worldSize", undefined],
    ["worldSize", 0],
    ["worldSize", "8"],
    ["worldSize", 2 ** 30],
    ["worldSize", 7, "models[1].ranks[0]"],
    ["models", undefined],
    ["models", {}],
    ["models[1]", null],
    ["models[1].extra", 1],
    ["models[0].name", "actor"],
    ["models[0].name", "act@or/0"],
    ["models[1].name", "actor/0"],
    ["models[0].axes", ["pipe", "data"]],
    ["models[0].dims", "1,4,1"],
    ["models[0].dims[1]", 4.5],
    ["models[0].dims[1]", 5, "models[0].ranks"],
    ["models[0].ranks[2]", 8],
    ["models[0].ranks[2]", -1],
    ["models[0].ranks[2]", 0.5],
    ["models[0].ranks[2]", 0],
    ["transferPairs", undefined],
    ["transferPairs[0]", ["actor/0"]],
    ["transferPairs[0][1]", "judge/0"],
    ["transferPairs[0][0]", 3],
    ["further", 1],
  ];
  for (const [path, value, field] of cases) {
    const error = assertThrows(() => ClusterLayout.fromJSON(changed(path, value)), LayoutError);
    assertEquals(error.field, field ?? path, error.message);
  }
  for (const json of [null, 3, [], "{", "[]", undefined]) {
    assertEquals(assertThrows(() => ClusterLayout.fromJSON(json), LayoutError).field, "layout");
  }
});

Deno.test("ClusterLayout keeps no tie to what it was made from", () => {
  const ranks = [0, 1];
  const topology = ProcessTopology.pipeDataTensor({ pipe: 1, data: 2, tensor: 1 });
  const layout = new ClusterLayout({ worldSize: 4, models: [{ name: "actor/0", topology, ranks }], transferPairs: [] });
  ranks[0] = 3;
  assertEquals(layout.ranksOf("actor/0"), [0, 1]);
  (layout.toJSON() as typeof small).models[0]!.ranks[0] = 3;
  assertEquals(layout.ranksOf("actor/0"), [0, 1]);
});
