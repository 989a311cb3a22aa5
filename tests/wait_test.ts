import { assertEquals, assertRejects } from "@std/assert";
import { Deadline, inTime, settled, WaitEndedError, within } from "../src/wait.ts";

const never = new Promise<never>(() => {});
const late = () => new Error("too late");

Deno.test("within() gives what a promise resolves to, and undefined when it takes longer", async () => {
  assertEquals(await within(1000, Promise.resolve(1)), 1);
  assertEquals(await within(10, never), undefined);
});

Deno.test("inTime() gives what a promise resolves to, and throws what it rejects with", async () => {
  for (const ms of [1000, 2 ** 40, Infinity]) assertEquals(await inTime(Promise.resolve(1), ms, late), 1);
  await assertRejects(() => inTime(Promise.reject(new Error("its own")), 1000, late), Error, "its own");
});

Deno.test("inTime() throws the late error after its time, and the signal's reason when that fires", async () => {
  await assertRejects(() => inTime(never, 10, late), Error, "too late");
  const controller = new AbortController();
  const waiting = inTime(never, Infinity, late, controller.signal);
  controller.abort(new Error("enough"));
  await assertRejects(() => waiting, Error, "enough");
  await assertRejects(() => inTime(never, Infinity, late, controller.signal), Error, "enough");
});

Deno.test("settled() tells by a WaitEndedError why a wait ended, and passes on what the promise rejects with", async () => {
  assertEquals(await settled("it", Promise.resolve(1), new Deadline()), 1);
  const own = new Error("its own");
  await assertRejects(() => settled("it", Promise.reject(own), new Deadline()), Error, "its own");
  const late = await assertRejects(
    () => settled("it", never, new Deadline({ timeoutMs: 10 })),
    WaitEndedError,
    "10 ms",
  );
  assertEquals(late.why, "deadline");
  const signal = AbortSignal.abort(own);
  const ended = await assertRejects(() => settled("it", never, new Deadline({ signal })), WaitEndedError);
  assertEquals([ended.why, ended.cause], ["signal", own]);
});
