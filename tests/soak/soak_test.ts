import { assert, assertEquals } from "@std/assert";
import { differences, readFigures } from "./figures.ts";
import { soak } from "./soak.ts";

/** Drawn anew in every run; a run that failed comes back with the seed that it tells. */
const SEED = Number(Deno.env.get("SEQFERRY_TEST_SEED") ?? Math.floor(Math.random() * 1e9));

Deno.test("after rounds with faults of all kinds, in one process and in several, all is where it began", async () => {
  const { kinds, failures } = await soak({ rounds: 80, seed: SEED, warmUpLaps: 1, lapsPerProcessRound: 2 });
  assertEquals(failures, [], `SEQFERRY_TEST_SEED=${SEED}`);
  assertEquals([...kinds.values()].reduce((sum, { rounds }) => sum + rounds, 0), 80);
  assert([...kinds.values()].some(({ failed }) => failed > 0), "no fault was met");
});

Deno.test("differences() tells what a process holds more, or less, than it did", async () => {
  const begin = readFigures();
  {
    using _file = await Deno.open("/dev/null");
    const more = readFigures();
    assertEquals(differences(begin, more), [
      `fileHandles: ${begin.fileHandles} at the beginning, ${begin.fileHandles + 1} at the end`,
    ]);
  }
  assertEquals(differences(begin, readFigures()), []);
  assertEquals(
    differences(begin, { ...begin, threads: begin.threads + 1, hostBytes: begin.hostBytes + 2 ** 30 }).length,
    2,
  );
});
