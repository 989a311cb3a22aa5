import { assert, assertEquals, assertRejects } from "@std/assert";
import { ClosedError, Communicator, CudaError, DataManager, DeadlineError, NcclError } from "../../mod.ts";
import { Loopback } from "../../src/manager/loopback.ts";
import { Rehearsal, rehearse } from "../../src/manager/rehearsal.ts";
import { Deadline } from "../../src/wait.ts";
import { FaultyRuntime } from "../faults/faulty.ts";
import { resources } from "../faults/resources.ts";

/** One rank that is a world of its own. */
function alone(runtime: FaultyRuntime): Promise<Communicator> {
  return Communicator.init(runtime, { uniqueId: runtime.createUniqueId(), rank: 0, worldSize: 1 });
}

Deno.test("a rehearsal goes through every plan, and asks nothing of the device", () => {
  using runtime = new FaultyRuntime();
  const before = resources();
  for (const call of ["cudaMalloc", "cudaFree", "cudaMemcpyAsync", "cudaStreamCreateWithFlags", "cudaHostRegister"]) {
    runtime.arm(call, { code: 2 });
  }
  const rehearsal = new Rehearsal(runtime);
  for (let round = 0; round < 40; round++) rehearsal.round();
  assert(!rehearsal.isOver);
  assertEquals([runtime.liveBytes, resources()], [0, before]);
});

Deno.test("a loopback goes through every plan with a batch of every kind, and lets everything go", async () => {
  using runtime = new FaultyRuntime();
  assert(runtime.copier.stream.isIdle(), "the stream of uploads, which a runtime keeps, is there");
  const before = resources();
  const deadline = new Deadline();
  {
    await using loopback = await Loopback.open(runtime);
    const installed: number[] = [];
    for (let round = 0; round < 24; round++) installed.push(await loopback.round(deadline));
    // Half of a third of the ids comes from each of the others: 20 of 60 together, with one key or four, and 4 of 12.
    assertEquals(installed, Array.from({ length: 24 }, (_, round) => [20, 80, 4][round % 3]));
    assert(!loopback.isOver);
  }
  assertEquals([runtime.liveBytes, resources()], [0, before]);
});

Deno.test("a loopback that the device or the library refuses leaves nothing behind", async () => {
  using runtime = new FaultyRuntime();
  assert(runtime.copier.stream.isIdle());
  const before = resources();
  const refusals = [
    { call: "ncclCommInitRankConfig", after: 0, error: NcclError },
    // Of the greeting, of the agreements, of the storage.
    ...[0, 1, 2, 4].map((after) => ({ call: "cudaMalloc", after, error: CudaError })),
  ];
  for (const { call, after, error } of refusals) {
    runtime.arm(call, { code: 2, after, times: 100 });
    await assertRejects(() => Loopback.open(runtime), error);
    assert(runtime.hasFired(call));
    runtime.disarm();
    assertEquals([runtime.liveBytes, resources()], [0, before], `${call}, ${after} calls before`);
  }
});

Deno.test("a loopback that fails in the middle of a transfer leaves nothing behind", async () => {
  using runtime = new FaultyRuntime();
  assert(runtime.copier.stream.isIdle());
  const before = resources();
  const outcomes = new Set<string | undefined>();
  for (let after = 0, failed = true; failed; after++) {
    const loopback = await Loopback.open(runtime);
    runtime.arm("ncclCommGetAsyncError", { code: 6, after });
    failed = await loopback.round(new Deadline()).then(() => false, (error) => {
      outcomes.add(error.outcome);
      return true;
    });
    runtime.disarm();
    await loopback[Symbol.asyncDispose]();
    assertEquals([runtime.liveBytes, resources()], [0, before], `${after} calls before`);
  }
  assertEquals(outcomes, new Set(["unchanged", "unknown"]));
});

Deno.test("a manager's rehearsal ends with its signal, and leaves the communicator whole", async () => {
  using runtime = new FaultyRuntime();
  const communicator = await alone(runtime);
  const before = resources();
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("gone home")), 10);
  const { signal } = controller;
  const ended = await assertRejects(() => DataManager.create({ communicator, signal }), DeadlineError);
  assertEquals([ended.phase, ended.outstanding, ended.outcome, ended.cause], [-1, [], "unchanged", signal.reason]);
  assertEquals(ended.message, "no manager was made: the rehearsal was given up: its AbortSignal fired");
  const late = await assertRejects(() => DataManager.create({ communicator, timeoutMs: 0 }), DeadlineError);
  assertEquals(late.message, "no manager was made: DataManager.create did not end within 0 ms");
  assertEquals(resources(), before);
  const manager = await DataManager.create({ communicator, rehearse: false });
  await manager[Symbol.asyncDispose]();
  await assertRejects(
    () => DataManager.create({ communicator, rehearse: false }),
    ClosedError,
    "the communicator of rank 0 has ended",
  );
});

Deno.test("a manager is made in time however long its rehearsal would take", async () => {
  using runtime = new FaultyRuntime();
  const started = performance.now();
  await using _ = await DataManager.create({ communicator: await alone(runtime), timeoutMs: 40 });
  assert(performance.now() - started < 400, `it took ${performance.now() - started} ms`);
});

Deno.test("a process rehearses once, while its event loop turns", async () => {
  using runtime = new FaultyRuntime();
  let turns = 0;
  const turning = setInterval(() => turns++, 1);
  const took = async (work: Promise<unknown>) => {
    const started = performance.now();
    await work;
    return performance.now() - started;
  };
  const first = await took(Promise.all([rehearse(runtime, new Deadline()), rehearse(runtime, new Deadline())]));
  clearInterval(turning);
  assert(turns > 20, `it turned ${turns} times`);
  const second = await took(rehearse(runtime, new Deadline()));
  assert(second < first / 5, `${second} ms, and the first took ${first}`);
});
