import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { positionsOf } from "../../src/plan/movements.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import { Scratch } from "../../src/scratch.ts";
import { Catalogue } from "../../src/transfer/catalogue.ts";
import { lowerPlan, lowerResolved } from "../../src/transfer/lower.ts";
import type { Program } from "../../src/transfer/program.ts";

function metaOf(ids: readonly string[], length = 3): SequenceSample {
  return new SequenceSample({
    ids,
    keys: ["mask", "tokens", "empty"],
    dtypes: { mask: "bool", tokens: "int64", empty: "float32" },
    trailingShapes: { mask: [], tokens: [2], empty: [] },
    seqlens: { mask: ids.map(() => [length, 1]), tokens: ids.map(() => [length]), empty: ids.map(() => []) },
  });
}

const keys = ["tokens", "mask", "empty"];

/** Runs the programs of all ranks on sets of items; fails where a send has no receive, or someone passes on what it has not. */
function play(programs: readonly Program[], before: ReadonlyMap<number, ReadonlySet<number>>, groups: number[][] = []) {
  const held = programs.map(({ rank }) => new Set(before.get(rank) ?? []));
  for (const { rank, required } of programs) for (const item of required) assert(held[rank]!.has(item));
  const phases = programs[0]!.phases.length;
  for (let number = 0; number < phases; number++) {
    const start = held.map((items) => new Set(items));
    let sent = 0;
    for (const program of programs) {
      assertEquals(program.phases.length, phases);
      for (const { peer, items, bytes } of program.phases[number]!.sends) {
        sent++;
        for (const item of items) assert(start[program.rank]!.has(item), "a rank sends what it has not");
        const match = programs[peer]!.phases[number]!.receives.filter((message) => message.peer === program.rank);
        assertEquals(match.length, 1);
        assertEquals(match[0]!.items, items);
        assertEquals(match[0]!.bytes, bytes);
        for (const item of items) held[peer]!.add(item);
      }
    }
    assertEquals(sent, programs.reduce((total, { phases }) => total + phases[number]!.receives.length, 0));
    for (const [index, members] of groups.entries()) {
      const casts = members.map((rank) =>
        programs[rank]!.phases[number]!.broadcasts.filter(({ group }) => group === index)
      );
      for (const list of casts) assertEquals(list, casts[0]);
      for (const { root, items } of casts[0]!) {
        for (const item of items) {
          assert(held[root]!.has(item), "a root broadcasts what it has not");
          for (const member of members) held[member]!.add(item);
        }
      }
    }
  }
  for (const { rank, received } of programs) {
    for (const item of received) held[rank]!.add(item);
    assertEquals(new Set(received).size, received.length, "nothing arrives twice");
  }
  return held;
}

function lowerAll(plan: RedistribStep[], meta: SequenceSample, worldSize: number, replicaGroups: number[][] = []) {
  const catalogue = new Catalogue(meta);
  return {
    catalogue,
    programs: Array.from(
      { length: worldSize },
      (_, rank) => lowerPlan(plan, catalogue, rank, { worldSize, replicaGroups }),
    ),
  };
}

function everything(catalogue: Catalogue): Set<number> {
  return new Set(Array.from({ length: catalogue.size }, (_, item) => item));
}

Deno.test("lowerPlan() puts steps without a data dependency into one phase", () => {
  const meta = metaOf(["a", "b"]);
  const { programs } = lowerAll(
    [
      { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: ["a"], keys },
      { commType: "bcast", root: 2, srcs: [2], dsts: [3], ids: ["b"], keys },
      { commType: "bcast", root: 1, srcs: [1], dsts: [2], ids: ["a"], keys: ["mask"] },
    ],
    meta,
    4,
  );
  assertEquals(programs.map(({ phases }) => phases.length), [2, 2, 2, 2]);
  assertEquals(programs[0]!.phases[0]!.sends.map(({ peer }) => peer), [1]);
  assertEquals(programs[2]!.phases[0]!.sends.map(({ peer }) => peer), [3]);
  assertEquals(programs[1]!.phases[1]!.sends.map(({ peer }) => peer), [2]);
});

Deno.test("lowerPlan() starts what stands behind a fence in a later phase than all that stands before it", () => {
  const meta = metaOf(["a", "b"]);
  const send = (src: number, dst: number, id: string): RedistribStep => ({
    commType: "exchange",
    root: null,
    srcs: [src],
    dsts: [[dst]],
    ids: [[id]],
    keys,
  });
  const fence: RedistribStep = { commType: "exchange", root: null, srcs: [], dsts: [], ids: [], keys };
  const phasesOf = (plan: RedistribStep[]) =>
    lowerAll(plan, meta, 4).programs.map(({ phases }) => phases.map(({ sends }) => sends.length));
  assertEquals(phasesOf([send(0, 1, "a"), send(0, 2, "b")]), [[2], [0], [0], [0]]);
  assertEquals(phasesOf([send(0, 1, "a"), fence, send(0, 2, "b")]), [[1, 1], [0, 0], [0, 0], [0, 0]]);
  assertEquals(phasesOf([fence, send(0, 1, "a"), fence, fence, send(1, 2, "a")]), [[1, 0], [0, 1], [0, 0], [0, 0]]);
});

Deno.test("lowerPlan() sends one copy from the source when replicas want the same", () => {
  const meta = metaOf(["a", "b"]);
  const plan: RedistribStep[] = [
    {
      commType: "scatter",
      root: 0,
      srcs: null,
      dsts: [5, 1, 2, 3, 4],
      ids: [["b"], ["b", "a"], ["a", "b"], ["a", "b"], ["a"]],
      keys,
    },
  ];
  const { catalogue, programs } = lowerAll(plan, meta, 6);
  const held = play(programs, new Map([[0, everything(catalogue)]]));
  const once = catalogue.totalBytes(Uint32Array.from(everything(catalogue)));
  assertEquals(programs[0]!.bytesSent, once, "each id leaves the root once");
  assertEquals(held[5]!.size, 3);
  for (const rank of [1, 2, 3]) assertEquals(held[rank]!.size, catalogue.size);
});

Deno.test("lowerPlan() broadcasts within a replica group when the destinations hold a whole one", () => {
  const meta = metaOf(["a"]);
  const plan: RedistribStep[] = [{ commType: "bcast", root: 0, srcs: [0], dsts: [4, 3, 2, 1], ids: ["a"], keys }];
  const groups = [[1, 2, 3], [3, 4, 5]];
  const { catalogue, programs } = lowerAll(plan, meta, 6, groups);
  const held = play(programs, new Map([[0, everything(catalogue)]]), groups);
  for (const rank of [1, 2, 3, 4]) assertEquals(held[rank]!.size, catalogue.size);
  assertEquals(held[5]!.size, 0);
  assertEquals(programs[1]!.phases[0]!.broadcasts.map(({ group, root }) => ({ group, root })), [{ group: 0, root: 1 }]);
});

for (const [where, root] of [["outside of them", 0], ["in one of them", 1]] as const) {
  Deno.test(`lowerPlan() lets one copy leave a source that serves several replica groups, ${where}`, () => {
    const ids = Array.from({ length: 24 }, (_, i) => `id-${i}`);
    const groups = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]];
    const dsts = [...groups.flat(), 13];
    for (
      const step of [
        { commType: "bcast", root, srcs: [root], dsts, ids, keys },
        { commType: "scatter", root, srcs: null, dsts, ids: dsts.map(() => ids), keys },
      ] satisfies RedistribStep[]
    ) {
      const { catalogue, programs } = lowerAll([step], metaOf(ids), 14, groups);
      const all = everything(catalogue);
      const held = play(programs, new Map([[root, all]]), groups);
      for (const rank of dsts) assertEquals(held[rank], all);
      const payload = catalogue.totalBytes(Uint32Array.from(all));
      assertEquals(programs[root]!.bytesSent, payload);
      // Those that get it pass on what the others lack, in turn; and each group's root broadcasts.
      for (const { bytesSent } of programs) assert(bytesSent <= 2 * payload, `${bytesSent} of ${payload}`);
      for (const [group, members] of groups.entries()) {
        const casts = programs[members[0]!]!.phases.flatMap(({ broadcasts }) => broadcasts)
          .filter((cast) => cast.group === group);
        assertEquals(casts.reduce((sum, { bytes }) => sum + bytes, 0), payload);
      }
    }
  });
}

Deno.test("lowerPlan() takes time by the size of the plan, however many fences it has", () => {
  const steps = 20_000;
  const plan = Array.from({ length: steps }, (_, i): RedistribStep[] => [
    { commType: "exchange", root: null, srcs: [0], dsts: [[i + 1]], ids: [["a"]], keys },
    { commType: "exchange", root: null, srcs: [], dsts: [], ids: [], keys },
  ]).flat();
  const started = performance.now();
  const { phases } = lowerPlan(plan, new Catalogue(metaOf(["a"])), 0, { worldSize: steps + 1 });
  assertEquals(phases.map(({ sends }) => sends.map(({ peer }) => peer)), phases.map((_, i) => [i + 1]));
  assertEquals(phases.length, steps);
  assert(performance.now() - started < 4000, `${performance.now() - started} ms`);
});

Deno.test("lowerPlan() does not send what the plan shows a rank to have", () => {
  const meta = metaOf(["a", "b"]);
  const { catalogue, programs } = lowerAll(
    [
      { commType: "gather", root: 0, srcs: [0, 1, 2], dsts: null, ids: [["a"], ["b"], ["a", "b"]], keys },
      { commType: "scatter", root: 0, srcs: null, dsts: [0, 1, 2], ids: [["a", "b"], ["a", "b"], ["a"]], keys },
    ],
    meta,
    3,
  );
  assertEquals(programs[2]!.bytesSent, 0, "rank 1 brought b already, rank 0 had a");
  assertEquals(programs[2]!.bytesReceived, 0);
  const [a] = [catalogue.item(catalogue.keyIndex("tokens")!, 0)];
  assert(programs[1]!.received.includes(a));
  assertEquals(programs[0]!.bytesSent, programs[1]!.bytesReceived);
});

Deno.test("lowerPlan() numbers items so that tensors in a message stay aligned to their elements", () => {
  const { catalogue } = lowerAll([], metaOf(["a", "b", "c"], 5), 1);
  let offset = 0;
  for (let item = 0; item < catalogue.size; item++) {
    const { dtype } = catalogue.tensorOf(item);
    const size = dtype === "int64" ? 8 : dtype === "float32" ? 4 : 1;
    assertEquals(offset % size, 0);
    offset += catalogue.bytes[item]!;
  }
});

const arbitraryPlan = fc.integer({ min: 2, max: 9 }).chain((worldSize) => {
  const rank = fc.integer({ min: 0, max: worldSize - 1 });
  const ids = ["a", "b", "c", "d", "e"];
  const someIds = fc.subarray(ids, { minLength: 0 });
  const someKeys = fc.subarray(keys, { minLength: 1 });
  const ranks = fc.uniqueArray(rank, { minLength: 1, maxLength: worldSize });
  const step: fc.Arbitrary<RedistribStep> = fc.oneof(
    fc.record({ root: rank, srcs: ranks, keys: someKeys }).chain(({ root, srcs, keys }) =>
      fc.tuple(...srcs.map(() => someIds)).map((ids): RedistribStep => ({
        commType: "gather",
        root,
        srcs,
        dsts: null,
        ids,
        keys,
      }))
    ),
    fc.record({ root: rank, dsts: ranks, keys: someKeys }).chain(({ root, dsts, keys }) =>
      fc.tuple(...dsts.map(() => someIds)).map((ids): RedistribStep => ({
        commType: "scatter",
        root,
        srcs: null,
        dsts,
        ids,
        keys,
      }))
    ),
    fc.record({ root: rank, dsts: ranks, ids: someIds, keys: someKeys }).map((
      { root, dsts, ids, keys },
    ): RedistribStep => ({
      commType: "bcast",
      root,
      srcs: [root],
      dsts,
      ids,
      keys,
    })),
    fc.record({ srcs: ranks, keys: someKeys }).chain(({ srcs, keys }) =>
      fc.tuple(fc.tuple(...srcs.map(() => someIds)), fc.tuple(...srcs.map(() => ranks))).map((
        [ids, dsts],
      ): RedistribStep => ({ commType: "exchange", root: null, srcs, dsts, ids, keys }))
    ),
  );
  const groups = fc.uniqueArray(rank, { maxLength: worldSize }).map((members) =>
    members.length < 2 ? [] : [members.sort((a, b) => a - b)]
  );
  return fc.record({ worldSize: fc.constant(worldSize), plan: fc.array(step, { maxLength: 6 }), groups });
});

Deno.test("lowerPlan() gives programs that fit together and bring every destination what it is to have, for any plan", () => {
  fc.assert(
    fc.property(arbitraryPlan, ({ worldSize, plan, groups }) => {
      const meta = metaOf(["a", "b", "c", "d", "e"]);
      const { catalogue, programs } = lowerAll(plan, meta, worldSize, groups);
      const before = new Map(programs.map(({ rank, required }) => [rank, new Set(required)]));
      const held = play(programs, before, groups);
      const itemsOf = (ids: readonly string[], keys: readonly string[]) =>
        keys.flatMap((key) => ids.map((id) => catalogue.item(catalogue.keyIndex(key)!, catalogue.idIndex(id)!)));
      for (const step of plan) {
        const expected: [number, string[]][] = step.commType === "gather"
          ? step.ids.map((ids) => [step.root, ids])
          : step.commType === "scatter"
          ? step.dsts.map((dst, i) => [dst, step.ids[i]!])
          : step.commType === "bcast"
          ? step.dsts.map((dst) => [dst, step.ids])
          : step.srcs.flatMap((_, i) => step.dsts[i]!.map((dst): [number, string[]] => [dst, step.ids[i]!]));
        for (const [rank, ids] of expected) {
          for (const item of itemsOf(ids, step.keys)) assert(held[rank]!.has(item), `rank ${rank} lacks item ${item}`);
        }
      }
      for (const program of programs) {
        assertEquals(
          program.phases.reduce((total, { sends }) => total + sends.reduce((sum, { bytes }) => sum + bytes, 0), 0) +
            program.phases.flatMap(({ broadcasts }) => broadcasts).filter(({ root }) => root === program.rank)
              .reduce((sum, { bytes }) => sum + bytes, 0),
          program.bytesSent,
        );
        assertEquals(catalogue.totalBytes(program.received), program.bytesReceived);
        assertEquals(program.peakBytes, program.bytesReceived + program.stagingBytes);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("lowerResolved() gives the same program in memory that was used before", () => {
  const scratch = new Scratch();
  fc.assert(
    fc.property(arbitraryPlan, ({ worldSize, plan, groups }) => {
      const catalogue = new Catalogue(metaOf(["a", "b", "c", "d", "e"]));
      const positions = positionsOf(plan, catalogue.idIndices);
      for (let rank = 0; rank < worldSize; rank++) {
        scratch.reset();
        scratch.uint8(scratch.byteLength).fill(0xff);
        scratch.reset();
        const options = { worldSize, replicaGroups: groups };
        assertEquals(
          lowerResolved(plan, positions, catalogue, rank, options, scratch),
          lowerResolved(plan, positions, catalogue, rank, options),
        );
      }
    }),
    { numRuns: 100 },
  );
  assert(scratch.byteLength > 0);
});
