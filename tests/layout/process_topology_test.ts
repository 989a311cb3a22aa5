import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { LayoutError } from "../../src/errors.ts";
import { AXES, type Axis, type Coord, ProcessTopology } from "../../src/layout/process_topology.ts";
import fc from "fast-check";
import { readFixture } from "../fixtures/read_fixture.ts";

interface TopologyVector {
  cls: "PipeDataTensor" | "DataPipeTensor";
  pp: number;
  dp: number;
  tp: number;
  axes: Axis[];
  dims: number[];
  world_size: number;
  get_dim: Record<string, number>;
  get_coord: (Coord & { rank: number })[];
  get_rank: (Coord & { rank: number })[];
  get_axis_list: Record<Axis, number[][]>;
  get_axis_comm_lists: Record<string, number[][]>;
  get_rank_repr: string[];
  filter_match: { filter: Partial<Coord>; ranks: number[] }[];
}

const { topologies } = await readFixture<{ topologies: TopologyVector[] }>("layout/topology.json.gz");

function build({ cls, pp, dp, tp }: TopologyVector): ProcessTopology {
  const dims = { pipe: pp, data: dp, tensor: tp };
  return cls === "PipeDataTensor" ? ProcessTopology.pipeDataTensor(dims) : ProcessTopology.dataPipeTensor(dims);
}

const anyTopology = fc.tuple(
  fc.shuffledSubarray([...AXES], { minLength: 3, maxLength: 3 }),
  fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })),
).map(([axes, dims]) => new ProcessTopology(axes, dims));

for (const vector of topologies) {
  Deno.test(`ProcessTopology agrees with the vectors for ${vector.cls} pp${vector.pp} dp${vector.dp} tp${vector.tp}`, () => {
    const topology = build(vector);
    assertEquals([...topology.axes], vector.axes);
    assertEquals([...topology.dims], vector.dims);
    assertEquals(topology.worldSize, vector.world_size);
    for (const [axis, dim] of Object.entries(vector.get_dim)) assertEquals(topology.getDim(axis as Axis), dim);
    for (const { rank, ...coord } of vector.get_coord) assertEquals(topology.getCoord(rank), coord);
    for (const { rank, ...coord } of vector.get_rank) assertEquals(topology.getRank(coord), rank);
    for (const axis of AXES) {
      for (const [index, ranks] of vector.get_axis_list[axis].entries()) {
        assertEquals(topology.getAxisList(axis, index), ranks);
      }
    }
    for (const [axis, lists] of Object.entries(vector.get_axis_comm_lists)) {
      assertEquals(topology.getAxisCommLists(axis as Axis), lists);
    }
    for (const [rank, name] of vector.get_rank_repr.entries()) assertEquals(topology.getRankRepr(rank, []), name);
    for (const { filter, ranks } of vector.filter_match) assertEquals(topology.filterMatch(filter), ranks);
    assertEquals(topology.getAxisList("data", 99), []);
  });

  Deno.test(`ProcessTopology refuses what the vectors refuse for ${vector.cls} pp${vector.pp} dp${vector.dp} tp${vector.tp}`, () => {
    const topology = build(vector);
    const nope = "nope" as Axis;
    assertThrows(() => topology.getRank({ pipe: vector.pp, data: 0, tensor: 0 }), LayoutError, "pipe");
    assertThrows(() => topology.getRank({ pipe: 0 } as Coord), LayoutError, "filterMatch()");
    assertThrows(() => topology.getRank({ pipe: 0, data: 0, foo: 0 } as unknown as Coord), LayoutError, "foo");
    assertThrows(() => topology.getCoord(vector.world_size), LayoutError, String(vector.world_size));
    assertThrows(() => topology.getAxisList(nope, 0), LayoutError, "nope");
    assertThrows(() => topology.filterMatch({ nope: 0 } as Partial<Coord>), LayoutError, "nope");
  });
}

Deno.test("ProcessTopology() refuses axes that are not the three, naming them", () => {
  for (
    const axes of [["a", "b"], ["pipe", "data"], ["pipe", "data", "data"], ["pipe", "data", "tensor", "pipe"], "pipe"]
  ) {
    const error = assertThrows(() => new ProcessTopology(axes as Axis[], [1, 1, 1]), LayoutError);
    assertEquals(error.field, "axes");
    assertEquals(error.value, axes);
  }
});

Deno.test("ProcessTopology() refuses dims that are not positive integers, naming the field and the value", () => {
  for (const bad of [0, -1, 1.5, NaN, Infinity, "2", null, 2 ** 53]) {
    const error = assertThrows(() => new ProcessTopology(AXES, [1, bad as number, 1]), LayoutError);
    assertEquals(error.field, "dims[1]");
    assertEquals(error.value, bad);
  }
  assertThrows(() => new ProcessTopology(AXES, [1, 1]), LayoutError, "dims");
  assertThrows(() => new ProcessTopology(AXES, [1024, 1024, 2]), LayoutError, "1024 x 1024 x 2");
});

Deno.test("ProcessTopology.equals() is false when axes differ although dims agree", () => {
  const dims = { pipe: 2, data: 2, tensor: 2 };
  const training = ProcessTopology.pipeDataTensor(dims);
  assert(training.equals(ProcessTopology.pipeDataTensor(dims)));
  assertFalse(training.equals(ProcessTopology.dataPipeTensor(dims)));
  assertFalse(training.equals(ProcessTopology.pipeDataTensor({ ...dims, tensor: 1 })));
});

Deno.test("ProcessTopology.getRank() undoes getCoord() in every topology", () => {
  fc.assert(fc.property(anyTopology, (topology) => {
    for (let rank = 0; rank < topology.worldSize; rank++) assertEquals(topology.getRank(topology.getCoord(rank)), rank);
  }));
});

Deno.test("ProcessTopology.getAxisCommLists() parts the shards into lists that differ along the axis only", () => {
  fc.assert(fc.property(anyTopology, fc.constantFrom(...AXES), (topology, axis) => {
    const lists = topology.getAxisCommLists(axis);
    assertEquals(lists.flat().sort((a, b) => a - b), topology.filterMatch({}));
    for (const list of lists) {
      const { [axis]: _, ...others } = topology.getCoord(list[0]!);
      assertEquals(list, topology.filterMatch(others));
    }
  }));
});
