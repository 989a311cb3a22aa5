import { assert, assertEquals } from "@std/assert";
import type { RedistribStep } from "../../mod.ts";
import { RankProcess, RankProcesses } from "./ranks.ts";

const IDS = Array.from({ length: 12 }, (_, i) => `id-${i}`);
/** About 12 elements an id: 12 ids x 12 x 4096 x 4 bytes are some 2 MB. */
const ELEMENTS = 4096;
const KEYS = ["hidden", "reward"];

/** Rank 0 has all; the bytes go 0 to 1 and on to 2, so that there are two phases. */
const CHAIN: RedistribStep[] = [
  { commType: "bcast", root: 0, srcs: [0], dsts: [1], ids: IDS, keys: KEYS },
  { commType: "bcast", root: 1, srcs: [1], dsts: [2], ids: IDS, keys: KEYS },
];

const store = { op: "store", ids: IDS, elements: ELEMENTS } as const;
const check = { op: "check", ids: IDS, elements: ELEMENTS } as const;
const redistribute = (timeoutMs: number, killAtPhase?: number) =>
  ({
    op: "redistribute",
    ids: IDS,
    elements: ELEMENTS,
    plan: CHAIN,
    timeoutMs,
    ...(killAtPhase === undefined ? {} : { killAtPhase }),
  }) as const;

Deno.test("ranks in processes of their own move every byte", async () => {
  await using world = await RankProcesses.open(3);
  await world.ranks[0]!.must(store);
  for (const answer of await world.tell(redistribute(20_000))) assertEquals(answer?.error, undefined);
  assertEquals((await world.tell(check)).map((answer) => answer?.ok), [12, 12, 12]);
});

Deno.test("a killed process is a PeerLostError that names it within seconds, and restarted and empty it takes part in the rebuild", async () => {
  await using world = await RankProcesses.open(3);
  await world.ranks[0]!.must(store);
  const [first, killed, last] = await world.tell((rank) => redistribute(30_000, rank === 1 ? 0 : undefined));
  assertEquals(killed, null);
  for (const answer of [first!, last!]) {
    assertEquals(answer!.error?.name, "PeerLostError", JSON.stringify(answer));
    assertEquals(answer!.error?.rank, 1);
    assert(answer!.ms < 3000, `it took ${answer!.ms} ms`);
  }
  // Rank 0 was done with its part and had voted; rank 2 too, unless it still waited for what rank 1 was to pass on.
  assertEquals(first!.error?.outcome, "unknown");
  assert(["unchanged", "unknown"].includes(String(last!.error?.outcome)), String(last!.error?.outcome));
  assertEquals((await world.tell(check, [0, 2])).map((answer) => answer?.ok), [12, 0]);

  await world.ranks[1]![Symbol.asyncDispose]();
  world.ranks[1] = new RankProcess();
  const uniqueId = await world.uniqueId();
  const answers = await world.tell((rank) =>
    rank === 1 ? { op: "join", uniqueId, rank, worldSize: 3 } : { op: "rebuild", uniqueId, timeoutMs: 20_000 }
  );
  for (const answer of answers) assertEquals(answer?.error, undefined);
  for (const answer of await world.tell(redistribute(20_000))) assertEquals(answer?.error, undefined);
  assertEquals((await world.tell(check)).map((answer) => answer?.ok), [12, 12, 12]);
});

Deno.test("a stopped process is a DeadlineError that names it, and harms nothing when it wakes after a rebuild", async () => {
  await using world = await RankProcesses.open(3);
  await world.ranks[0]!.must(store);
  world.ranks[2]!.signal("SIGSTOP");
  const answers = await world.tell(redistribute(700), [0, 1]);
  for (const answer of answers) {
    assertEquals(answer!.error?.name, "DeadlineError", JSON.stringify(answer));
    assertEquals(answer!.error?.outstanding, [2]);
    assertEquals(answer!.error?.outcome, "unchanged");
    assert(answer!.ms < 3000, `it took ${answer!.ms} ms`);
  }
  world.ranks[2]!.signal("SIGCONT");
  const uniqueId = await world.uniqueId();
  for (const answer of await world.tell({ op: "rebuild", uniqueId, timeoutMs: 20_000 })) {
    assertEquals(answer?.error, undefined);
  }
  for (const answer of await world.tell(redistribute(20_000))) assertEquals(answer?.error, undefined);
  assertEquals((await world.tell(check)).map((answer) => answer?.ok), [12, 12, 12]);
});

Deno.test("ranks leave no device memory behind", async () => {
  await using world = await RankProcesses.open(3);
  await world.ranks[0]!.must(store);
  await world.tell(redistribute(20_000));
  for (const answer of await world.tell({ op: "end" })) assertEquals(answer?.error, undefined);
});

Deno.test("a stopped process whose place was taken harms nothing when it wakes in the middle of the next transfer", async () => {
  await using world = await RankProcesses.open(3);
  await world.ranks[0]!.must(store);
  // The sender of the second phase stops in the middle of a copy, and so does its own copying out of rank 0's memory.
  const [first, , last] = await Promise.all(world.ranks.map((process, rank) => {
    if (rank !== 1) return process.tell(redistribute(600));
    void process.tell(redistribute(60_000));
    setTimeout(() => process.signal("SIGSTOP"), 5);
    return null;
  }));
  for (const answer of [first!, last!]) {
    // It may have come through before it stopped.
    if (answer!.error !== undefined) assertEquals(answer!.error.name, "DeadlineError", JSON.stringify(answer));
  }
  await using asleep = world.ranks[1]!;
  world.ranks[1] = new RankProcess();
  const uniqueId = await world.uniqueId();
  const joined = await world.tell((rank) =>
    rank === 1 ? { op: "join", uniqueId, rank, worldSize: 3 } : { op: "rebuild", uniqueId, timeoutMs: 20_000 }
  );
  for (const answer of joined) assertEquals(answer?.error, undefined);
  const waking = setInterval(() => asleep.signal("SIGCONT"), 1);
  try {
    for (let round = 0; round < 10; round++) {
      for (const answer of await world.tell(redistribute(20_000))) assertEquals(answer?.error, undefined);
      assertEquals((await world.tell(check)).map((answer) => answer?.ok), [12, 12, 12]);
    }
  } finally {
    clearInterval(waking);
  }
});

Deno.test("a process that is killed while others join is a PeerLostError that names it, and they can join anew", async () => {
  await using world = RankProcesses.start(3);
  const uniqueId = await world.uniqueId();
  // It has started.
  await world.tell({ op: "memory" });
  const joining = [0, 1].map((rank) => world.ranks[rank]!.tell({ op: "join", uniqueId, rank, worldSize: 3 }));
  await new Promise((resolve) => setTimeout(resolve, 100));
  const killed = performance.now();
  world.ranks[1]!.signal("SIGKILL");
  const [left, gone] = await Promise.all(joining);
  assertEquals(gone, null);
  assertEquals([left!.error?.name, left!.error?.rank, left!.error?.outcome], ["PeerLostError", 1, "unchanged"]);
  assert(performance.now() - killed < 2000, `it took ${performance.now() - killed} ms`);
  await world.ranks[1]![Symbol.asyncDispose]();
  world.ranks[1] = new RankProcess();
  await world.join();
});

Deno.test("a process that is killed in a rebuild is a PeerLostError that names it, and the next rebuild settles what was in doubt", async () => {
  await using world = await RankProcesses.open(3);
  await world.ranks[0]!.must(store);
  // Rank 0 votes, and cannot learn the outcome.
  const answers = await world.tell((rank) => redistribute(20_000, rank === 2 ? 1 : undefined));
  assertEquals([answers[0]!.error?.name, answers[0]!.error?.outcome], ["PeerLostError", "unknown"]);
  await world.ranks[2]![Symbol.asyncDispose]();
  world.ranks[2] = new RankProcess();
  let uniqueId = await world.uniqueId();
  const rebuild = () => ({ op: "rebuild", uniqueId, timeoutMs: 20_000 }) as const;
  const rebuilding = [0, 1].map((rank) => world.ranks[rank]!.tell(rebuild()));
  await new Promise((resolve) => setTimeout(resolve, 100));
  world.ranks[1]!.signal("SIGKILL");
  const [left] = await Promise.all(rebuilding);
  assertEquals([left!.error?.name, left!.error?.rank, left!.error?.outcome], ["PeerLostError", 1, "unknown"]);
  await world.ranks[1]![Symbol.asyncDispose]();
  world.ranks[1] = new RankProcess();
  uniqueId = await world.uniqueId();
  const all = await world.tell((rank) => rank === 0 ? rebuild() : { op: "join", uniqueId, rank, worldSize: 3 });
  for (const answer of all) assertEquals(answer?.error, undefined);
  for (const answer of await world.tell(redistribute(20_000))) assertEquals(answer?.error, undefined);
  assertEquals((await world.tell(check)).map((answer) => answer?.ok), [12, 12, 12]);
});
