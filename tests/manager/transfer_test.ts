import { assertEquals } from "@std/assert";
import type { Fingerprint } from "../../src/manager/fingerprint.ts";
import { differences } from "../../src/manager/transfer.ts";

const A: Fingerprint = [1, -2, 3, 4];
const B: Fingerprint = [1, -2, 3, 5];
const C: Fingerprint = [-1, -2, 3, 4];
const NONE: Fingerprint = [];

Deno.test("differences() names the ranks whose terms are not those of most, and of equal parties those of the lowest rank", () => {
  const cases: [digests: Fingerprint[], named: number[], standard: number][] = [
    [[A], [], -1],
    [[A, A, [...A]], [], -1],
    [[A, B], [1], 0],
    [[B, A, A], [0], 1],
    [[A, B, B, A], [1, 2], 0],
    [[A, B, C, C], [0, 1], 2],
    // A rank without a digest is of no party: it tells why it has none.
    [[NONE, NONE, NONE], [], -1],
    [[NONE, A, A], [], -1],
    [[NONE, NONE, A], [], -1],
    [[NONE, B, A], [2], 1],
    [[NONE, NONE, B, A, A], [2], 3],
  ];
  for (const [digests, named, standard] of cases) {
    const found = differences(digests);
    assertEquals(found.map(({ rank }) => rank), named);
    for (const { reason } of found) {
      assertEquals(reason.endsWith(`differ from those of rank ${standard}`), true, reason);
    }
  }
});
