import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fingerprint, hexOf } from "../../src/manager/fingerprint.ts";

const text = (value: string) => new TextEncoder().encode(value);

Deno.test("fingerprint() is MurmurHash3's 128-bit variant for 32-bit arithmetic", () => {
  // What another implementation answers.
  const known: [Uint8Array<ArrayBuffer>, string][] = [
    [text(""), "00000000000000000000000000000000"],
    [text("a"), "a794933c5556b01b5556b01b5556b01b"],
    [text("seqferry"), "c39e169346f4bef995c0e6fb95c0e6fb"],
    [text("0123456789abcdef"), "fb7d440936aed30a48ad1d9b572b3bfd"],
    [text("0123456789abcdefg"), "7f1f9836516b3876ac29c030f9d6f374"],
    [text("The quick brown fox jumps over the lazy dog"), "2f1583c3ecee2c675d7bf66ce5e91d2c"],
    [Uint8Array.from({ length: 768 }, (_, i) => i % 256), "1bbfc3d721ad4a29d0db45e69140b5fb"],
    [Uint8Array.from({ length: 1003 }, (_, i) => (i * i) % 256), "0cbf6b3ca01b978b356836436cebb908"],
  ];
  for (const [bytes, expected] of known) assertEquals(hexOf(fingerprint(bytes)), expected);
});

Deno.test("fingerprint() is that of the bytes, wherever in memory they lie", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(7), (bytes, offset) => {
    const shifted = new Uint8Array(bytes.length + offset);
    shifted.set(bytes, offset);
    assertEquals(fingerprint(shifted.subarray(offset)), fingerprint(Uint8Array.from(bytes)));
  }));
});

Deno.test("fingerprint() changes with every bit, and with the length", () => {
  const bytes = Uint8Array.from({ length: 70 }, (_, i) => i * 37);
  const seen = new Set([hexOf(fingerprint(bytes))]);
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    seen.add(hexOf(fingerprint(bytes)));
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  for (let length = 0; length < 64; length++) seen.add(hexOf(fingerprint(new Uint8Array(length))));
  assert(seen.size === 1 + 8 * bytes.length + 64);
});
