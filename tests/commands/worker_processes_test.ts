import { assertEquals } from "@std/assert";
import { WorkerProcesses } from "../../src/commands/worker_processes.ts";
import { newToken } from "../../src/service/auth.ts";
import { native } from "../native.ts";

Deno.test("what WorkerProcesses' onLine throws comes out of death", async () => {
  const trouble = new Error("the disk is full");
  // Nobody serves there, and the worker says so.
  await using workers = new WorkerProcesses({
    count: 1,
    coordinator: "http://127.0.0.1:9",
    token: newToken(),
    libraries: native,
    onLine() {
      throw trouble;
    },
  });
  await new Promise((resolve) => workers.death.addEventListener("abort", resolve, { once: true }));
  assertEquals(workers.death.reason, trouble);
});
