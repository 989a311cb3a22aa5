import { assertEquals, assertNotEquals } from "@std/assert";
import type { Fingerprint } from "../../src/manager/fingerprint.ts";
import { type Terms, termsDigest } from "../../src/manager/terms.ts";
import { positionsOf } from "../../src/plan/movements.ts";
import type { RedistribStep } from "../../src/plan/step.ts";
import { SequenceSample } from "../../src/sample/sequence_sample.ts";
import { Scratch } from "../../src/scratch.ts";
import { Catalogue } from "../../src/transfer/catalogue.ts";

interface MetaParts {
  ids?: string[];
  keys?: string[];
  length?: number;
  task?: unknown;
}

function metaOf(
  { ids = ["a", "b", "c", "d"], keys = ["x", "y"], length = 3, task = "math" }: MetaParts = {},
): SequenceSample {
  return new SequenceSample({
    ids,
    keys,
    dtypes: Object.fromEntries(keys.map((key) => [key, "int64"])),
    trailingShapes: Object.fromEntries(keys.map((key) => [key, []])),
    seqlens: Object.fromEntries(keys.map((key) => [key, ids.map(() => [length])])),
    metadata: { task: ids.map(() => task) },
  });
}

const exchange: RedistribStep = {
  commType: "exchange",
  root: null,
  srcs: [0, 1],
  dsts: [[2, 3], [3]],
  ids: [["a", "b"], ["c"]],
  keys: ["x"],
};
const bcast: RedistribStep = { commType: "bcast", root: 0, srcs: [0], dsts: [1, 2], ids: ["a", "b"], keys: ["x", "y"] };
const gather: RedistribStep = {
  commType: "gather",
  root: 0,
  srcs: [1, 2],
  dsts: null,
  ids: [["a"], ["b"]],
  keys: ["x"],
};
const scatter: RedistribStep = {
  commType: "scatter",
  root: 0,
  srcs: null,
  dsts: [1, 2],
  ids: [["a"], ["b"]],
  keys: ["x"],
};
const fence: RedistribStep = { commType: "exchange", root: null, srcs: [], dsts: [], ids: [], keys: ["x"] };

/** Used again and again, as a manager does. */
const scratch = new Scratch();

function digest(changed: Partial<Omit<Terms, "catalogue" | "positions">> = {}): Fingerprint {
  const { meta, plan, ...rest } = {
    meta: metaOf(),
    plan: [exchange, bcast],
    replicaGroups: [[1, 2, 3]],
    verify: false,
    ...changed,
  };
  const catalogue = new Catalogue(meta);
  const terms = { meta, catalogue, plan, positions: positionsOf(plan, catalogue.idIndices), ...rest };
  scratch.reset();
  const found = termsDigest(terms, scratch);
  assertEquals(found, termsDigest(terms, new Scratch()));
  return found;
}

Deno.test("termsDigest() is the same for equal terms, whoever made them", () => {
  const plan = JSON.parse(JSON.stringify([exchange, bcast]));
  assertEquals(digest({ meta: metaOf(), plan }), digest());
});

Deno.test("termsDigest() tells apart whatever differs", () => {
  const plans: RedistribStep[][] = [
    [],
    [exchange],
    [bcast, exchange],
    [exchange, fence, bcast],
    [exchange, bcast, fence],
    [gather],
    [scatter],
    [{ ...exchange, dsts: [[2], [3, 3]] }, bcast],
    [{ ...exchange, dsts: [[3, 2], [3]] }, bcast],
    [{ ...exchange, srcs: [1, 0] }, bcast],
    [{ ...exchange, ids: [["a"], ["b", "c"]] }, bcast],
    [{ ...exchange, ids: [["b", "a"], ["c"]] }, bcast],
    [{ ...exchange, ids: [["a", "b"], ["d"]] }, bcast],
    [{ ...exchange, keys: ["y"] }, bcast],
    [exchange, { ...bcast, keys: ["y", "x"] }],
    [exchange, { ...bcast, keys: ["x"] }],
    [exchange, { ...bcast, root: 1, srcs: [1] }],
    [exchange, { ...bcast, dsts: [1] }],
    [exchange, { ...bcast, dsts: [1, 3] }],
    [exchange, { ...bcast, dsts: [1, 2, 3] }],
  ];
  const metas = [
    metaOf({ ids: ["a", "b", "d", "c"] }),
    metaOf({ ids: ["a", "b", "c", "d", "e"] }),
    metaOf({ keys: ["x", "y", "z"] }),
    metaOf({ length: 4 }),
    ...[
      "code",
      null,
      "null",
      [undefined],
      [null],
      "undefined",
      NaN,
      Infinity,
      0,
      -0,
      5,
      5n,
      "5n",
      "'5n",
      [],
      {},
      new Map(),
      new Set(),
    ]
      .map((task) => metaOf({ task })),
    metaOf({ task: new Map([["a", 1]]) }),
    metaOf({ task: new Map([["a", 2]]) }),
  ];
  const digests = [
    digest(),
    digest({ verify: true }),
    ...[[], [[1, 2]], [[1, 2], [3]], [[0, 1, 2, 3]]].map((replicaGroups) => digest({ replicaGroups })),
    ...plans.map((plan) => digest({ plan })),
    ...metas.map((meta) => digest({ meta })),
  ];
  for (const [i, one] of digests.entries()) {
    for (const other of digests.slice(i + 1)) assertNotEquals(one, other);
  }
});
