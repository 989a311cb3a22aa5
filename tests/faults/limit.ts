/**
 * A limit for what must never hang.
 *
 * @module
 */

/** When a cell counts as hanging: far beyond every deadline in it. */
const CELL_LIMIT_MS = 60_000;

/** Gives a cell up that does not end; `state` is asked then what it hangs in. */
export async function endsInTime<T>(
  cell: Promise<T>,
  state: () => string = () => "",
  limitMs = CELL_LIMIT_MS,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it hangs: no end after ${limitMs} ms\n${state()}`)), limitMs);
  });
  cell.catch(() => {});
  try {
    return await Promise.race([cell, late]);
  } finally {
    clearTimeout(timer);
  }
}
