/**
 * Feeds everything that parses with bad inputs: each ends in a typed error or a success, soon, and without memory growing.
 *
 * ```sh
 * deno task fuzz --count 100000 [--seed S] [--parser NAME]
 * ```
 *
 * Prints one line for each parser, and the first inputs that ended otherwise. Exit code 0 when there are none, else 1; 2 for wrong flags.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { random } from "../tests/faults/draw.ts";
import { feed, PARSERS } from "../tests/properties/parsers.ts";
import { refuse, refuseFlag, wholeFlag } from "./refuse.ts";

/** How much the memory of a process may grow while it reads: the collector's own ups and downs. */
const MOST_GROWTH = 256 * 2 ** 20;

const flags = parseArgs(Deno.args, { string: ["count", "seed", "parser"], unknown: refuseFlag });
const count = wholeFlag(flags, "count", 10_000);
const seed = wholeFlag(flags, "seed", 1);
const parsers = PARSERS.filter(({ name }) => flags.parser === undefined || name === flags.parser);
if (parsers.length === 0) {
  refuse(`there is no parser ${flags.parser}; there are ${PARSERS.map(({ name }) => name).join(", ")}`);
}
let failed = false;
for (const parser of parsers) {
  const started = performance.now();
  const { accepted, longestMs, growth, failures } = feed(parser, count, random(seed));
  const seconds = (performance.now() - started) / 1000;
  print(
    `${parser.name}: ${count} inputs, seed ${seed}, ${accepted} accepted, ${failures.length} failures, longest ${
      longestMs.toFixed(1)
    } ms, memory ${growth < 0 ? "" : "+"}${(growth / 2 ** 20).toFixed(1)} MiB, ${seconds.toFixed(1)} s`,
  );
  for (const { input, error } of failures) {
    print(`FAILED ${parser.name}: ${error instanceof Error ? error.stack : error}\n  on ${shown(input)}`);
  }
  failed ||= failures.length > 0 || growth > MOST_GROWTH;
}
Deno.exit(failed ? 1 : 0);

function shown(input: unknown): string {
  try {
    return (input instanceof Uint8Array ? input.toHex() : JSON.stringify(input)).slice(0, 2000);
  } catch {
    return "something nested too deep to be shown";
  }
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
