import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { CopyBatch } from "../../src/device/copy_batch.ts";

Deno.test("CopyBatch.add() writes 64-bit addresses and sizes exactly, carries included", () => {
  const address = fc.bigInt({ min: 0n, max: (1n << 57n) - 1n });
  const offset = fc.integer({ min: 0, max: 2 ** 45 });
  const copy = fc.record({ to: address, toOffset: offset, from: address, fromOffset: offset, bytes: offset });
  const words = (value: bigint) => [Number(value & 0xffffffffn), Number(value >> 32n)] as const;
  fc.assert(fc.property(fc.array(copy, { maxLength: 5 }), (copies) => {
    const batch = new CopyBatch(copies.length);
    for (const { to, toOffset, from, fromOffset, bytes } of copies) {
      batch.add(words(to), toOffset, words(from), fromOffset, bytes);
    }
    assertEquals([...batch.to], copies.map(({ to, toOffset }) => to + BigInt(toOffset)));
    assertEquals([...batch.from], copies.map(({ from, fromOffset }) => from + BigInt(fromOffset)));
    assertEquals([...batch.bytes], copies.map(({ bytes }) => BigInt(bytes)));
  }));
});
