import { assert, assertEquals } from "@std/assert";
import { random } from "../faults/draw.ts";
import { feed, PARSERS } from "./parsers.ts";

/** Drawn anew in every run; a run that failed comes back with the seed that it tells. */
const SEED = Number(Deno.env.get("SEQFERRY_TEST_SEED") ?? Math.floor(Math.random() * 1e9));

for (const parser of PARSERS) {
  Deno.test(`bad input ends in a typed error, or is read: ${parser.name}`, () => {
    const { accepted, failures } = feed(parser, 1000, random(SEED));
    assertEquals(failures.map(({ error }) => `SEQFERRY_TEST_SEED=${SEED}: ${error}`), []);
    assert(accepted < 1000, "no input was bad");
  });
}
