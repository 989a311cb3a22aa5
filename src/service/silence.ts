/**
 * Noticing that the other side of a connection has gone without a word, as a machine does that loses its power.
 *
 * @module
 */

/** The time that may pass in silence is counted in so many pieces. */
const PIECES = 10;

/**
 * Tells when nothing was heard for a while. Time in which this process was too busy to listen does not count: however long the event loop stood still, it is
 * one piece of the time allowed, and what came meanwhile is heard before the next one.
 */
export class SilenceWatch implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;
  #silentPieces = 0;

  /**
   * Begins to count.
   *
   * @param ms How long nothing may be heard, in milliseconds.
   * @param onSilence Called once, when that has passed.
   */
  constructor(ms: number, onSilence: () => void) {
    this.#timer = setInterval(() => {
      if (++this.#silentPieces < PIECES) return;
      this[Symbol.dispose]();
      onSilence();
    }, ms / PIECES);
  }

  /** Something was heard. */
  heard(): void {
    this.#silentPieces = 0;
  }

  /** Counts no more. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
