import { assertEquals, assertThrows } from "@std/assert";
import { writeText } from "../../src/commands/print.ts";

Deno.test("writeText() writes all of a text to a stream that takes it bit by bit", () => {
  const written: number[] = [];
  const twoAtOnce = {
    writeSync(bytes: Uint8Array): number {
      const taken = bytes.subarray(0, 2);
      written.push(...taken);
      return taken.length;
    },
  };
  writeText(twoAtOnce, "hé llo");
  assertEquals(new TextDecoder().decode(Uint8Array.from(written)), "hé llo");
});

Deno.test("writeText() passes over a stream that nobody reads any more, and over nothing else", () => {
  const failing = (error: Error) => ({
    writeSync: (): number => {
      throw error;
    },
  });
  writeText(failing(new Deno.errors.BrokenPipe("nobody reads")), "text");
  assertThrows(() => writeText(failing(new Error("the disk is full")), "text"), Error, "the disk is full");
});

Deno.test("writeText() waits for a pipe that is full and does not block", () => {
  const written: number[] = [];
  let calls = 0;
  writeText({
    writeSync(bytes: Uint8Array): number {
      if (++calls % 2 === 1) throw new Deno.errors.WouldBlock("try again");
      written.push(bytes[0]!);
      return 1;
    },
  }, "abc");
  assertEquals([written, calls], [[97, 98, 99], 6]);
});
