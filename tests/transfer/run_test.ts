import { assertEquals, assertRejects } from "@std/assert";
import type { CopyBatch } from "../../src/device/copy_batch.ts";
import type { Phase, Program } from "../../src/transfer/program.ts";
import { type RunContext, runProgram } from "../../src/transfer/run.ts";
import { Deadline, WaitEndedError } from "../../src/wait.ts";

/** A program that sends one message in each phase, of so many items that have to be packed, on a stream that notes what it is given. */
function scene(packed: readonly number[], { timeoutMs = 60_000 } = {}) {
  const log: string[] = [];
  let arrived = false;
  const phases = packed.map((count): Phase => ({
    sends: [{ peer: 1, items: Uint32Array.from({ length: count }, (_, i) => i), bytes: count }],
    receives: [],
    broadcasts: [],
    steps: [],
  }));
  const slab = { address: 4096n, addressWords: [4096, 0] };
  const context = {
    communicator: {
      rank: 0,
      worldSize: 2,
      stream: {
        commandsFor: (copies: number) => copies,
        copyBatch: (_: CopyBatch, begin: number, end: number) => log.push(`copies ${begin} to ${end}`),
      },
      group: (what: string) => {
        log.push(what);
        return Promise.resolve({ isDone: () => arrived });
      },
    },
    replicaGroups: [],
    catalogue: { bytes: new Float64Array(10_000).fill(1) },
    // No item follows another.
    places: {
      addressOf: () => 0n,
      slabOf: () => slab,
      offsetOf: (item: number) => 16 * item,
      slabNumberOf: () => 0,
    },
    outgoing: packed.map((count) => ({
      sends: [[{ start: 0, end: count, bytes: count, runs: count }]],
      broadcasts: [],
    })),
    cuts: [[], []],
    staging: slab,
    deadline: new Deadline({ timeoutMs }),
    onPhase: (number: number, event: string) => event === "finished" && log.push(`finished ${number}`),
  } as unknown as RunContext;
  const run = runProgram({ rank: 0, phases } as unknown as Program, context);
  return { log, run, arrive: () => arrived = true };
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

Deno.test("runProgram() enqueues so many phases ahead of an absent peer as a stream takes, and ends by its deadline", async () => {
  const { log, run } = scene(new Array(500).fill(1), { timeoutMs: 100 });
  await assertRejects(() => run, WaitEndedError);
  assertEquals(log.length, 65);
});

Deno.test("runProgram() enqueues all phases once the peers come", async () => {
  const { log, run, arrive } = scene(new Array(500).fill(1));
  await soon();
  arrive();
  await run;
  assertEquals(
    log.filter((line) => line.startsWith("finished")),
    Array.from({ length: 500 }, (_, i) => `finished ${i}`),
  );
});

Deno.test("runProgram() keeps many copies back until the phases before them have ended, and few not", async () => {
  const { log, run, arrive } = scene([1, 200, 5000]);
  await soon();
  assertEquals(log, ["phase 0", "copies 0 to 200", "phase 1"]);
  arrive();
  await run;
  assertEquals(log.slice(3, 5), ["finished 0", "finished 1"]);
  assertEquals(log.slice(5, 7), ["copies 0 to 340", "copies 340 to 680"]);
  assertEquals(log.slice(-3), ["copies 4760 to 5000", "phase 2", "finished 2"]);
});
