import { assertEquals } from "@std/assert";
import { boundsCase, faultsOf } from "./bounds.ts";

Deno.test("derivePlan() in the pattern direct keeps links near their bounds, and at most as busy as the reference's patterns make them", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const one = boundsCase(seed, 128);
    assertEquals(faultsOf(one, 1.15), [], one.name);
  }
});
