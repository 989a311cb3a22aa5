import { assert, assertEquals } from "@std/assert";
import { SilenceWatch } from "../../src/service/silence.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("SilenceWatch tells once when nothing was heard for its time", async () => {
  let told = 0;
  const began = performance.now();
  const { promise, resolve } = Promise.withResolvers<void>();
  using _watch = new SilenceWatch(100, () => {
    told++;
    resolve();
  });
  await promise;
  assert(performance.now() - began > 90);
  await sleep(150);
  assertEquals(told, 1);
});

Deno.test("SilenceWatch tells nothing as long as something is heard, or once it is disposed", async () => {
  let told = 0;
  {
    using watch = new SilenceWatch(400, () => told++);
    for (let time = 0; time < 10; time++) {
      await sleep(60);
      watch.heard();
    }
  }
  await sleep(500);
  assertEquals(told, 0);
});

Deno.test("SilenceWatch does not count the time in which the event loop stood still", async () => {
  let told = 0;
  using _watch = new SilenceWatch(1000, () => told++);
  const end = performance.now() + 1500;
  while (performance.now() < end);
  await sleep(200);
  assertEquals(told, 0);
});
