import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ClosedError,
  Communicator,
  DeadlineError,
  DeviceBuffer,
  Event,
  NcclError,
  openRuntime,
  SeqferryError,
  Stream,
  WaitEndedError,
} from "../../mod.ts";
import { Deadline, pollUntil } from "../../src/wait.ts";
import { Cluster } from "../cluster.ts";

const soon = () => new Deadline({ timeoutMs: 10_000 });

Deno.test("a group sends and receives bytes between ranks that one thread drives", async () => {
  await using cluster = await Cluster.bare(2);
  const communicators = await cluster.join();
  using out = DeviceBuffer.allocate(cluster.runtimes[0]!, 3_000_000);
  using into = DeviceBuffer.allocate(cluster.runtimes[1]!, 3_000_000);
  const bytes = new Uint8Array(3_000_000).map((_, i) => i * 7);
  await out.write(bytes);
  const groups = await Promise.all([
    communicators[0]!.group("send", (calls) => calls.send(out.address, bytes.length, 1), soon()),
    communicators[1]!.group("receive", (calls) => calls.receive(into.address, bytes.length, 0), soon()),
  ]);
  for (const group of groups) await pollUntil("the group", () => group.isDone(), soon());
  assertEquals(await into.read(), bytes);
  await Promise.all(communicators.map((communicator) => communicator[Symbol.asyncDispose]()));
});

Deno.test("Communicator.init() names the peers that did not come when its deadline passes", async () => {
  using runtime = await openRuntime({ backend: "cpu" });
  const uniqueId = runtime.createUniqueId();
  const started = performance.now();
  const error = await assertRejects(
    () => Communicator.init(runtime, { uniqueId, rank: 1, worldSize: 3, timeoutMs: 200 }),
    DeadlineError,
  );
  assertEquals(error.outstanding, [0, 2]);
  assertEquals(error.outcome, "unchanged");
  assert(performance.now() - started < 2000);
});

Deno.test("Communicator.init() that may not begin is told as one that ended", async () => {
  using runtime = await openRuntime({ backend: "cpu" });
  const uniqueId = runtime.createUniqueId();
  const signal = AbortSignal.abort(new Error("gone home"));
  const given = await assertRejects(
    () => Communicator.init(runtime, { uniqueId, rank: 1, worldSize: 2, signal }),
    DeadlineError,
    "rank 1 did not join: ncclCommInitRankConfig on rank 1 was given up: its AbortSignal fired",
  );
  assertEquals([given.phase, given.outstanding, given.outcome, given.cause], [-1, [], "unchanged", signal.reason]);
  await assertRejects(
    () => Communicator.init(runtime, { uniqueId, rank: 1, worldSize: 2, timeoutMs: 0 }),
    DeadlineError,
    "within 0 ms",
  );
});

Deno.test("streams and events are made with what openRuntime() answers, and with nothing else", async () => {
  using runtime = await openRuntime({ backend: "cpu" });
  using stream = new Stream(runtime);
  using event = new Event(runtime);
  event.record(stream);
  await stream.idle(soon());
  assert(event.isDone());
  const ended = await assertRejects(
    () => DeviceBuffer.allocate(runtime, 1).read(0, 1, { timeoutMs: 0 }),
    WaitEndedError,
  );
  assertEquals(ended.why, "deadline");
  // @ts-expect-error: no runtime.
  assertThrows(() => new Stream({}), SeqferryError, "openRuntime");
});

Deno.test("Communicator.init() refuses ranks, world sizes and unique ids that cannot be", async () => {
  using runtime = await openRuntime({ backend: "cpu" });
  const uniqueId = runtime.createUniqueId();
  for (
    const [options, word] of [
      [{ uniqueId, rank: 2, worldSize: 2 }, "rank"],
      [{ uniqueId, rank: 0, worldSize: 0 }, "worldSize"],
      [{ uniqueId, rank: 0.5, worldSize: 2 }, "rank"],
      [{ uniqueId: new Uint8Array(7), rank: 0, worldSize: 2 }, "uniqueId"],
    ] as const
  ) {
    await assertRejects(() => Communicator.init(runtime, options), Error, word);
  }
});

Deno.test("a communicator reports counts that do not match, naming both", async () => {
  await using cluster = await Cluster.bare(2);
  const communicators = await cluster.join();
  using out = DeviceBuffer.allocate(cluster.runtimes[0]!, 1024);
  using into = DeviceBuffer.allocate(cluster.runtimes[1]!, 1024);
  const run = async (rank: number) => {
    const group = await communicators[rank]!.group(
      "a mismatch",
      (calls) => rank === 0 ? calls.send(out.address, 100, 1) : calls.receive(into.address, 200, 0),
      soon(),
    );
    await pollUntil("the group", () => group.isDone(), soon());
  };
  const ends = await Promise.allSettled([run(0), run(1)]);
  for (const end of ends) {
    assert(end.status === "rejected" && end.reason instanceof NcclError, `${(end as PromiseRejectedResult).reason}`);
    assert(/100/.test(end.reason.message) && /200/.test(end.reason.message), end.reason.message);
  }
  for (const communicator of communicators) communicator.abort();
  await Promise.all(communicators.map((communicator) => communicator[Symbol.asyncDispose]()));
});

Deno.test("split() gives each color a communicator, members in the order of their ranks", async () => {
  await using cluster = await Cluster.bare(5);
  const communicators = await cluster.join();
  const children = await Promise.all(
    communicators.map((communicator, rank) => communicator.split(rank === 4 ? -1 : rank % 2, soon())),
  );
  assertEquals(children.map((child) => child === null ? null : [child.rank, child.worldSize]), [
    [0, 2],
    [0, 2],
    [1, 2],
    [1, 2],
    null,
  ]);
  await Promise.all(communicators.map((communicator) => communicator[Symbol.asyncDispose]()));
});

Deno.test("abort() comes through without the peer, and nothing can be issued afterwards", async () => {
  await using cluster = await Cluster.bare(2);
  const communicators = await cluster.join();
  using into = DeviceBuffer.allocate(cluster.runtimes[1]!, 1024);
  await communicators[1]!.group("receive", (calls) => calls.receive(into.address, 1024, 0), soon());
  assertEquals(communicators[1]!.awaitedPeers(), [0]);
  communicators[1]!.abort();
  await communicators[1]!.ended();
  await assertRejects(() => communicators[1]!.group("receive", () => {}, soon()), ClosedError);
  communicators[1]!.abort();
  await communicators[1]![Symbol.asyncDispose]();
  await communicators[0]![Symbol.asyncDispose]();
});
