/**
 * The floor: what one core's memcpy takes for the bytes that must be delivered.
 *
 * @module
 */

/** Bytes of the copied block: many times any cache. */
const BLOCK_BYTES = 256 << 20;
const REPEATS = 7;

/** The speed at which libc's memcpy copies a large, cold block on one core, in bytes a second: the median of several copies. */
export function memcpyBytesPerSecond(): number {
  const libc = Deno.dlopen("libc.so.6", {
    memcpy: { parameters: ["buffer", "buffer", "usize"], result: "pointer" },
  });
  const from = new Uint8Array(BLOCK_BYTES).fill(1);
  const to = new Uint8Array(BLOCK_BYTES).fill(2);
  const seconds = Array.from({ length: REPEATS }, () => {
    const started = performance.now();
    libc.symbols.memcpy(to, from, BigInt(BLOCK_BYTES));
    return (performance.now() - started) / 1000;
  });
  libc.close();
  return BLOCK_BYTES / median(seconds);
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
