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

Deno.test("a manager's rehearsal ends with its deadline or its signal, and leaves the communicator whole", async () => {
  using runtime = new FaultyRuntime();
  const communicator = await alone(runtime);
  const before = resources();
  const late = await assertRejects(() => DataManager.create({ communicator, timeoutMs: 5 }), DeadlineError);
  assertEquals([late.phase, late.outstanding, late.outcome], [-1, [], "unchanged"]);
  assert(late.message.startsWith("no manager was made: the rehearsal did not end within 5 ms"), late.message);
  const reason = new Error("gone home");
  const ended = await assertRejects(
    () => DataManager.create({ communicator, signal: AbortSignal.abort(reason) }),
    DeadlineError,
  );
  assertEquals(ended.cause, reason);
  assertEquals(resources(), before);
  await using _ = await DataManager.create({ communicator, rehearse: false });
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
