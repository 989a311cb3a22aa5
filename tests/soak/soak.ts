/**
 * The soak: round after round of transfers with faults among them, and at the end all is where it began.
 *
 * @module
 */

import { differences, type Figures, larger, readFigures, settledFigures, startCollector } from "./figures.ts";
import { ProcessRounds } from "./processes.ts";
import { LAP_ROUNDS, runLap, type Tally } from "./rounds.ts";

/** How to soak. */
export interface SoakOptions {
  /** How many rounds. */
  readonly rounds: number;
  /** The same seed makes the same rounds. */
  readonly seed: number;
  /** The first lap, to do again what failed; 0 unless given. */
  readonly fromLap?: number;
  /** After how many laps a round on processes follows; 5 unless given, 0 for none. */
  readonly lapsPerProcessRound?: number;
  /** How many laps come before the beginning, so that what is made once is there; 10 unless given. */
  readonly warmUpLaps?: number;
  /** Told after each lap how many rounds are done. */
  readonly onLap?: (done: number) => void;
}

/** What came of it. */
export interface Soaked {
  /** By kind of round. */
  readonly kinds: ReadonlyMap<string, Readonly<Tally>>;
  /** What this process held before, at most, and afterwards. */
  readonly figures: { readonly begin: Figures; readonly peak: Figures; readonly end: Figures };
  /** What did not hold, in words: each with the seed and the lap or round that brings it back. */
  readonly failures: readonly string[];
}

/** The most failures that are kept. */
const MOST_FAILURES = 10;
/** The peak is looked for once in so many rounds. */
const ROUNDS_PER_LOOK = 4;
/** A lap is given up as hanging after so many milliseconds. */
const LAP_LIMIT_MS = 120_000;

/** Soaks. */
export async function soak(options: SoakOptions): Promise<Soaked> {
  const { rounds, seed, fromLap = 0, lapsPerProcessRound = 5, warmUpLaps = 10, onLap } = options;
  const kinds = new Map<string, Tally>();
  const failures: string[] = [];
  const count = (kind: string, { failed = 0, settled = 0 }: Partial<Tally>) => {
    const tally = kinds.get(kind) ?? { rounds: 0, failed: 0, settled: 0 };
    kinds.set(kind, { rounds: tally.rounds + 1, failed: tally.failed + failed, settled: tally.settled + settled });
  };
  const guarded = async (run: () => Promise<void>) => {
    try {
      await inTime(run());
    } catch (error) {
      if (failures.length < MOST_FAILURES) failures.push(error instanceof Error ? error.message : String(error));
    }
  };
  await using processes = new ProcessRounds(seed);
  // Laps of the warm-up are none of those that count.
  for (let lap = 1; lap <= warmUpLaps; lap++) await guarded(() => runLap(seed, -lap, LAP_ROUNDS, () => {}));
  if (lapsPerProcessRound > 0) await guarded(async () => void await processes.run(0));
  await startCollector();
  const begin = readFigures();
  let peak = begin;
  let done = 0;
  for (let lap = fromLap; done < rounds; lap++) {
    const before = done;
    const length = Math.min(LAP_ROUNDS, rounds - done);
    await guarded(() =>
      runLap(seed, lap, length, (kind, tally) => {
        done++;
        count(kind, tally);
        if (done % ROUNDS_PER_LOOK === 0) peak = larger(peak, readFigures({ collect: false }));
      })
    );
    // What failed ended its lap.
    done = before + length;
    if (lapsPerProcessRound > 0 && lap % lapsPerProcessRound === 0 && done < rounds) {
      done++;
      await guarded(async () => {
        const { kind, ...tally } = await processes.run(1 + lap);
        count(kind, tally);
      });
    }
    onLap?.(done);
  }
  const end = await settledFigures(begin);
  failures.push(...differences(begin, end));
  await guarded(() => processes.end());
  return { kinds, figures: { begin, peak, end }, failures };
}

async function inTime(running: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it hangs: no end after ${LAP_LIMIT_MS} ms`)), LAP_LIMIT_MS);
  });
  try {
    await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}
