import { assertEquals, assertThrows } from "@std/assert";
import { LayoutError } from "../../src/errors.ts";
import { ModelShardId } from "../../src/layout/model_shard_id.ts";
import { ProcessTopology } from "../../src/layout/process_topology.ts";
import { readFixture } from "../fixtures/read_fixture.ts";

const { misc } = await readFixture<{ misc: { shard_repr: string[] } }>("layout/topology.json.gz");
const cube = ProcessTopology.pipeDataTensor({ pipe: 2, data: 2, tensor: 2 });

Deno.test("ModelShardId.toString() agrees with the vectors", () => {
  for (const [rank, expected] of misc.shard_repr.entries()) {
    const coordinates = expected.slice(expected.indexOf("@"));
    assertEquals(
      String(ModelShardId.fromRank("data_transfer_test/0", cube, rank)),
      `data_transfer_test/0${coordinates}`,
    );
  }
});

Deno.test("ModelShardId.toString() pads numbers to the width of the number of shards", () => {
  const wide = ProcessTopology.dataPipeTensor({ pipe: 5, data: 10, tensor: 2 });
  assertEquals(
    String(new ModelShardId("actor/12", wide, { pipe: 4, data: 9, tensor: 1 })),
    "actor/12@pp004@tp001@dp009",
  );
});

Deno.test("ModelShardId() and fromRank() agree on rank and coordinates", () => {
  const coord = { pipe: 1, data: 0, tensor: 1 };
  const shard = new ModelShardId("actor/0", cube, coord);
  assertEquals(shard.rank, 5);
  assertEquals(ModelShardId.fromRank("actor/0", cube, 5).coord, coord);
  coord.pipe = 0;
  assertEquals(shard.coord.pipe, 1);
});

Deno.test("ModelShardId() refuses a place outside the grid", () => {
  assertThrows(() => new ModelShardId("actor/0", cube, { pipe: 0, data: 2, tensor: 0 }), LayoutError, "data");
  assertThrows(() => new ModelShardId("actor/0", cube, { pipe: -1, data: 0, tensor: 0 }), LayoutError, "pipe");
  assertThrows(() => ModelShardId.fromRank("actor/0", cube, 8), LayoutError, "8");
});

Deno.test("ModelShardId() refuses a name that is not role/replica", () => {
  for (
    const name of ["act@or/0", "actor", "/0", "actor/", "actor/x", "actor/01", "actor/-1", "ac tor/0", "a/b/0", "", 7]
  ) {
    const error = assertThrows(() => ModelShardId.fromRank(name as string, cube, 0), LayoutError);
    assertEquals(error.value, name);
  }
});
