import { assertEquals, assertThrows } from "@std/assert";
import { SeqferryError } from "../../mod.ts";
import { decodeReasons, decodeVerdict, encodeReasons, encodeVerdict, type Verdict } from "../../src/manager/words.ts";

const verdicts: Verdict[] = [
  { digest: [0x01234567, 0x6bcdef01, 0, -1], sequence: 0, refusals: [], cuts: [] },
  { digest: [], sequence: 2 ** 40 + 3, refusals: [{ reason: "geht nicht: 零", id: "a", key: "k" }], cuts: [] },
  {
    digest: [-(2 ** 31), 0, 2 ** 31 - 1, 1],
    sequence: 2 ** 32 - 1,
    refusals: [{ reason: "one" }, { reason: "two", id: "" }],
    cuts: [[0, -1, 3, 17], [2, 4095, 0, 1, 2, 2 ** 31 - 1]],
  },
];

Deno.test("a verdict is the same after the way there", () => {
  for (const verdict of verdicts) assertEquals(decodeVerdict(encodeVerdict(verdict)), verdict);
});

Deno.test("a verdict without refusals is short: room for cuts in the first round", () => {
  assertEquals(encodeVerdict(verdicts[0]!).length, 32);
});

Deno.test("a verdict that ends early is refused, wherever it ends", () => {
  const whole = encodeVerdict({ ...verdicts[2]!, refusals: [] });
  for (let length = 0; length < whole.length; length += 4) {
    assertThrows(() => decodeVerdict(whole.slice(0, length)), SeqferryError, "ends early");
  }
});

Deno.test("no reasons are no bytes", () => {
  assertEquals(encodeReasons([]).length, 0);
  assertEquals(decodeReasons(encodeReasons([])), []);
  const reasons = [{ reason: "because", key: "k" }];
  assertEquals(decodeReasons(encodeReasons(reasons)), reasons);
});
