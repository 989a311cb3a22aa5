/**
 * Rounds of random transfers with faults among them; at the end device and host memory, file handles, shared memory and threads are where they began.
 *
 * ```sh
 * deno task soak --rounds 10000 [--seed S] [--from-lap N]
 * ```
 *
 * Most rounds are in one process, with ranks that one thread drives; every fifth lap of them is followed by one on processes of their own, which are
 * killed and stopped. Prints what it did, by kind, and what the process held at the beginning, at most, and at the end. A failure tells the seed
 * and the lap that bring it back. Exit code 0 when nothing failed, else 1; 2 for wrong flags.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import type { FigureName } from "../tests/soak/figures.ts";
import { soak } from "../tests/soak/soak.ts";
import { refuseFlag, wholeFlag } from "./refuse.ts";

const flags = parseArgs(Deno.args, { string: ["rounds", "seed", "from-lap"], unknown: refuseFlag });
const rounds = wholeFlag(flags, "rounds", 1000);
const seed = wholeFlag(flags, "seed", 1);
const started = performance.now();
const seconds = () => ((performance.now() - started) / 1000).toFixed(0);
let announced = 0;
print(`${rounds} rounds, seed ${seed}`);
const { kinds, figures: { begin, peak, end }, failures } = await soak({
  rounds,
  seed,
  fromLap: wholeFlag(flags, "from-lap", 0),
  onLap(done) {
    if (done - announced < 1000) return;
    announced = done;
    print(`${done} rounds after ${seconds()} s`);
  },
});
print(`${"rounds".padStart(8)}${"failed".padStart(8)}${"settled".padStart(8)}  kind`);
for (const [kind, tally] of [...kinds].sort(([a], [b]) => a < b ? -1 : 1)) {
  print(
    [tally.rounds, tally.failed, tally.settled].map((count) => String(count).padStart(8)).join("") + `  ${kind}`,
  );
}
print(`${"begin".padStart(14)}${"peak".padStart(14)}${"end".padStart(14)}  held`);
for (const name of Object.keys(begin) as FigureName[]) {
  print([begin, peak, end].map((figures) => String(figures[name]).padStart(14)).join("") + `  ${name}`);
}
for (const failure of failures) print(`FAILED ${failure}`);
print(`${rounds} rounds, seed ${seed}, ${failures.length} failures, ${seconds()} s`);
Deno.exit(failures.length === 0 ? 0 : 1);

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
