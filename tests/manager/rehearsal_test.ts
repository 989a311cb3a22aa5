import { assert, assertEquals, assertRejects } from "@std/assert";
import { Communicator, DataManager, DeadlineError } from "../../mod.ts";
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
  await using _ = await DataManager.create({ communicator, rehearse: false });
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
  await Promise.all([rehearse(runtime, new Deadline()), rehearse(runtime, new Deadline())]);
  clearInterval(turning);
  assert(turns > 20, `it turned ${turns} times`);
  const started = performance.now();
  await rehearse(runtime, new Deadline({ timeoutMs: 0 }));
  assert(performance.now() - started < 5);
});
