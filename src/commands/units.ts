/**
 * Numbers with their units, as a person reads them.
 *
 * @module
 */

/** Bytes, in powers of 1000: `512 B`, `1.25 MB`. */
export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = bytes;
  let unit = 0;
  while (unit < units.length - 1 && Math.round(value) >= 1000) {
    value /= 1000;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${threeDigits(value)} ${units[unit]}`;
}

/** A duration: `850 us`, `12.3 ms`, `4.56 s`. */
export function secondsText(seconds: number): string {
  if (seconds < 999.5e-6) return `${threeDigits(seconds * 1e6)} us`;
  if (seconds < 999.5e-3) return `${threeDigits(seconds * 1e3)} ms`;
  return `${threeDigits(seconds)} s`;
}

/** A rate in GB/s (10^9 bytes), three digits. */
export function rateText(gbPerSecond: number): string {
  return threeDigits(gbPerSecond);
}

/** `1 step`, `2 steps`. */
export function counted(count: number, singular: string, plural = `${singular}s`): string {
  return `${count.toLocaleString("en-US")} ${count === 1 ? singular : plural}`;
}

function threeDigits(value: number): string {
  if (value >= 99.95) return value.toFixed(0);
  if (value >= 9.995) return value.toFixed(1);
  return value.toFixed(value >= 0.01 || value === 0 ? 2 : 4);
}
